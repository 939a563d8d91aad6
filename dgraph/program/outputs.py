"""Arrays that a call is given to write its results to: `out=`, a tree like the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NoReturn

import numpy as np

from dgraph.errors import ArgumentError, Diagnostic
from dgraph.ir.graph import Formal
from dgraph.program.arguments import describe, is_extent
from dgraph.types import Array, Record, Tuple, Type, with_axes
from dgraph.types import leaves as leaves_of

OUT = "out"
"""The name of the keyword argument, unless the function has a formal of this name."""


def has_outputs(formals: Sequence[Formal], named: Mapping[str, Any]) -> bool:
    """Whether keyword arguments say where results go: with None they do not."""
    return named.get(OUT) is not None and not any(formal.name == OUT for formal in formals)


def without_outputs(formals: Sequence[Formal], named: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keyword arguments that are for formals."""
    if OUT not in named or any(formal.name == OUT for formal in formals):
        return named
    return {name: value for name, value in named.items() if name != OUT}


def checked_outputs(
    formals: Sequence[Formal], result: Type, given: Any, shapes: Sequence[tuple[int, ...]], leaves: Sequence[Any]
) -> list[Any]:
    """The array for each leaf of a result, None where one is to be made. Raises `ArgumentError` for what cannot be
    written to, or what an argument or another result lies in."""
    found = list(_flattened(OUT, result, given))
    for (name, type_, array), shape in zip(found, shapes, strict=True):
        if array is not None:
            _check(name, type_, array, shape)
    wanted = [(name, array) for name, _, array in found if array is not None]
    read = [name for formal in formals if not is_extent(formal) for name, _ in leaves_of(formal.type, formal.name)]
    for name, array in wanted:
        for other, leaf in zip(read, leaves, strict=True):
            if isinstance(leaf, np.ndarray) and np.may_share_memory(array, leaf):
                title = f"`{name}` lies in the memory of `{other}`, which may be read after it is written"
                _fault(title, "give it memory of its own; two sets of arrays can take turns")
    for (name, array), (other, second) in combinations(wanted, 2):
        if np.may_share_memory(array, second):
            _fault(f"`{name}` and `{other}` lie in the same memory", "give each an array of its own")
    return [array for _, _, array in found]


def _flattened(name: str, type_: Type, value: Any) -> Iterator[tuple[str, Array, Any]]:
    """The leaves of a result with their names and what is given for them."""
    if isinstance(type_, Array):
        yield name, type_, value
    elif isinstance(type_, Tuple):
        count = len(type_.items)
        if value is not None and not (isinstance(value, tuple | list) and len(value) == count):
            many = isinstance(value, tuple | list)
            words = f"one of {len(value)}" if many else describe(value)
            _fault(f"the result is a tuple of {count} entries, and so is `{name}`, not {words}", "None makes a new one")
        for position, item in enumerate(type_.items):
            yield from _flattened(f"{name}[{position}]", item, None if value is None else value[position])
    elif isinstance(type_, Record):
        for field, item in type_.fields:
            yield from _flattened(f"{name}.{field}", with_axes(item, type_.axes), _field(name, type_, field, value))


def _field(name: str, type_: Record, field: str, value: Any) -> Any:
    """What is given for a field of a record."""
    if value is None:
        return None
    is_there = field in value if isinstance(value, Mapping) else hasattr(value, field)
    if not is_there:
        listed = ", ".join(known for known, _ in type_.fields)
        _fault(
            f"`{name}` is a {type_.name}, as the result is, and needs the field `{field}`", f"its fields are {listed}"
        )
    return value[field] if isinstance(value, Mapping) else getattr(value, field)


def _check(name: str, type_: Array, array: Any, shape: tuple[int, ...]) -> None:
    """Raise `ArgumentError` unless results can be written to an array as it is."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        note = "an array of another library is written to through `numpy.from_dlpack(x)`"
        _fault(f"`{name}` is a NumPy array to write to, not {describe(array)}", note)
    kind = type_.dtype.numpy
    fresh = f"make it by `numpy.empty({shape}, numpy.{kind.name})`"
    if array.dtype != kind:
        _fault(f"`{name}` holds {array.dtype}, and the result {kind.name}", fresh)
    if array.shape != shape:
        _fault(f"`{name}` has the shape {array.shape}, and the result {shape}", fresh)
    if not array.flags.writeable:
        _fault(f"`{name}` can be read only", "give an array that may be written to, or a copy")
    if not (array.flags.c_contiguous and array.flags.aligned):
        _fault(f"the entries of `{name}` do not lie row by row without gaps", fresh)


def _fault(title: str, note: str) -> NoReturn:
    raise ArgumentError(Diagnostic(title, (), note))
