"""Operators: arithmetic on numbers, leaf by leaf on records, comparison, and logic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

from dgraph.errors import SizeMismatch, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context, evaluates
from dgraph.frontend.divisions import DIVISIONS, require_divisor, zero_policy
from dgraph.frontend.numbers import (
    Agreement,
    Number,
    affine_of,
    agree,
    broadcast_shapes,
    cast_value,
    checked,
    fold_static,
    fresh_dtype,
    is_number,
    kind_of,
    materialise,
    meet,
    number,
    shape_text,
    spread,
    truth,
)
from dgraph.frontend.values import Binding, Bound, Extent, Leaf, Literal, RecordValue, TupleValue, describe
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ir.hoist import can_fault
from dgraph.sizes import Size, product, size
from dgraph.types import BOOL, F64, Array

SYMBOLS = {"+": "add", "-": "sub", "*": "mul", "/": "div", **DIVISIONS}
COMPARISONS = {
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "==": "equal",
    "!=": "not_equal",
}
HARMLESS = {
    *SYMBOLS.values(),
    *COMPARISONS.values(),
    "neg",
    "constant",
    "size",
    "cast",
    "logical_and",
    "logical_or",
    "logical_not",
    "broadcast",
    "minimum",
    "maximum",
    "abs",
}
"""Ops that may run where a short circuit would have skipped them."""


# ---- arithmetic -----------------------------------------------------------------------------------------------------


@evaluates(t.Chain)
def chain(ctx: Context, node: t.Chain) -> Bound:
    """`a + b - c`."""
    result = Binding(ctx.evaluate(node.first), node.first.span)
    for link in node.links:
        right = Binding(ctx.evaluate(link.operand), link.operand.span)
        span = result.span.to(link.operand.span)
        ctx.g.span = span
        result = Binding(binary(ctx, link.operator, result, right), span)
    return result.value


@evaluates(t.Power)
def power(ctx: Context, node: t.Power) -> Bound:
    """`x ** n`."""
    base = Binding(ctx.evaluate(node.base), node.base.span)
    exponent = Binding(ctx.evaluate(node.exponent), node.exponent.span)
    return binary(ctx, "**", base, exponent)


@evaluates(t.Negate)
def negate(ctx: Context, node: t.Negate) -> Bound:
    """`-x`."""
    return negative(ctx, Binding(ctx.evaluate(node.operand), node.operand.span))


def negative(ctx: Context, operand: Binding) -> Bound:
    """`-x` of a value."""
    value = operand.value
    if isinstance(value, RecordValue | TupleValue):
        return leafwise(ctx, [operand], lambda parts: negative(ctx, parts[0]))
    found = number(operand)
    if kind_of(found) not in ("float", "int"):
        note = "write `not`" if kind_of(found) == "bool" else ""
        raise TypeMismatch.at(operand.span, "only numbers have a negative", f"this is {describe(found)}", note=note)
    if isinstance(found, Literal):
        return Literal(-found.value)
    if isinstance(found, Extent):
        return Extent(-found.size)
    return Leaf(ctx.g.neg(found.value), found.weak, found.soft, _negated(found))


def _negated(leaf: Leaf) -> Size | None:
    known = affine_of(leaf)
    return None if known is None else -known


def binary(ctx: Context, symbol: str, left: Binding, right: Binding) -> Bound:
    """An operator applied to two values."""
    if any(isinstance(side.value, RecordValue | TupleValue) for side in (left, right)):
        if symbol in ("@", "//", "%"):
            raise _no_operator(symbol, left, right)
        return leafwise(ctx, [left, right], lambda parts: binary(ctx, symbol, *parts), symbol)
    a, b = number(left), number(right)
    if isinstance(a, Literal | Extent) and isinstance(b, Literal | Extent) and symbol != "@":
        folded = fold_static(symbol, a, b, left.span.to(right.span))
        if folded is not None:
            if symbol in DIVISIONS and isinstance(b, Extent):
                require_divisor(ctx, b.size, right.span)
            return folded
    if symbol == "@":
        return matmul(ctx, left, right)
    if symbol in ("//", "%") and kind_of(a) == "int" and affine_of(b) == size(0) and not isinstance(b, Leaf):
        note = "integers have no value for it; divide as floats, or choose another value where this is 0"
        raise TypeMismatch.at(left.span.to(right.span), "division by zero", f"`{symbol}` by 0", note=note)
    if symbol == "**":
        return _power(ctx, left, right)
    x, y = meet(ctx, [left, right], to_float=symbol == "/")
    facts = {"policy": zero_policy(ctx, b, right.span)} if symbol in DIVISIONS and x.dtype.kind == "int" else {}
    result = getattr(ctx.g, SYMBOLS[symbol])(x.value, y.value, **facts)
    return Leaf(result, x.weak | y.weak, x.soft and y.soft, _affine(symbol, x, y))


def _affine(symbol: str, x: Leaf, y: Leaf) -> Size | None:
    a, b = affine_of(x), affine_of(y)
    if a is None or b is None:
        return None
    if symbol == "+":
        return a + b
    if symbol == "-":
        return a - b
    if symbol == "*":
        return a * b
    if symbol == "//" and b.constant != 0 and b.terms:
        return a // b
    return None


def _power(ctx: Context, left: Binding, right: Binding) -> Bound:
    base, exponent = number(left), number(right)
    whole = isinstance(exponent, Literal) and type(exponent.value) is int
    if whole and isinstance(base, Leaf) and base.dtype.kind in ("float", "int"):
        assert isinstance(exponent, Literal)
        if base.dtype.kind == "int" and exponent.value < 0:
            note = "write `1 / x ** n`, or cast the base"
            raise TypeMismatch.at(right.span, "an integer has no negative power", note=note)
        return Leaf(ctx.g.powi(base.value, exponent=int(exponent.value)), base.weak, base.soft)
    if kind_of(base) == "int" and kind_of(exponent) == "int":
        note = "the exponent must be a literal, or the base a float: `2.0 ** n`"
        raise TypeMismatch.at(right.span, "an integer to a power that is only known as it runs", note=note)
    x, y = meet(ctx, [left, right], to_float=True)
    return Leaf(ctx.g.pow(x.value, y.value), x.weak | y.weak)


def _no_operator(symbol: str, left: Binding, right: Binding) -> TypeMismatch:
    return TypeMismatch.at(
        left.span.to(right.span),
        f"`{symbol}` is not defined here",
        f"{describe(left.value)} {symbol} {describe(right.value)}",
        note="operators stand between numbers, arrays, and records of one type",
    )


def leafwise(
    ctx: Context, operands: Sequence[Binding], apply: Callable[[Sequence[Binding]], Bound], symbol: str = "-"
) -> Bound:
    """An operation on records leaf by leaf: equal record types, or a record with scalars. Leaves that are not floats
    ride along from the first record."""
    records = [operand for operand in operands if isinstance(operand.value, RecordValue | TupleValue)]
    first = records[0]
    if isinstance(first.value, TupleValue):
        note = "operators work on arrays and on records; for an array write `[a, b]`"
        raise TypeMismatch.at(first.span, "a tuple is not a number", f"this is {describe(first.value)}", note=note)
    for other in records[1:]:
        if not _same_record(first.value, other.value):
            raise _no_operator(symbol, operands[0], operands[-1])
    assert isinstance(first.value, RecordValue)
    for operand in operands:
        if isinstance(operand.value, Leaf) and operand.value.shape:
            raise _no_operator(symbol, operands[0], operands[-1])
    fields: dict[str, Bound] = {}
    for name, held in first.value.fields.items():
        parts = [
            Binding(operand.value.fields[name], operand.span) if isinstance(operand.value, RecordValue) else operand
            for operand in operands
        ]
        if isinstance(held, RecordValue):
            fields[name] = leafwise(ctx, parts, apply, symbol)
        elif isinstance(held, TupleValue):
            fields[name] = _tuplewise(ctx, parts, apply, symbol)
        elif isinstance(held, Leaf) and not held.dtype.is_float:
            fields[name] = held
        else:
            fields[name] = apply(parts)
    return replace(first.value, fields=fields)


def _tuplewise(
    ctx: Context, operands: Sequence[Binding], apply: Callable[[Sequence[Binding]], Bound], symbol: str
) -> Bound:
    """The same for a tuple inside a record."""
    count = next(len(part.value.items) for part in operands if isinstance(part.value, TupleValue))
    items: list[Bound] = []
    for at in range(count):
        parts = [
            Binding(part.value.items[at], part.span) if isinstance(part.value, TupleValue) else part
            for part in operands
        ]
        held = next(part.value for part in parts if not is_number(part.value) or isinstance(part.value, Leaf))
        if isinstance(held, RecordValue):
            items.append(leafwise(ctx, parts, apply, symbol))
        elif isinstance(held, Leaf) and not held.dtype.is_float:
            items.append(held)
        else:
            items.append(apply(parts))
    return TupleValue(tuple(items))


def _same_record(a: Bound, b: Bound) -> bool:
    return (
        isinstance(a, RecordValue)
        and isinstance(b, RecordValue)
        and a.declaration is b.declaration
        and len(a.axes) == len(b.axes)
    )


def matmul(ctx: Context, left: Binding, right: Binding) -> Bound:
    """`a @ b`, as in NumPy."""
    agreement = agree(ctx, [left, right])
    a, b = number(left), number(right)
    for side, value in ((left, a), (right, b)):
        if not isinstance(value, Leaf) or not value.shape:
            note = "write `*` to scale an array"
            raise TypeMismatch.at(side.span, "`@` multiplies arrays", f"this is {describe(value)}", note=note)
    assert isinstance(a, Leaf) and isinstance(b, Leaf)
    inner = a.shape[-1], b.shape[-2] if len(b.shape) > 1 else b.shape[0]
    if inner[0] != inner[1]:
        raise SizeMismatch.at(
            left.span.to(right.span),
            f"`@` sums over axes of lengths {inner[0]} and {inner[1]}",
            f"{shape_text(a.shape)} @ {shape_text(b.shape)}",
            note="the last axis of the left side and the last but one of the right side must be equal",
        )
    x, y = cast_value(ctx, a.value, agreement.dtype), cast_value(ctx, b.value, agreement.dtype)
    if max(len(a.shape), len(b.shape)) <= 2:
        return Leaf(ctx.g.dot(x, y), agreement.weak)
    if min(len(a.shape), len(b.shape)) == 1:
        return Leaf(_vector_with_batch(ctx, x, y), agreement.weak)
    x, y = _equal_batches(ctx, x, y, left, right)
    return Leaf(ctx.g.dot(x, y), agreement.weak)


def _vector_with_batch(ctx: Context, x: Value, y: Value) -> Value:
    """A vector with a batch of matrices: the leading axes of the batch are rows of one matrix, or the sum runs over the
    rows of each."""
    g = ctx.g
    assert isinstance(x.type, Array) and isinstance(y.type, Array)
    matrices, vector = (y, x) if x.type.rank == 1 else (x, y)
    assert isinstance(matrices.type, Array)
    shape = matrices.type.shape
    if vector is x:
        last = len(shape) - 1
        matrices = g.transpose(matrices, axes=(*range(last - 1), last, last - 1))
        shape = (*shape[:-2], shape[-1], shape[-2])
    rows = g.reshape(matrices, shape=(product(shape[:-1]), shape[-1]))
    return g.reshape(g.dot(rows, vector), shape=shape[:-1])


def _equal_batches(ctx: Context, x: Value, y: Value, left: Binding, right: Binding) -> tuple[Value, Value]:
    """Matrices with leading axes: widen both to the same ones."""
    assert isinstance(x.type, Array) and isinstance(y.type, Array)
    a, b = x.type.shape, y.type.shape
    batch = broadcast_shapes([(a[:-2], left.span), (b[:-2], right.span)])
    return ctx.g.widen(x, (*batch, *a[-2:])), ctx.g.widen(y, (*batch, *b[-2:]))


# ---- comparison and logic -------------------------------------------------------------------------------------------


@evaluates(t.Compare)
def compare(ctx: Context, node: t.Compare) -> Bound:
    """`0 <= i < n`: chained as in Python."""
    operands = [Binding(ctx.evaluate(operand), operand.span) for operand in node.operands]
    results = [
        comparison(ctx, symbol, left, right)
        for symbol, left, right in zip(node.operators, operands, operands[1:], strict=False)
    ]
    return reduce(lambda a, b: logic(ctx, "and", Binding(a, node.span), Binding(b, node.span)), results)


def comparison(ctx: Context, symbol: str, left: Binding, right: Binding) -> Bound:
    """One comparison."""
    a, b = number(left), number(right)
    if isinstance(a, Literal | Extent) and isinstance(b, Literal | Extent):
        decided = _decide(symbol, a, b)
        if decided is not None:
            return Literal(decided)
    x, y = meet(ctx, [left, right], unify=False, bools=True)
    if x.dtype is BOOL and symbol not in ("==", "!="):
        raise TypeMismatch.at(left.span.to(right.span), "bools have no order", note="combine them with `and`, `or`")
    return Leaf(getattr(ctx.g, COMPARISONS[symbol])(x.value, y.value))


def _decide(symbol: str, a: Literal | Extent, b: Literal | Extent) -> bool | None:
    """A comparison of literals or sizes, where it is the same for all values."""
    one, two = (value.size.constant if isinstance(value, Extent) else value.value for value in (a, b))
    if one is None or two is None:
        if isinstance(a, Extent) and isinstance(b, Extent) and a.size == b.size:
            return symbol in ("==", "<=", ">=")
        return None
    if isinstance(one, bool) != isinstance(two, bool):
        return None
    outcomes = {
        "<": one < two,
        "<=": one <= two,
        ">": one > two,
        ">=": one >= two,
        "==": one == two,
        "!=": one != two,
    }
    return outcomes[symbol]


@evaluates(t.Not)
def logical_not(ctx: Context, node: t.Not) -> Bound:
    """`not c`."""
    value = number(Binding(ctx.evaluate(node.operand), node.operand.span), "a condition")
    if isinstance(value, Literal) and isinstance(value.value, bool):
        return Literal(not value.value)
    return Leaf(ctx.g.logical_not(_bools(ctx, Binding(value, node.operand.span)).value))


def _bools(ctx: Context, side: Binding) -> Leaf:
    value = number(side, "a condition")
    if kind_of(value) != "bool":
        note = "compare it: `x != 0`"
        raise TypeMismatch.at(side.span, "a condition is wanted here", f"this is {describe(value)}", note=note)
    return materialise(ctx, value, side.span)


def logic(ctx: Context, word: str, left: Binding, right: Binding) -> Bound:
    """`and`, `or` of two values that are both there."""
    for side, other in ((left, right), (right, left)):
        if isinstance(side.value, Literal) and isinstance(side.value.value, bool):
            decides = side.value.value == (word == "or")
            if not decides:
                return other.value
            if isinstance(other.value, Literal):
                return side.value
    a, b = _bools(ctx, left), _bools(ctx, right)
    shape = broadcast_shapes([(a.shape, left.span), (b.shape, right.span)])
    x, y = spread(ctx, a, shape), spread(ctx, b, shape)
    return Leaf(getattr(ctx.g, f"logical_{word}")(x.value, y.value))


@evaluates(t.Logical)
def logical(ctx: Context, node: t.Logical) -> Bound:
    """`a and b`: on scalars the right side runs only if the left side leaves the answer open."""
    result = Binding(ctx.evaluate(node.operands[0]), node.operands[0].span)
    for operand in node.operands[1:]:
        result = Binding(_short_circuit(ctx, node.operator, result, operand), result.span.to(operand.span))
    return result.value


def _short_circuit(ctx: Context, word: str, left: Binding, right: t.Expression) -> Bound:
    value = left.value
    if isinstance(value, Literal) and value.value is (word == "or"):
        return value
    if not isinstance(value, Leaf) or value.shape:
        return logic(ctx, word, left, Binding(ctx.evaluate(right), right.span))
    probe = ctx.g.child()
    with ctx.region(probe):
        tried = ctx.evaluate(right)
    is_harmless = all(made.op.name in HARMLESS and not can_fault(made) for made in probe.nodes)
    if is_harmless or (isinstance(tried, Leaf) and tried.shape):
        return logic(ctx, word, left, Binding(ctx.evaluate(right), right.span))

    def run(side: Builder) -> list[Value]:
        with ctx.region(side):
            return [truth(ctx, Binding(ctx.evaluate(right), right.span)).value]

    def known(side: Builder) -> list[Value]:
        return [side.constant(word == "or", BOOL)]

    condition = truth(ctx, left).value
    then, otherwise = (run, known) if word == "and" else (known, run)
    (result,) = ctx.g.if_(condition, then, otherwise)
    return Leaf(result)


def floats(ctx: Context, operand: Binding) -> Leaf:
    """A number as a float graph value: integers become floats, weakly."""
    value: Number = number(operand)
    if isinstance(value, Leaf) and value.dtype.is_float:
        return value
    if kind_of(value) not in ("int", "float"):
        raise TypeMismatch.at(operand.span, "a number is wanted here", f"this is {describe(value)}")
    agreement: Agreement = fresh_dtype(ctx, F64)
    if isinstance(value, Literal):
        return Leaf(
            ctx.g.constant(checked(value.value, agreement.dtype, operand.span), agreement.dtype), agreement.weak
        )
    raw = ctx.g.number(value.size) if isinstance(value, Extent) else value.value
    return Leaf(cast_value(ctx, raw, agreement.dtype), agreement.weak)
