"""Numbers: literals, sizes and graph values meeting in arithmetic, and the dtypes that they agree on."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

from dgraph.classes import dataclass
from dgraph.errors import NotSupported, SizeMismatch, Span, TypeMismatch
from dgraph.frontend.context import Context, Retype, place_of_key
from dgraph.frontend.values import Binding, Bound, Extent, Leaf, Literal, Pending, WeakKey, describe
from dgraph.ir.graph import Value
from dgraph.sizes import Size, size, variable
from dgraph.types import BOOL, F32, F64, I32, I64, Array, DType, Shape

Number = Leaf | Literal | Extent
WIDEST = 2**63


def is_number(value: Bound) -> bool:
    """Whether a value can stand in arithmetic as it is."""
    return isinstance(value, Leaf | Literal | Extent)


def number(binding: Binding, what: str = "a number") -> Number:
    """The value as a number, or an error that says what it is instead."""
    value = binding.value
    if isinstance(value, Leaf | Literal | Extent):
        return value
    if isinstance(value, Pending):
        note = f"give it a typed binding, `like=`, or a shape: `{value.words}(n)`"
        raise TypeMismatch.at(binding.span, f"`{value.words}` has no shape here", "takes the type it meets", note=note)
    raise TypeMismatch.at(binding.span, f"{what} is wanted here", f"this is {describe(value)}")


# ---- dtypes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """The dtype that several numbers share, and how firmly."""

    dtype: DType
    weak: frozenset[WeakKey] = frozenset()
    soft: bool = False


def kind_of(value: Number) -> str:
    """float, int, bool or key."""
    if isinstance(value, Leaf):
        return value.dtype.kind
    if isinstance(value, Extent):
        return "int"
    return "bool" if isinstance(value.value, bool) else "int" if isinstance(value.value, int) else "float"


def agree(
    ctx: Context, parts: Sequence[Binding], *, unify: bool = True, to_float: bool = False, bools: bool = False
) -> Agreement:
    """The dtype in which numbers meet.

    Literals and weak values take the dtype of the others; an integer that meets a float becomes that float. With
    `unify` false (comparisons) soft and weak integers widen without binding anyone. Bools agree only where `bools`
    allows them, among themselves.
    """
    numbers = [number(part) for part in parts]
    kinds = {kind_of(value) for value in numbers}
    if "key" in kinds:
        at = next(part for part, value in zip(parts, numbers, strict=True) if kind_of(value) == "key")
        raise TypeMismatch.at(at.span, "a key is not a number", "this is a key", note="draw with it: `normal(key)`")
    if "bool" in kinds:
        if kinds == {"bool"} and bools:
            return Agreement(BOOL)
        at = next(part for part, value in zip(parts, numbers, strict=True) if kind_of(value) == "bool")
        other = next((part for part, value in zip(parts, numbers, strict=True) if kind_of(value) != "bool"), at)
        raise TypeMismatch.at(
            at.span,
            "a bool is not a number",
            "this is a bool",
            also=[] if other is at else [(other.span, describe(other.value))],
            note="write `f32(...)` or `i32(...)` around it, or choose: `1.0 if c else 0.0`",
        )
    wanted = "float" if to_float or "float" in kinds else "int"
    same = [
        (value, part.span)
        for value, part in zip(numbers, parts, strict=True)
        if isinstance(value, Leaf) and value.dtype.kind == wanted
    ]
    firm = [(value, span) for value, span in same if not value.weak and not value.soft]
    weak = [value for value, _ in same if value.weak]
    if firm:
        dtype = firm[0][0].dtype
        for value, span in firm[1:]:
            if value.dtype != dtype:
                raise _mixed(firm[0], (value, span))
        for value in weak:
            require_dtype(value, dtype, firm[0][1])
        return Agreement(dtype)
    is_soft = any(value.soft for value, _ in same) or any(isinstance(value, Extent) for value in numbers)
    if weak and (unify or wanted == "float" or not is_soft):
        return _agree_weakly(weak, is_soft, wanted)
    if wanted == "int":
        return Agreement(I64, soft=True) if is_soft else fresh_dtype(ctx, I32)
    return fresh_dtype(ctx, F64)


def fresh_dtype(ctx: Context, default: DType, *extra: object) -> Agreement:
    """The dtype of a value made of literals alone: the default until it meets another one."""
    key = ctx.weak_key(default.kind, *extra)
    if ctx.precision is not None and default is F64:
        default = ctx.precision
    return Agreement(ctx.frame.choices.get(key, default), frozenset([key]))


def _agree_weakly(weak: Sequence[Leaf], with_soft: bool, wanted: str) -> Agreement:
    """Weak values alone: they take the dtype that any of them was already found to need."""
    dtypes = {value.dtype for value in weak}
    needed = next((value.dtype for value in weak if any(_is_needed(key) for key in value.weak)), None)
    if wanted == "int":
        dtype = needed or (I64 if with_soft or I64 in dtypes else next(iter(dtypes)))
    else:
        dtype = F32 if F32 in dtypes else F64
    for value in weak:
        require_dtype(value, dtype, None, yields=wanted == "int" and needed is None)
    return Agreement(dtype, frozenset().union(*(value.weak for value in weak)))


def _is_needed(key: WeakKey) -> bool:
    """Whether a use that does not yield decided the dtype of a literal."""
    return key in key[0].choices and key not in key[0].yielding


def require_dtype(value: Leaf, dtype: DType, span: Span | None, *, yields: bool = False) -> None:
    """Make the literals behind a weak value take a dtype: starts the frame that owns them again."""
    if value.dtype == dtype:
        return
    for key in value.weak:
        chosen = key[0].choices.get(key)
        if chosen is None or (chosen != dtype and key in key[0].yielding):
            raise Retype(key, dtype, yields=yields)
        if chosen != dtype:
            place = place_of_key(key)
            also = [] if span is None else [(span, str(dtype))]
            raise TypeMismatch.at(
                place, f"this must be {chosen} in one use and {dtype} in another", str(chosen), also=also
            )


def _mixed(first: tuple[Leaf, Span], second: tuple[Leaf, Span]) -> TypeMismatch:
    (a, here), (b, there) = first, second
    return TypeMismatch.at(
        there,
        f"{a.dtype} and {b.dtype} do not mix",
        str(b.type),
        also=[(here, str(a.type))],
        note=f"cast one of them: `{a.dtype}(...)` or `{b.dtype}(...)`",
    )


# ---- into the graph -------------------------------------------------------------------------------------------------


def to_leaf(ctx: Context, value: Number, agreement: Agreement, span: Span) -> Leaf:
    """The number as a graph value of the dtype agreed on."""
    dtype = agreement.dtype
    if isinstance(value, Literal):
        made = Leaf(ctx.g.constant(checked(value.value, dtype, span), dtype), agreement.weak)
        is_whole = type(value.value) is int and dtype.kind == "int"
        return Leaf(made.value, made.weak, agreement.soft, size(int(value.value))) if is_whole else made
    if isinstance(value, Extent):
        counted = ctx.g.number(value.size)
        affine = value.size if dtype.kind == "int" else None
        return Leaf(cast_value(ctx, counted, dtype), agreement.weak, agreement.soft, affine)
    same = value.dtype.kind == dtype.kind
    return Leaf(
        cast_value(ctx, value.value, dtype),
        value.weak if same else agreement.weak,
        value.soft and agreement.soft,
        recast_affine(value, dtype),
    )


def cast_value(ctx: Context, value: Value, dtype: DType) -> Value:
    """A graph value of another dtype; itself if it has it."""
    assert isinstance(value.type, Array)
    return value if value.type.dtype == dtype else ctx.g.cast(value, dtype=dtype)


def checked(value: bool | int | float, dtype: DType, span: Span) -> bool | int | float:
    """A literal in a dtype, if it fits."""
    if dtype.kind == "float":
        return float(value)
    if dtype.kind == "int":
        if isinstance(value, float):
            title = f"{dtype} is wanted here"
            note = f"a float never becomes an integer by itself: write `{dtype}(floor(x))`"
            raise TypeMismatch.at(span, title, "a float literal", note=note)
        low, high = (0, 256) if dtype.name == "u8" else (-(2 ** (8 * dtype.bytes - 1)), 2 ** (8 * dtype.bytes - 1))
        if not low <= value < high:
            said = f"{dtype} holds {low} to {high - 1}"
            note = "take a wider type, or write it as a float: `1e9`"
            raise TypeMismatch.at(span, f"{value} does not fit in {dtype}", said, note=note)
    return value


def materialise(ctx: Context, value: Bound, span: Span, *extra: object) -> Leaf:
    """A number as a graph value; a literal takes its default dtype, weakly. `extra` tells apart literals that one
    node materialises."""
    found = number(Binding(value, span))
    if isinstance(found, Leaf):
        return found
    if isinstance(found, Extent):
        return to_leaf(ctx, found, Agreement(I64, soft=True), span)
    if isinstance(found.value, bool):
        return to_leaf(ctx, found, Agreement(BOOL), span)
    return to_leaf(ctx, found, fresh_dtype(ctx, I32 if isinstance(found.value, int) else F64, *extra), span)


def index_value(ctx: Context, binding: Binding) -> Leaf:
    """An integer as an i64 scalar, for an index or a count."""
    found = number(binding, "an integer")
    if kind_of(found) != "int" or (isinstance(found, Leaf) and found.shape):
        note = "write `i32(floor(x))`" if kind_of(found) == "float" else ""
        raise TypeMismatch.at(binding.span, "an integer is wanted here", f"this is {describe(found)}", note=note)
    return to_leaf(ctx, found, Agreement(I64, soft=True), binding.span)


def truth(ctx: Context, binding: Binding) -> Leaf:
    """A scalar condition."""
    found = number(binding, "a condition")
    if kind_of(found) != "bool" or (isinstance(found, Leaf) and found.shape):
        note = "reduce it with `any` or `all`" if kind_of(found) == "bool" else "compare it: `x != 0`"
        raise TypeMismatch.at(binding.span, "a condition is one bool", f"this is {describe(found)}", note=note)
    return materialise(ctx, found, binding.span)


def affine_of(value: Bound) -> Size | None:
    """An integer as a polynomial over sizes and indices, where that is known."""
    if isinstance(value, Extent):
        return value.size
    if isinstance(value, Literal) and type(value.value) is int:
        return size(value.value)
    if isinstance(value, Leaf) and value.dtype.kind == "int" and not value.shape:
        return variable(value.value) if value.affine is None else value.affine
    return None


def recast_affine(value: Leaf, dtype: DType) -> Size | None:
    """What stays known of an integer that becomes another dtype. An i64 made from a narrower one may have wrapped
    before, so nothing is known of it: what is proven rests on i64 arithmetic only."""
    is_exact = dtype.kind == "int" and (dtype != I64 or value.dtype == I64)
    return affine_of(value) if is_exact else None


def has_values(expression: Size) -> bool:
    """Whether an expression depends on values of the graph, so that it is no size."""
    return any(isinstance(atom, Value) for atom in expression.atoms())


def index_leaf(ctx: Context, value: Value, low: Size, high: Size) -> Leaf:
    """An index variable of the graph with the range that it runs over."""
    ctx.ranges[value] = (low, high)
    return Leaf(value, soft=True, affine=variable(value))


# ---- shapes ---------------------------------------------------------------------------------------------------------


def broadcast_shapes(shapes: Sequence[tuple[Shape, Span]]) -> Shape:
    """The common shape: scalars go with anything, otherwise trailing axes are equal or the literal 1."""
    result: tuple[Size, ...] = ()
    owner: Span | None = None
    for shape, span in shapes:
        rank = max(len(result), len(shape))
        mine = (size(1),) * (rank - len(shape)) + shape
        held = (size(1),) * (rank - len(result)) + result
        merged = []
        for a, b in zip(held, mine, strict=True):
            if a != b and not a.is_literal_one and not b.is_literal_one:
                also = [] if owner is None else [(owner, f"shape {shape_text(result)}")]
                raise SizeMismatch.at(
                    span,
                    f"the shapes {shape_text(result)} and {shape_text(shape)} do not fit",
                    f"shape {shape_text(shape)}",
                    also=also,
                    note=f"{a} and {b} are not the same size for all values; only a literal 1 stretches",
                )
            merged.append(b if a.is_literal_one else a)
        if shape:
            owner = span
        result = tuple(merged)
    return result


def counted(count: int, word: str) -> str:
    """`1 argument`, `2 arguments`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def shape_text(shape: Shape) -> str:
    """A shape as the reader writes it."""
    return f"[{', '.join(map(str, shape))}]" if shape else "of a scalar"


