"""The derivatives that are chosen where there is none, or where a formula would not give it: the table of kinks."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, nan
from typing import Any


@dataclass(frozen=True)
class Kink:
    """An expression of x, and of c if a second point is given; its derivatives there, and the second one with respect
    to x: a number, or a matrix as nested tuples."""

    text: str
    at: tuple[Any, ...]
    slopes: tuple[Any, ...]
    second: Any

    @property
    def id(self) -> str:
        """What it is and where."""
        return f"{self.text} at {', '.join(map(str, self.at))}"


ZERO = ((0.0, 0.0), (0.0, 0.0))

KINKS = [
    Kink("relu(x)", (0.0,), (0.0,), 0.0),
    Kink("relu(x)", (-0.0,), (0.0,), 0.0),
    Kink("abs(x)", (0.0,), (0.0,), 0.0),
    Kink("abs(x)", (-0.0,), (0.0,), 0.0),
    Kink("sign(x)", (0.0,), (0.0,), 0.0),
    Kink("floor(x)", (2.0,), (0.0,), 0.0),
    Kink("round(x)", (0.5,), (0.0,), 0.0),
    Kink("x % c", (4.0, 2.0), (1.0, -2.0), 0.0),
    Kink("max(x, c)", (1.0, 1.0), (0.5, 0.5), 0.0),
    Kink("min(x, c)", (1.0, 1.0), (0.5, 0.5), 0.0),
    Kink("max(x, c, 1)", (1.0, 1.0), (1 / 3, 1 / 3), 0.0),
    Kink("min(x, c, x ** 3)", (1.0, 1.0), (4 / 3, 1 / 3), 2.0),
    Kink("max(c, 0, x)", (2.0, 2.0), (0.5, 0.5), 0.0),
    Kink("max(x, c, 1)", (1.0, 0.0), (0.5, 0.0), 0.0),
    Kink("max(x, 0)", (0.0,), (0.5,), 0.0),
    Kink("clip(x, 0, 1)", (0.0,), (0.5,), 0.0),
    Kink("clip(x, 0, 1)", (1.0,), (0.5,), 0.0),
    Kink("max(x)", ((3.0, 3.0),), ((1.0, 0.0),), ZERO),
    Kink("min(x)", ((1.0, 1.0),), ((1.0, 0.0),), ZERO),
    Kink("max(x[i] for i)", ((3.0, 3.0),), ((1.0, 0.0),), ZERO),
    Kink("max(x ** 2)", ((3.0, -3.0),), ((6.0, 0.0),), ((2.0, 0.0), (0.0, 0.0))),
    Kink("sort(x)[0]", ((2.0, 2.0),), ((1.0, 0.0),), ZERO),
    Kink("sort(x)[1]", ((2.0, 2.0),), ((0.0, 1.0),), ZERO),
    Kink("sort(x, descending=True)[0]", ((2.0, 2.0),), ((1.0, 0.0),), ZERO),
    Kink("norm(x)", ((0.0, 0.0),), ((0.0, 0.0),), ZERO),
    Kink("sum(norm(x, axis=0))", ((0.0, 2.0),), ((0.0, 1.0),), None),
    Kink("std(x)", ((1.0, 1.0),), ((0.0, 0.0),), ZERO),
    Kink("sqrt(x)", (0.0,), (inf,), -inf),
    Kink("sqrt(x)", (-0.0,), (inf,), -inf),
    Kink("c * sqrt(x)", (0.0, 0.0), (0.0, 0.0), 0.0),
    Kink("sqrt(x) * -c", (0.0, 0.0), (0.0, 0.0), 0.0),
    Kink("c * sqrt(x)", (0.0, -2.0), (-inf, 0.0), inf),
    Kink("sum(sqrt(x))", ((0.0, 4.0),), ((inf, 0.25),), ((-inf, 0.0), (0.0, -1 / 32))),
    Kink("sum(sqrt(x)[1:])", ((0.0, 4.0),), ((0.0, 0.25),), ((0.0, 0.0), (0.0, -1 / 32))),
    Kink("max(sqrt(x))", ((0.0, 4.0),), ((0.0, 0.25),), ((0.0, 0.0), (0.0, -1 / 32))),
    Kink("sqrt(x * c)", (0.0, 3.0), (inf, 0.0), -inf),
    Kink("sqrt(x ** 2)", (0.0,), (0.0,), inf),
    Kink("sqrt(sum(x ** 2))", ((0.0, 0.0),), ((0.0, 0.0),), ((inf, 0.0), (0.0, inf))),
    Kink("sqrt(dot(x, x))", ((0.0, 0.0),), ((0.0, 0.0),), ((inf, 0.0), (0.0, inf))),
    Kink("sqrt(sum(x[i] * x[i] for i))", ((0.0, 0.0),), ((0.0, 0.0),), ((inf, 0.0), (0.0, inf))),
    Kink("sqrt(x) if x > 0 else 0.0", (0.0,), (0.0,), 0.0),
    Kink("x ** 0.5", (0.0,), (inf,), -inf),
    Kink("c * x ** 0.5", (0.0, 0.0), (0.0, 0.0), 0.0),
    Kink("x ** 2", (0.0,), (0.0,), 2.0),
    Kink("x ** 3", (0.0,), (0.0,), 0.0),
    Kink("x ** c", (0.0, 0.0), (0.0, 0.0), 0.0),
    Kink("x ** c", (0.0, 1.0), (1.0, 0.0), 0.0),
    Kink("x ** c", (0.0, 2.0), (0.0, 0.0), 2.0),
    Kink("x ** c", (2.0, 0.0), (0.0, log(2.0)), 0.0),
    Kink("log(x)", (0.0,), (inf,), -inf),
    Kink("asin(x)", (1.0,), (inf,), inf),
    Kink("acos(x)", (1.0,), (-inf,), -inf),
    Kink("atan2(x, c)", (0.0, 0.0), (nan, nan), None),
    Kink("prod(x)", ((0.0, 2.0),), ((2.0, 0.0),), ((0.0, 1.0), (1.0, 0.0))),
    Kink("prod(x)", ((0.0, 0.0),), ((0.0, 0.0),), ((0.0, 1.0), (1.0, 0.0))),
    Kink("sum(cumprod(x))", ((0.0, 2.0),), ((3.0, 0.0),), ((0.0, 1.0), (1.0, 0.0))),
    Kink("logsumexp(x)", ((-inf, -inf),), ((0.0, 0.0),), ZERO),
    Kink("logsumexp(x)", ((-inf, 1.0),), ((0.0, 1.0),), ZERO),
    Kink("logsumexp(x)", ((inf, 1.0),), ((0.0, 0.0),), ZERO),
    Kink("sigmoid(x)", (1000.0,), (0.0,), 0.0),
    Kink("softplus(x)", (-1000.0,), (0.0,), 0.0),
]


def shown(value: Any) -> str:
    """A number or an array as a reader writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    return f"{value:.6g}"


def table() -> list[str]:
    """The table as lines of Markdown."""
    lines = ["| expression | at | derivative | second |", "|---|---|---|---|"]
    for kink in KINKS:
        at = "x = " + ", c = ".join(map(shown, kink.at))
        slopes = ", ".join(map(shown, kink.slopes))
        second = "" if kink.second is None else shown(kink.second)
        lines.append(f"| `{kink.text}` | {at} | {slopes} | {second} |")
    return lines
