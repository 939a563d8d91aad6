"""Function instances met before: equal arguments in type and in everything static give the same region, which may stand
in several nodes. Without this, a program whose functions each call the previous one twice would take for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dgraph.classes import dataclass
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.values import (
    Binding,
    Bound,
    Closure,
    DTypeValue,
    Extent,
    Leaf,
    Literal,
    RecordValue,
    ShapeValue,
    Transformed,
    TupleValue,
    TypeValue,
    leaves_of,
)
from dgraph.ir.graph import Region, Value

Key = tuple[object, ...]


@dataclass(frozen=True)
class Instance:
    """A lowered function: its region, what it returns, and which leaves of params and states it captures."""

    region: Region
    result: Bound
    captures: tuple[tuple[t.Stored, int], ...]


def identity_of(function: t.Function, given: Mapping[str, Binding]) -> tuple[object, ...]:
    """What tells a function that is being lowered from others: itself and the functions that it is given."""
    return (function, *(part for formal in function.formals for part in _identities(given[formal.name].value)))


def _identities(value: Bound) -> Iterator[object]:
    """What tells function arguments apart: their syntax, and that of the functions they capture."""
    if isinstance(value, Transformed):
        yield value.kind
        yield from _identities(value.function)
    elif isinstance(value, Closure):
        yield value.function
        if value.names:
            used = {node.name for node in t.walk(value.function) if isinstance(node, t.Name)}
            for name in sorted(used & set(value.names)):
                yield from _identities(value.names[name].value)


def key_of(ctx: Context, closure: Closure, given: Mapping[str, Binding], names: Mapping[str, Binding]) -> Key | None:
    """What tells instances of a function apart; None if it captures names and so is like no other."""
    function = closure.function
    if closure.names is not None or not isinstance(function, t.Function):
        return None
    parts: list[object] = [function, ctx.facts]
    for binding in (*given.values(), *(names[generic.name] for generic in function.generics if generic.name in names)):
        part = _part(binding.value)
        if part is None:
            return None
        parts.append(part)
    return tuple(parts)


def _part(value: Bound) -> Key | None:
    """The static side of an argument."""
    if isinstance(value, Leaf):
        return value.type, value.affine, value.soft
    if isinstance(value, Literal):
        return type(value.value), repr(value.value)
    if isinstance(value, Extent):
        return (value.size,)
    if isinstance(value, DTypeValue):
        return (value.dtype,)
    if isinstance(value, ShapeValue):
        return (value.shape,)
    if isinstance(value, TypeValue):
        return (value.type,)
    if isinstance(value, TupleValue):
        return _all(("tuple",), value.items)
    if isinstance(value, RecordValue):
        return _all((value.declaration, value.arguments, value.axes), tuple(value.fields.values()))
    if isinstance(value, Closure) and value.names is None:
        return (value.function,)
    if isinstance(value, Transformed):
        return _all((value.kind, value.wrt, value.is_tuple, value.mode), (value.function,))
    return None


def _all(head: Key, values: tuple[Bound, ...]) -> Key | None:
    parts = [_part(value) for value in values]
    return None if None in parts else (*head, *parts)


def stored_leaves(ctx: Context) -> dict[Value, tuple[t.Stored, int]]:
    """Where each leaf of the params and states comes from."""
    return {
        leaf.value: (item, at)
        for item, value in ctx.stored.items()
        for at, (_, leaf) in enumerate(leaves_of(value))
        if isinstance(leaf, Leaf)
    }


def captured_values(ctx: Context, instance: Instance) -> list[Value]:
    """The present values of the leaves that an instance captures."""
    found: list[Value] = []
    for item, position in instance.captures:
        leaf = [leaf for _, leaf in leaves_of(ctx.stored[item])][position]
        assert isinstance(leaf, Leaf)
        found.append(leaf.value)
    return found
