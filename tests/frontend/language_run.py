"""What the tests of the language share: small programs, compiled, interpreted and differentiated."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand
from dgraph.frontend import lower_function, parse_program
from dgraph.ir.evaluate import evaluate

STEP = 1e-6


class Case:
    """A program, one of its functions with arguments, and what it gives; `wrt` asks for the gradient instead. Without
    `is_smooth` the derivative is not compared with differences: the arguments stand at a kink."""

    def __init__(
        self, title: str, text: str, name: str, *arguments: Any, expect: Any, wrt: str = "", is_smooth: bool = True
    ) -> None:
        self.title, self.text, self.name, self.arguments = title, text, name, arguments
        self.expect, self.wrt, self.is_smooth = expect, wrt, is_smooth

    def run(self) -> None:
        """Compare with what is expected."""
        function = getattr(dg.parse(self.text), self.name)
        called = dg.grad(function, wrt=self.wrt) if self.wrt else function
        found, wanted = flat(called(*self.arguments)), flat(self.expect)
        assert [value.shape for value in found] == [value.shape for value in wanted]
        for value, known in zip(found, wanted, strict=True):
            assert value.astype(float) == pytest.approx(known.astype(float), rel=1e-6, abs=1e-9, nan_ok=True)
        if not self.wrt:
            self._interpret(found)
            if self.is_smooth:
                self._differentiate(function)

    def _interpret(self, compiled: list[np.ndarray]) -> None:
        """The interpreter gives the same, where the arguments are plain arrays and numbers."""
        module = parse_program(self.text)
        declared = module.functions[self.name]
        kinds = {generic.kind for generic in declared.generics}
        if kinds - {"size"} or not all(isinstance(one, np.ndarray | np.generic | float) for one in self.arguments):
            return
        graph = expand(lower_function(module, self.name))
        if len(graph.formals) != len(self.arguments):
            return
        results = evaluate(graph, self.arguments, {})
        for value, known in zip(results, compiled, strict=True):
            assert np.asarray(value, float) == pytest.approx(known.astype(float), rel=1e-9, abs=1e-12, nan_ok=True)

    def _differentiate(self, function: Any) -> None:
        """The derivative along a direction is that of the differences."""
        first = next((at for at, one in enumerate(self.arguments) if is_float(one)), None)
        values = flat(function(*self.arguments))
        if first is None or not all(value.dtype.kind == "f" for value in values):
            return
        name = parse_program(self.text).functions[self.name].formals[first].name
        x = np.asarray(self.arguments[first], float)
        random = np.random.default_rng(3)
        away = random.normal(size=x.shape)
        weights = [random.normal(size=value.shape) for value in values]

        def total(at: np.ndarray) -> float:
            changed = [*self.arguments[:first], at if at.ndim else float(at), *self.arguments[first + 1 :]]
            return sum(float((w * value).sum()) for w, value in zip(weights, flat(function(*changed)), strict=True))

        expected = (total(x + STEP * away) - total(x - STEP * away)) / (2 * STEP)
        along = {f"d{name}": away if away.ndim else float(away)}
        _, tangent = dg.jvp(function, wrt=name)(*self.arguments, **along)
        forward = sum(float((w * value).sum()) for w, value in zip(weights, flat(tangent), strict=True))
        assert forward == pytest.approx(expected, rel=1e-5, abs=1e-6)


def is_float(value: Any) -> bool:
    """Whether an argument is a float, or an array of doubles."""
    return isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype == np.float64)


def flat(value: Any) -> list[np.ndarray]:
    """The arrays of nested tuples, lists and records."""
    if isinstance(value, tuple | list):
        return [array for item in value for array in flat(item)]
    if isinstance(value, Mapping):
        return [array for item in value.values() for array in flat(item)]
    return [np.asarray(value)]


class Refused:
    """A program that is refused, when it is read or when it runs, with a part of what is said."""

    def __init__(self, title: str, text: str, name: str, *arguments: Any, says: str) -> None:
        self.title, self.text, self.name, self.arguments, self.says = title, text, name, arguments, says

    def run(self) -> None:
        """See that it is refused, and where."""
        with pytest.raises(dg.DgraphError) as caught:
            getattr(dg.parse(self.text), self.name)(*self.arguments)
        said = str(caught.value)
        assert self.says in said
        assert "<text>:" in said


def cases(*listed: Case | Refused) -> Any:
    """A decorator that runs a test for each case."""
    return pytest.mark.parametrize("case", listed, ids=[one.title.replace(" ", "-") for one in listed])
