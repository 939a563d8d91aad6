"""Linear algebra of matrices: systems, determinants, factorisations.

What has no answer (a singular matrix, one that is not positive definite) stops the program with a located message;
with `checks="off"` the result is NaN or infinite.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.errors import SizeMismatch, Span, TypeMismatch
from dgraph.frontend.builtins import take
from dgraph.frontend.context import Arguments, Context, builtin
from dgraph.frontend.joins import choose
from dgraph.frontend.numbers import Agreement, agree, number, shape_text, to_leaf
from dgraph.frontend.operators import floats
from dgraph.frontend.ranges import holds
from dgraph.frontend.values import Binding, Bound, Leaf, Literal, TupleValue, describe
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ir.op import OPS
from dgraph.ops.check import Check
from dgraph.ops.elementwise import array_type
from dgraph.sizes import Size, product

# ---- arguments ------------------------------------------------------------------------------------------------------


def _matrix(ctx: Context, word: str, given: Binding) -> Leaf:
    """An argument that is a matrix of floats."""
    leaf = floats(ctx, given)
    if len(leaf.shape) != 2:
        note = "for many matrices write `vmap`, or a formula over their indices" if len(leaf.shape) > 2 else ""
        raise TypeMismatch.at(given.span, f"`{word}` takes a matrix", f"this is {describe(leaf)}", note=note)
    return leaf


def _square(ctx: Context, word: str, given: Binding) -> Leaf:
    """An argument that is a square matrix of floats."""
    leaf = _matrix(ctx, word, given)
    _require_square(word, leaf, given.span)
    return leaf


def _require_square(word: str, leaf: Leaf, span: Span) -> None:
    rows, columns = leaf.shape
    if rows != columns:
        note = f"if {rows} and {columns} are equal, say so before: `assert {rows} == {columns}`"
        fixed = rows.constant is not None and columns.constant is not None
        said = f"this is {describe(leaf)}"
        raise SizeMismatch.at(span, f"`{word}` takes a square matrix", said, note="" if fixed else note)


def _system(ctx: Context, word: str, a: Binding, b: Binding) -> tuple[Leaf, Leaf, Agreement]:
    """A matrix and what stands on the right side of its equation, of one dtype."""
    agreement = agree(ctx, [a, b], to_float=True)
    left, right = (to_leaf(ctx, number(side), agreement, side.span) for side in (a, b))
    if len(left.shape) != 2:
        raise TypeMismatch.at(a.span, f"`{word}` takes a matrix", f"this is {describe(left)}")
    if not right.shape:
        raise TypeMismatch.at(b.span, f"`{word}` takes a vector or a matrix", f"this is {describe(right)}")
    if right.shape[0] != left.shape[0]:
        raise SizeMismatch.at(
            b.span,
            f"`{word}` of {left.shape[0]} equations for {right.shape[0]} numbers",
            shape_text(right.shape),
            also=[(a.span, shape_text(left.shape))],
        )
    return left, right, agreement


def _flag(found: dict[str, Binding], name: str, default: bool) -> bool:
    given = found.get(name)
    if given is None:
        return default
    if not isinstance(given.value, Literal) or not isinstance(given.value.value, bool):
        raise TypeMismatch.at(given.span, f"`{name}` is True or False", f"this is {describe(given.value)}")
    return given.value.value


def _as_matrix(g: Builder, b: Value) -> Value:
    """What stands on the right side as a vector or a matrix."""
    shape = array_type(b).shape
    return b if len(shape) <= 2 else g.reshape(b, shape=(shape[0], product(shape[1:])))


def _as_given(g: Builder, x: Value, b: Value) -> Value:
    """A solution with the axes of the right side behind its own."""
    rest = array_type(b).shape[1:]
    return x if len(rest) <= 1 else g.reshape(x, shape=(array_type(x).shape[0], *rest))


# ---- checks ---------------------------------------------------------------------------------------------------------


def _require(ctx: Context, holds_: Value, message: str, span: Span) -> None:
    """Check, as the program runs, that a factorisation exists."""
    if ctx.reads is None:
        with ctx.g.at(span=span):
            ctx.g.apply(Check(message=message), holds_)


def _diagonal_holds(g: Builder, matrix: Value, relation: str, limit: Value) -> Value:
    """Whether every entry of a diagonal, by its absolute value, is in a relation to a limit."""
    extent = array_type(matrix).shape[1]

    def entry(h: Builder, i: Value) -> Value:
        found: Value = getattr(h, relation)(h.index(matrix, i, i, policy="proven"), limit)
        return found

    return g.reduce_all(g.map((extent,), entry), axes=(0,))


def _require_tall(ctx: Context, word: str, leaf: Leaf, span: Span) -> None:
    """A matrix must have at least as many rows as columns."""
    m, n = leaf.shape
    if holds(m - n, ctx.ranges, ctx.facts):
        return
    title = f"`{word}` takes a matrix with at least as many rows as columns"
    if holds(n - m - 1, ctx.ranges, ctx.facts):
        raise SizeMismatch.at(span, title, describe(leaf), note="take the factors of its transpose: `a.T`")
    rows, columns = ctx.g.number(m), ctx.g.number(n)
    if ctx.reads is None:
        with ctx.g.at(span=span):
            names = (str(m), str(n))
            ctx.g.apply(Check(message=title, names=names), ctx.g.greater_equal(rows, columns), rows, columns)


# ---- systems --------------------------------------------------------------------------------------------------------


def _factors(ctx: Context, a: Value) -> Sequence[Value]:
    """A matrix with its factors, as the ops that solve with them take it."""
    return a, *ctx.g.apply(OPS["lu"](), ctx.g.stop_gradient(a))


def _regular_factors(ctx: Context, word: str, a: Value, span: Span) -> Sequence[Value]:
    """The same, for a matrix that must not be singular."""
    factors = _factors(ctx, a)
    zero = ctx.g.constant(0.0, array_type(a).dtype)
    _require(
        ctx,
        _diagonal_holds(ctx.g, factors[1], "not_equal", zero),
        f"the matrix is singular: `{word}` has no answer",
        span,
    )
    return factors


@builtin("solve")
def solve(ctx: Context, arguments: Arguments) -> Bound:
    """`solve(a, b)`: the x with `a @ x = b`, for a square matrix; stops at a singular one."""
    found = take(arguments, "solve", ["a", "b"], 2)
    a, b, agreement = _system(ctx, "solve", found["a"], found["b"])
    _require_square("solve", a, found["a"].span)
    factors = _regular_factors(ctx, "solve", a.value, arguments.span)
    x = ctx.g.lu_solve(*factors, _as_matrix(ctx.g, b.value))
    return Leaf(_as_given(ctx.g, x, b.value), agreement.weak)


@builtin("inv")
def inv(ctx: Context, arguments: Arguments) -> Bound:
    """`inv(a)`: the inverse of a square matrix; stops at a singular one. `solve` is faster and more accurate."""
    given = take(arguments, "inv", ["a"], 1)["a"]
    a = _square(ctx, "inv", given)
    n = a.shape[0]

    def unit(h: Builder, i: Value, j: Value) -> Value:
        return h.cast(h.equal(i, j), dtype=a.dtype)

    factors = _regular_factors(ctx, "inv", a.value, arguments.span)
    return Leaf(ctx.g.lu_solve(*factors, ctx.g.map((n, n), unit)), a.weak)


@builtin("logdet")
def logdet(ctx: Context, arguments: Arguments) -> Bound:
    """`logdet(a)`: the logarithm of the absolute value of the determinant; -inf for a singular matrix."""
    a = _square(ctx, "logdet", take(arguments, "logdet", ["a"], 1)["a"])
    return Leaf(ctx.g.lu_logdet(*_factors(ctx, a.value)), a.weak)


@builtin("_regular_det")
def regular_det(ctx: Context, arguments: Arguments) -> Bound:
    """The determinant of a matrix that is not singular, and the ratio of its smallest pivot to the largest one: by
    `det` of `std/linalg.dg`."""
    a = _square(ctx, "det", take(arguments, "det", ["a"], 1)["a"])
    factors = _factors(ctx, a.value)
    g, (_, n) = ctx.g, a.shape
    pivots = g.map((n,), lambda h, i: h.abs(h.index(factors[1], i, i, policy="proven")))
    smallest, greatest = g.reduce_min(pivots, axes=(0,)), g.reduce_max(pivots, axes=(0,))
    return TupleValue((Leaf(g.lu_det(*factors), a.weak), Leaf(smallest, a.weak), Leaf(greatest, a.weak)))


@builtin("triangular_solve")
def triangular_solve(ctx: Context, arguments: Arguments) -> Bound:
    """`triangular_solve(l, b, lower=True, transpose=False, unit=False)`: the x with `l @ x = b` for a triangle, whose
    other half is not read; with its transpose, or a diagonal of ones, if asked. Stops at a zero on the diagonal."""
    names = ["l", "b", "lower", "transpose", "unit"]
    found = take(arguments, "triangular_solve", names, 2)
    triangle, b, agreement = _system(ctx, "triangular_solve", found["l"], found["b"])
    _require_square("triangular_solve", triangle, found["l"].span)
    lower, transpose, unit = _flag(found, "lower", True), _flag(found, "transpose", False), _flag(found, "unit", False)
    if not unit:
        zero = ctx.g.constant(0.0, triangle.dtype)
        regular = _diagonal_holds(ctx.g, triangle.value, "not_equal", zero)
        _require(ctx, regular, "the triangle has a zero on its diagonal", arguments.span)
    right = _as_matrix(ctx.g, b.value)
    x = ctx.g.triangular_solve(triangle.value, right, lower=lower, transpose_a=transpose, unit=unit)
    return Leaf(_as_given(ctx.g, x, b.value), agreement.weak)


@builtin("lstsq")
def lstsq(ctx: Context, arguments: Arguments) -> Bound:
    """`lstsq(a, b)`: the x that makes the norm of `a @ x - b` least; of all such x, if there are more columns than
    rows, the one of least norm. Stops unless the columns (or the rows, if there are fewer) are independent."""
    found = take(arguments, "lstsq", ["a", "b"], 2)
    a, b, agreement = _system(ctx, "lstsq", found["a"], found["b"])
    m, n = a.shape
    span = arguments.span

    def tall() -> tuple[Bound, Span]:
        q, r = _independent_factors(ctx, a.value, m, span)
        right = ctx.g.dot(q, _as_matrix(ctx.g, b.value), transpose_a=True)
        return Leaf(_as_given(ctx.g, ctx.g.triangular_solve(r, right, lower=False), b.value)), span

    def wide() -> tuple[Bound, Span]:
        q, r = _independent_factors(ctx, ctx.g.transpose(a.value, axes=(1, 0)), n, span)
        right = ctx.g.triangular_solve(r, _as_matrix(ctx.g, b.value), lower=False, transpose_a=True)
        return Leaf(_as_given(ctx.g, ctx.g.dot(q, right), b.value)), span

    if holds(m - n, ctx.ranges, ctx.facts):
        x = tall()[0]
    elif holds(n - m, ctx.ranges, ctx.facts):
        x = wide()[0]
    else:
        is_tall = ctx.g.greater_equal(ctx.g.number(m), ctx.g.number(n))
        x = choose(ctx, is_tall, tall, wide, widen=False)
    assert isinstance(x, Leaf)
    return Leaf(x.value, agreement.weak)


def _independent_factors(ctx: Context, a: Value, rows: Size, span: Span) -> tuple[Value, Value]:
    """The QR factors of a matrix whose columns must be independent."""
    g, dtype = ctx.g, array_type(a).dtype
    q, r = g.apply(OPS["qr"](), a)
    (n, _) = array_type(r).shape
    still = g.stop_gradient(r)
    greatest = g.reduce_max(g.map((n,), lambda h, i: h.index(still, i, i, policy="proven")), axes=(0,))
    unit = g.constant(float(_rounding(dtype.name)), dtype)
    limit = g.mul(g.mul(unit, g.cast(g.number(rows), dtype=dtype)), greatest)
    is_full = _diagonal_holds(g, still, "greater", limit)
    kind = "columns or rows of the matrix are dependent: `lstsq` has no one answer"
    _require(ctx, is_full, kind, span)
    return q, r


def _rounding(dtype: str) -> float:
    return 2.0**-52 if dtype == "f64" else 2.0**-23


# ---- factorisations -------------------------------------------------------------------------------------------------


@builtin("cholesky")
def cholesky(ctx: Context, arguments: Arguments) -> Bound:
    """`cholesky(a)`: the lower triangle l with positive diagonal and `l @ l.T = (a + a.T) / 2`; stops unless that is
    positive definite."""
    a = _square(ctx, "cholesky", take(arguments, "cholesky", ["a"], 1)["a"])
    factor = ctx.g.cholesky(a.value)
    zero = ctx.g.constant(0.0, a.dtype)
    is_factor = _diagonal_holds(ctx.g, factor, "greater", zero)
    _require(ctx, is_factor, "the matrix is not positive definite: `cholesky` has no factor", arguments.span)
    return Leaf(factor, a.weak)


@builtin("qr")
def qr(ctx: Context, arguments: Arguments) -> Bound:
    """`q, r = qr(a)`: orthonormal columns and an upper triangle, whose diagonal is not negative, with `q @ r = a`, for
    at least as many rows as columns."""
    return _factorisation(ctx, "qr", _tall(ctx, "qr", arguments))


@builtin("eigh")
def eigh(ctx: Context, arguments: Arguments) -> Bound:
    """`w, v = eigh(a)`: the eigenvalues of `(a + a.T) / 2` in ascending order, and the eigenvectors as columns. Where
    eigenvalues coincide there are derivatives of what is the same for every basis and depends on w or on v alone."""
    return _factorisation(ctx, "eigh", _square(ctx, "eigh", take(arguments, "eigh", ["a"], 1)["a"]))


@builtin("svd")
def svd(ctx: Context, arguments: Arguments) -> Bound:
    """`u, s, vt = svd(a)`: `u @ diag(s) @ vt = a` with orthonormal columns of u and rows of vt, and s descending, for
    at least as many rows as columns. Where values of s coincide the same holds as for `eigh`."""
    return _factorisation(ctx, "svd", _tall(ctx, "svd", arguments))


def _tall(ctx: Context, word: str, arguments: Arguments) -> Leaf:
    """The only argument: a matrix with at least as many rows as columns."""
    given = take(arguments, word, ["a"], 1)["a"]
    a = _matrix(ctx, word, given)
    _require_tall(ctx, word, a, given.span)
    return a


def _factorisation(ctx: Context, word: str, a: Leaf) -> TupleValue:
    """The factors that the op of that name gives, as a tuple."""
    return TupleValue(tuple(Leaf(value, a.weak) for value in ctx.g.apply(OPS[word](), a.value)))
