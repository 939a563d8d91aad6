"""What `@train` annotations ask for, with `--set` on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic, ScopeError, Span
from dgraph.frontend import FunctionInfo

OWN = ("optimiser", "wrt", "clip")
"""Options of one `@train` function; the others are those of the whole run."""
NUMBERS: Mapping[str, tuple[type, int]] = {
    "clip": (float, 0),
    "batch": (int, 1),
    "epochs": (int, 1),
    "validation": (float, 0),
    "test": (float, 0),
    "patience": (int, 1),
}
"""The options that are numbers, with their type and their least value."""
KNOWN = (*OWN, "batch", "epochs", "validation", "test", "patience", "shuffle", "data")
TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Settings:
    """Options of one `@train` function.

    `optimiser` names the two functions `NAME_start` and `NAME`, called with `options`. `wrt` names the params to
    train; empty means all that the function reads. `clip` bounds the norm of the slope.
    """

    function: str
    span: Span
    optimiser: str = "sgd"
    options: Mapping[str, float] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()
    clip: float | None = None


@dataclass(frozen=True)
class Plan:
    """Options of a run.

    `batch` rows make a step, `epochs` passes over the data are made. `test` of the rows at the end of the data are
    held out, and `validation` of the others (counts, or fractions below 1). The run ends early when the loss on the
    validation rows has not improved for `patience` epochs. `data` is a file beside the program. `given` are the
    options that somebody asked for.
    """

    batch: int = 32
    epochs: int = 10
    validation: float = 0.0
    test: float = 0.2
    patience: int | None = None
    shuffle: bool = True
    data: Path | None = None
    given: frozenset[str] = frozenset()

    @staticmethod
    def part(share: float, rows: int) -> int:
        """How many rows a count or a fraction of them is."""
        return min(rows, int(share) if share >= 1 else round(share * rows))


def read_settings(trained: Sequence[FunctionInfo], folder: Path) -> tuple[Plan, list[Settings]]:
    """The plan of a run and the settings of each `@train` function, which must agree on the plan.

    The front end has seen to it that every option exists and holds a value of its kind. Raises `ScopeError` for what
    does not go together.
    """
    plan, settings = Plan(), []
    for info in trained:
        own, whole = Settings(info.name, info.span), Plan()
        for name, value in info.annotations["train"].keywords.items():
            if name in OWN:
                own = _own_option(own, name, value)
            else:
                known = _number(name, value, info.span) if name in NUMBERS else value
                whole = _changed(whole, name, folder / value if name == "data" else known)
        for name in sorted(whole.given):
            value = getattr(whole, name)
            if name in plan.given and getattr(plan, name) != value:
                title = f"two @train functions differ in {name}: {getattr(plan, name)} and {value}"
                raise ScopeError.at(info.span, title, note="they take turns on the same batches: say it at the first")
            plan = _changed(plan, name, value)
        settings.append(own)
    return _agreeing(plan, trained[0].span), settings


def _changed(plan: Plan, name: str, value: Any) -> Plan:
    return replace(plan, **{name: value}, given=plan.given | {name})


def _agreeing(plan: Plan, span: Span | None = None) -> Plan:
    """The plan, if its options go together."""
    if plan.patience is not None and not plan.validation:
        title = "patience= stops a run by its validation rows, and there are none"
        note = "add validation=0.1"
        raise ScopeError.at(span, title, note=note) if span is not None else ArgumentError(Diagnostic(title, (), note))
    return plan


def _own_option(settings: Settings, name: str, value: Any) -> Settings:
    if name == "optimiser":
        return replace(settings, optimiser=value.name, options=dict(value.keywords))
    if name == "wrt":
        return replace(settings, wrt=tuple(item.name for item in (value if isinstance(value, tuple) else (value,))))
    return replace(settings, clip=_number(name, value, settings.span))


def _number(name: str, value: float, span: Span | None = None) -> Any:
    """The number of an option. Raises `ScopeError` at a place of the program, else `ArgumentError`."""
    kind, least = NUMBERS[name]
    title = ""
    if not isfinite(value) or (kind is int and value != int(value)) or value < least:
        title = f"{name}={value:g} is not a {'whole ' if kind is int else ''}number of at least {least}"
    elif name in ("test", "validation") and value > 1 and value != int(value):
        title = f"{name}={value:g} is neither a count of rows nor a fraction of them"
    elif name == "clip" and not value:
        title = "clip=0 would stop every step"
    if title:
        raise ScopeError.at(span, title) if span is not None else ArgumentError(Diagnostic(title))
    return kind(value)


def override(plan: Plan, settings: Sequence[Settings], texts: Sequence[str]) -> tuple[Plan, list[Settings]]:
    """A plan and settings changed by texts such as `epochs=3` and `rate=0.01`; a name that is no option of `@train`
    is one of the optimisers'. Raises `ArgumentError`."""
    changed = list(settings)
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise ArgumentError(Diagnostic(f"--set {text} is not NAME=NUMBER", (), "as in --set epochs=3"))
        if name == "shuffle":
            if value.lower() not in TRUTH:
                raise ArgumentError(Diagnostic(f"--set {text} is neither true nor false"))
            plan = _changed(plan, name, TRUTH[value.lower()])
            continue
        if name in ("data", "wrt", "optimiser"):
            note = "use --data PATH" if name == "data" else "change it in the program"
            raise ArgumentError(Diagnostic(f"--set takes numbers, and {name} is none", (), note))
        try:
            number = float(value)
        except ValueError:
            raise ArgumentError(Diagnostic(f"--set {text} is not NAME=NUMBER", (), "as in --set epochs=3")) from None
        if name == "clip":
            changed = [replace(own, clip=_number(name, number)) for own in changed]
        elif name in NUMBERS:
            plan = _changed(plan, name, _number(name, number))
        elif not isfinite(number):
            raise ArgumentError(Diagnostic(f"--set {text} is not a finite number"))
        else:
            changed = [replace(own, options={**own.options, name: number}) for own in changed]
    return _agreeing(plan), changed
