"""Derivatives of Python functions by dual numbers of any depth: the truth for transforms of transforms.

A function takes its arguments by name and returns leaves; arguments and results are lists of arrays of numbers that
may be dual. Transforms of such functions are written here by their definitions, entry by entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

LEVELS = count(1)
Leaves = list[Any]
Arguments = dict[str, Leaves]


@dataclass
class Dual:
    """value + slope * e, where e * e = 0; of two duals the one of the higher level is outside."""

    level: int
    value: Any
    slope: Any

    def __add__(self, other: Any) -> Any:
        return _combined(self, other, lambda a, b: a + b, lambda _a, _b, da, db: da + db)

    def __mul__(self, other: Any) -> Any:
        return _combined(self, other, lambda a, b: a * b, lambda a, b, da, db: da * b + a * db)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Any:
        return self * -1.0

    def __sub__(self, other: Any) -> Any:
        return self + other * -1.0

    def __rsub__(self, other: Any) -> Any:
        return self * -1.0 + other

    def __truediv__(self, other: Any) -> Any:
        return self * other**-1

    def __rtruediv__(self, other: Any) -> Any:
        return self**-1 * other

    def __pow__(self, exponent: int) -> Any:
        return Dual(self.level, self.value**exponent, self.value ** (exponent - 1) * exponent * self.slope)

    def __gt__(self, other: Any) -> bool:
        return plain(self) > plain(other)

    def __lt__(self, other: Any) -> bool:
        return plain(self) < plain(other)


def _parts(number: Any, level: int) -> tuple[Any, Any]:
    own = isinstance(number, Dual) and number.level == level
    return (number.value, number.slope) if own else (number, 0.0)


def _combined(one: Any, other: Any, value: Callable[..., Any], slope: Callable[..., Any]) -> Any:
    level = max(number.level for number in (one, other) if isinstance(number, Dual))
    (a, da), (b, db) = _parts(one, level), _parts(other, level)
    return Dual(level, value(a, b), slope(a, b, da, db))


def plain(number: Any) -> float:
    """The number without all that is infinitesimal."""
    while isinstance(number, Dual):
        number = number.value
    return float(number)


def sin(x: Any) -> Any:
    return Dual(x.level, sin(x.value), cos(x.value) * x.slope) if isinstance(x, Dual) else math.sin(x)


def cos(x: Any) -> Any:
    return Dual(x.level, cos(x.value), sin(x.value) * x.slope * -1.0) if isinstance(x, Dual) else math.cos(x)


@dataclass
class Reference:
    """A function with the names of its formals."""

    formals: tuple[str, ...]
    run: Callable[[Arguments], Leaves]


def _array(values: Sequence[Any], shape: tuple[int, ...]) -> Any:
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)


def _each(leaf: Any, function: Callable[[Any], Any]) -> Any:
    return _array([function(number) for number in leaf.ravel()], leaf.shape)


def along(function: Reference, given: Arguments, moves: Arguments) -> tuple[Leaves, Leaves]:
    """The results and their tangents in a direction."""
    level = next(LEVELS)
    moved = dict(given)
    for name, directions in moves.items():
        moved[name] = [
            _array([Dual(level, a, b) for a, b in zip(leaf.ravel(), by.ravel(), strict=True)], leaf.shape)
            for leaf, by in zip(given[name], directions, strict=True)
        ]
    found = function.run(moved)
    parts = [[_parts(number, level) for number in leaf.ravel()] for leaf in found]
    values = [_array([a for a, _ in part], leaf.shape) for part, leaf in zip(parts, found, strict=True)]
    slopes = [_array([b for _, b in part], leaf.shape) for part, leaf in zip(parts, found, strict=True)]
    return values, slopes


def _units(leaves: Leaves) -> list[tuple[int, Leaves]]:
    """Every unit direction, with the leaf that it lies in."""
    out = []
    for at, leaf in enumerate(leaves):
        for place in range(leaf.size):
            unit = [np.zeros(other.shape, object) for other in leaves]
            unit[at].ravel()[place] = 1.0
            out.append((at, [_each(part, float) for part in unit]))
    return out


def _columns(function: Reference, given: Arguments, name: str) -> list[list[Leaves]]:
    """For each leaf of an argument, the tangents of the results for each of its entries."""
    columns: list[list[Leaves]] = [[] for _ in given[name]]
    for at, unit in _units(given[name]):
        columns[at].append(along(function, given, {name: unit})[1])
    return columns


def _fresh(f: Reference, names: Sequence[str]) -> tuple[str, ...]:
    """The names of the formals that a transform appends."""
    out = []
    for name in names:
        while name in f.formals:
            name += "_"
        out.append(name)
    return tuple(out)


def jvp(f: Reference, wrt: tuple[str, ...]) -> Reference:
    names = _fresh(f, [f"d{name}" for name in wrt])

    def run(given: Arguments) -> Leaves:
        values, slopes = along(f, given, {name: given[extra] for name, extra in zip(wrt, names, strict=True)})
        return [*values, *slopes]

    return Reference((*f.formals, *names), run)


def value_and_grad(f: Reference, wrt: tuple[str, ...]) -> Reference:
    def run(given: Arguments) -> Leaves:
        return [*f.run(given), *slopes_of(f, given, wrt)]

    return Reference(f.formals, run)


def slopes_of(f: Reference, given: Arguments, wrt: tuple[str, ...]) -> Leaves:
    out = []
    for name in wrt:
        for leaf, columns in zip(given[name], _columns(f, given, name), strict=True):
            out.append(_array([tangents[0][()] for tangents in columns], leaf.shape))
    return out


def grad(f: Reference, wrt: tuple[str, ...]) -> Reference:
    return Reference(f.formals, lambda given: [*slopes_of(f, given, wrt), *f.run(given)[1:]])


def vjp(f: Reference, wrt: tuple[str, ...]) -> Reference:
    (extra,) = _fresh(f, ["ct"])

    def run(given: Arguments) -> Leaves:
        out = []
        for name in wrt:
            for leaf, columns in zip(given[name], _columns(f, given, name), strict=True):
                entries = [
                    sum(
                        (
                            a * b
                            for t, c in zip(tangents, given[extra], strict=True)
                            for a, b in zip(t.ravel(), c.ravel(), strict=True)
                        ),
                        0.0,
                    )
                    for tangents in columns
                ]
                out.append(_array(entries, leaf.shape))
        return out

    return Reference((*f.formals, extra), run)


def jacobian(f: Reference, wrt: tuple[str, ...]) -> Reference:
    def run(given: Arguments) -> Leaves:
        columns = {name: _columns(f, given, name) for name in wrt}
        out = []
        for row, result in enumerate(f.run(given)):
            for name in wrt:
                for leaf, entries in zip(given[name], columns[name], strict=True):
                    block = _array(
                        [t[row].ravel()[k] for k in range(result.size) for t in entries], (result.size, leaf.size)
                    )
                    out.append(block.reshape(result.shape + leaf.shape))
        return out

    return Reference(f.formals, run)


def slope(f: Reference, wrt: tuple[str, ...]) -> Reference:
    return Reference(f.formals, lambda given: slopes_of(f, given, wrt))


def hessian(f: Reference, wrt: tuple[str, ...]) -> Reference:
    return jacobian(slope(f, wrt), wrt)


def hvp(f: Reference, wrt: tuple[str, ...]) -> Reference:
    names = _fresh(f, ["v"] if len(wrt) == 1 else [f"v_{name}" for name in wrt])

    def run(given: Arguments) -> Leaves:
        moves = {name: given[v] for name, v in zip(wrt, names, strict=True)}
        return along(slope(f, wrt), given, moves)[1]

    return Reference((*f.formals, *names), run)


def vmap(f: Reference, wrt: tuple[str, ...]) -> Reference:
    def run(given: Arguments) -> Leaves:
        extent = len(given[wrt[0]][0])
        rows = [
            f.run(
                given
                | {name: [_array([leaf[k]], ()) if leaf.ndim == 1 else leaf[k] for leaf in given[name]] for name in wrt}
            )
            for k in range(extent)
        ]
        return [
            _array([number for leaf in leaves for number in leaf.ravel()], (extent, *leaves[0].shape))
            for leaves in zip(*rows, strict=True)
        ]

    return Reference(f.formals, run)