def spread(ctx: Context, leaf: Leaf, shape: Shape) -> Leaf:
    """The value broadcast to a shape."""
    if leaf.shape == shape:
        return leaf
    return Leaf(ctx.g.widen(leaf.value, shape), leaf.weak, leaf.soft)


def meet(
    ctx: Context, parts: Sequence[Binding], *, unify: bool = True, to_float: bool = False, bools: bool = False
) -> list[Leaf]:
    """Numbers as graph values of one dtype and one shape."""
    agreement = agree(ctx, parts, unify=unify, to_float=to_float, bools=bools)
    leaves = [to_leaf(ctx, number(part), agreement, part.span) for part in parts]
    shape = broadcast_shapes([(leaf.shape, part.span) for leaf, part in zip(leaves, parts, strict=True)])
    marks = agreement.weak, agreement.soft
    return [Leaf(wide.value, *marks, wide.affine) for wide in (spread(ctx, leaf, shape) for leaf in leaves)]


# ---- static arithmetic ----------------------------------------------------------------------------------------------

_INTEGERS: dict[str, Callable[[Size, Size], Size]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}
_FLOATS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def fold_static(symbol: str, a: Literal | Extent, b: Literal | Extent, span: Span) -> Bound | None:
    """The result of an operator on literals and sizes, if it is static too."""
    one, two = affine_of(a), affine_of(b)
    if one is not None and two is not None:
        is_literal = isinstance(a, Literal) and isinstance(b, Literal)
        if symbol == "**":
            return _fold_power(a, one, two, span)
        if symbol in _INTEGERS:
            if symbol in ("//", "%") and two.constant == 0:
                note = "`/` divides floats, and gives `inf` or `nan` there"
                raise TypeMismatch.at(span, "division by zero", "integers have no such quotient", note=note)
            folded = _INTEGERS[symbol](one, two)
            if folded.constant is not None and abs(folded.constant) > WIDEST:
                raise TypeMismatch.at(span, "this number does not fit in 64 bits", note="write floats: `9e9 * 9e9`")
            return Literal(folded.constant) if is_literal and folded.constant is not None else Extent(folded)
    if not (isinstance(a, Literal) and isinstance(b, Literal)):
        return None
    if isinstance(a.value, bool) or isinstance(b.value, bool):
        note = "write a number, or choose: `1.0 if c else 0.0`"
        raise TypeMismatch.at(span, "a bool is not a number", "a literal bool", note=note)
    x, y = float(a.value), float(b.value)
    try:
        if symbol == "/":
            return Literal(x / y if y else math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, x))
        result = _FLOATS[symbol](x, y)
    except ZeroDivisionError:
        return Literal(math.nan if symbol != "**" else math.inf)
    except OverflowError:
        return Literal(math.inf)
    return Literal(result) if isinstance(result, float) else Literal(math.nan)


def _fold_power(a: Bound, base: Size, exponent: Size, span: Span) -> Bound | None:
    power = exponent.constant
    if power is None:
        return None
    if power < 0:
        held = base.constant
        return None if held is None else Literal(math.inf if held == 0 else float(held) ** power)
    if power > 64 or (base.constant is not None and power * max(1, base.constant.bit_length()) > 64):
        if base.constant in (0, 1, -1):
            return Literal(int(base.constant) ** power)
        raise NotSupported.at(span, "this power does not fit in 64 bits", note="write a float: `10.0 ** 100`")
    result = base**power
    return Literal(result.constant) if isinstance(a, Literal) and result.constant is not None else Extent(result)
