"""Operands to try each op on: types with the sizes n, m and k, and what to draw.

`CASES` holds at least one case for every op of the table, except for the ops of `ELSEWHERE`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import dgraph.ops  # noqa: F401
from dgraph.ir.op import OPS, Op, RegionOp
from dgraph.ops.elementwise import Elementwise
from dgraph.sizes import size, variable
from dgraph.types import BOOL, F32, F64, I32, I64, KEY, U8, Array, DType

n, m, k = map(variable, "nmk")
one, zero, two = size(1), size(0), size(2)

BINDINGS = [{"n": 3, "m": 2, "k": 4}, {"n": 1, "m": 1, "k": 1}, {"n": 0, "m": 2, "k": 3}, {"n": 2, "m": 3, "k": 0}]

DISK = {"disk_write", "disk_read", "disk_drop", "disk_distance", "disk_advance", "disk_worth"}
ELSEWHERE = {"at_step", "fresh", "freeze", "accumulate", "undefined", "zero_tape", *DISK} | {
    name for name, kind in OPS.items() if issubclass(kind, RegionOp)
}
"""Ops on accumulators, tapes and states on disk, the note of a step, and ops with regions: tested with index spaces and
loops."""

Draw = Callable[[np.random.Generator, tuple[int, ...], np.dtype], np.ndarray]


def normal(rng, shape, dtype):
    """Numbers of any sign, none near 0."""
    return (rng.uniform(0.3, 1.9, shape) * rng.choice([-1, 1], shape)).astype(dtype)


def positive(rng, shape, dtype):
    return np.abs(normal(rng, shape, dtype))


def inner(rng, shape, dtype):
    return rng.uniform(-0.9, 0.9, shape).astype(dtype)


def near_five(rng, shape, dtype):
    """Where shifted and reflected series both matter, away from the poles."""
    return (rng.integers(-5, 5, shape) + rng.uniform(0.2, 0.8, shape)).astype(dtype)


def integers(rng, shape, dtype):
    low = 0 if np.dtype(dtype).kind == "u" else -9
    return rng.integers(low, 10, shape).astype(dtype)


def nonzero(rng, shape, dtype):
    return (rng.integers(1, 6, shape) * (1 if np.dtype(dtype).kind == "u" else rng.choice([-1, 1], shape))).astype(
        dtype
    )


def bools(rng, shape, _):
    return rng.random(shape) < 0.5


def keys(rng, shape, _):
    return rng.integers(0, 2**64, shape, np.uint64)


def with_zeros(rng, shape, dtype):
    return normal(rng, shape, dtype) * (rng.random(shape) < 0.6).astype(dtype)


def with_ties(rng, shape, _):
    """Few different numbers, zeros of both signs, infinities and NaN."""
    return rng.choice([0.0, -0.0, 1.0, -np.inf, np.inf, np.nan], shape)


def ascending(rng, shape, dtype):
    draw = integers if np.dtype(dtype).kind in "iu" else normal
    return np.sort(draw(rng, shape, dtype))


def spread(rng, shape, dtype):
    """Numbers that are far apart."""
    return rng.permutation(np.linspace(-1, 2, *shape)).astype(dtype)


def side_by_side(rng, shape, dtype):
    """Diagonal matrices of numbers that are far apart."""
    return np.diag(spread(rng, shape[:1], dtype)) + np.zeros(shape, dtype)


def regular(rng, shape, dtype):
    """Matrices that are far from singular, and not symmetric."""
    return (rng.normal(size=shape) + 2 * shape[0] * np.eye(*shape)).astype(dtype)


def definite(rng, shape, dtype):
    """Matrices whose symmetric part is positive definite."""
    x = rng.normal(size=shape)
    return (x @ x.T + 2 * np.eye(*shape) + 0.1 * np.triu(x, 1)).astype(dtype)


def exchanges(rng, shape, _):
    """A later row for each row."""
    return np.array([rng.integers(k, shape[0]) for k in range(shape[0])], np.int64)


def below(extent: int) -> Draw:
    """An index below an extent."""
    return lambda rng, shape, _: rng.integers(0, extent, shape, np.int64)


def fixed(value: int | bool) -> Draw:
    """A given number."""
    return lambda _rng, shape, dtype: np.full(shape, value, dtype)


DEFAULT: dict[str, Draw] = {"float": normal, "int": integers, "bool": bools, "key": keys}


@dataclass(frozen=True)
class Case:
    """An op and the operand types to try it on. `draws` replaces what is drawn for an operand. What is drawn for a case
    that is not `smooth` may be where differences tell nothing. The operands in `held` are not moved: derivatives by
    them are another test's."""

    op: Op
    types: tuple[Array, ...]
    draws: dict[int, Draw] = field(default_factory=dict, hash=False)
    bindings: tuple[int, ...] = (0, 1, 2, 3)
    smooth: bool = True
    held: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        facts = ",".join(f"{name}={_fact(value)}" for name, value in self.op.facts.items())
        return f"{self.op.name}({facts}) " + " ".join(map(str, self.types))

    def operands(self, binding: dict[str, int], seed: int = 0) -> list:
        rng = np.random.default_rng(seed)
        found = []
        for position, type_ in enumerate(self.types):
            shape = tuple(extent.evaluate(binding.__getitem__) for extent in type_.shape)
            draw = self.draws.get(position, DEFAULT[type_.dtype.kind])
            found.append(np.asarray(draw(rng, shape, type_.dtype.numpy), type_.dtype.numpy)[()])
        return found


def _fact(value):
    return "(" + " ".join(map(str, value)) + ")" if isinstance(value, tuple) else str(value)


def array(dtype: DType, *shape) -> Array:
    return Array(dtype, tuple(map(size, shape)))


DRAWS: dict[str, dict[int, Draw]] = {
    "sqrt": {0: positive},
    "rsqrt": {0: positive},
    "log": {0: positive},
    "log1p": {0: positive},
    "asin": {0: inner},
    "acos": {0: inner},
    "pow": {0: positive},
    "lgamma": {0: near_five},
    "digamma": {0: near_five},
    "polygamma": {0: near_five},
}
"""Where an op is defined and smooth, if not everywhere."""

DTYPES = {"float": (F64, F32), "int": (I64, I32, U8), "bool": (BOOL,), "key": (KEY,)}


def _elementwise(op: Op) -> list[Case]:
    assert isinstance(op, Elementwise)
    dtypes = [dtype for kind in op.kinds for dtype in DTYPES[kind]]
    shapes = [(), (n,), (n, m)]
    return [
        Case(op, (Array(dtype, shape),) * (op.arity or 3), DRAWS.get(op.name, {}))
        for at, dtype in enumerate(dtypes)
        for shape in (shapes if at == 0 else shapes[-1:])
    ]


def _reductions(name: str, dtypes, draws=None) -> list[Case]:
    shapes = [((), ()), ((n,), (0,)), ((n, m), (0,)), ((n, m), (1,)), ((n, m, k), (0, 2)), ((n, m, k), (1, 2))]
    shapes.append(((n, m, k), (0, 1, 2)))
    return [
        Case(OPS[name](axes=axes), (Array(dtype, shape),), draws or {})
        for at, dtype in enumerate(dtypes)
        for shape, axes in (shapes if at == 0 else shapes[3:4])
    ]


def _floats(op: Op, *shapes, dtypes=(F64, F32), **facts) -> list[Case]:
    return [Case(op, tuple(Array(dtype, tuple(map(size, shape))) for shape in shapes), **facts) for dtype in dtypes]


def _contractions() -> list[Case]:
    found: list[Case] = []
    sums = [
        ("irk", "ijk", "irj", (n, m, k), (n, n, k)),
        ("ki", "kj", "ji", (k, n), (k, m)),
        ("irj", "kij", "rik", (n, m, k), (m, n, k)),
        ("rsi", "rkis", "irk", (n, k, m), (n, m, m, k)),
    ]
    for left, right, written, *shapes in sums:
        for triangle, shift in [("", 0), (left[0] + written[-1], 0), (written[-1] + written[0], 1), ("ik", -1)]:
            op = OPS["contract"](left=left, right=right, written=written, below=triangle, shift=shift)
            extents = op.extents(*(Array(F64, shape) for shape in shapes))
            found += _floats(op, *shapes, dtypes=(F64, F32, I32))
            found += _floats(op, *shapes, tuple(extents[letter] for letter in written))
    for left, right, written, *shapes in [
        ("i+aj+bq", "abqo", "ijo", (n + m, k + 2, m), (m + 1, 3, m, k), (n, k, k)),
        ("i+aj+bq", "ijo", "abqo", (n + m, k + 2, m), (n, k, k), (m + 1, 3, m, k)),
        ("ijo", "abqo", "i+aj+bq", (n, k, k), (m + 1, 3, m, k), (n + m, k + 2, m)),
        ("2i+aj+bq", "abqo", "ijo", (n * 2 + m, k + 3, m), (m + 1, 3, m, k), (n, k, k)),
        ("2i+a3jq", "ijo", "ajqo", (n * 2 + m, k * 3, m), (n, k, k), (m + 1, k, m, k)),
        ("ijo", "aqo", "2i+a3jq", (n, k, k), (m + 1, m, k), (n * 2 + m, k * 3, m)),
    ]:
        found += _floats(OPS["contract"](left=left, right=right, written=written), *shapes)
    return found


def _cases() -> list[Case]:
    found: list[Case] = []
    for name in sorted(OPS):
        if issubclass(OPS[name], Elementwise) and name not in ("select", "cast", "powi", "polygamma", "bits", "fold"):
            found += _elementwise(OPS[name]())
    for name in ("floor_divide", "mod"):
        op = OPS[name](policy="error")
        found += [Case(op, (array(dtype, n, m),) * 2, {1: nonzero}) for dtype in (I64, I32, U8, F64)]
    for exponent in (-3, -1, 0, 1, 2, 3, 7, 8):
        found += [
            case
            for case in _elementwise(OPS["powi"](exponent=exponent))
            if exponent >= 0 or case.types[0].dtype.is_float
        ]
    for order in (1, 2, 3):
        found += _elementwise(OPS["polygamma"](order=order))
    for lane in (0, 1):
        found += [Case(OPS["bits"](lane=lane), (Array(KEY, shape), Array(I64, shape))) for shape in [(), (n, m)]]
    for stream in (1, 2):
        found += [Case(OPS["fold"](stream=stream), (Array(KEY, shape), Array(I64, shape))) for shape in [(), (n,)]]
    for dtype in (F64, F32, I64, BOOL, KEY):
        for shape in [(), (n,), (n, m)]:
            found.append(Case(OPS["select"](), (Array(BOOL, shape), Array(dtype, shape), Array(dtype, shape))))
    numbers = (F64, F32, I64, I32, U8, BOOL)
    positive_to_unsigned = {0: positive}
    for given in numbers:
        for wanted in numbers:
            draws = positive_to_unsigned if given.is_float and wanted == U8 else {}
            found.append(Case(OPS["cast"](dtype=wanted), (array(given, n, m),), draws))
    found.append(Case(OPS["cast"](dtype=F32), (array(F64),)))
    for value, dtype in [
        (1.5, F64),
        (-0.0, F64),
        (np.nan, F64),
        (-np.inf, F32),
        (0.1, F32),
        (-3, I32),
        (300, U8),
        (True, BOOL),
        (2**63, KEY),
    ]:
        found.append(Case(OPS["constant"](value=value, dtype=dtype), ()))
    found.append(Case(OPS["size"](value=n * m - 1), ()))
    found.append(Case(OPS["iota"](extent=n * m), ()))
    found.append(Case(OPS["check"](message="no", names=("x",)), (array(BOOL), array(F64, n)), {0: fixed(True)}))

    for given, wanted in [
        ((), ()),
        ((), (n,)),
        ((), (n, m)),
        ((m,), (n, m)),
        ((1,), (n,)),
        ((1, m), (n, m)),
        ((n, 1), (n, m)),
        ((n, 1, k), (n, m, k)),
        ((1, 1), (k, n, m)),
        ((n, m), (n, m)),
    ]:
        found += _floats(OPS["broadcast"](shape=tuple(map(size, wanted))), given)
    found.append(Case(OPS["broadcast"](shape=(n, m)), (array(KEY),)))
    for given, wanted in [
        ((), (1, 1)),
        ((n, m), (n * m,)),
        ((n * m,), (n, m)),
        ((n * m,), (m, n)),
        ((n, m), (m, n)),
        ((n, m, k), (n, m * k)),
        ((n, m, k), (n * m, k)),
        ((n, 1, m), (n, m)),
        ((n,), (1, n, 1)),
        ((2 * n, k), (n, 2, k)),
        ((n, 2, m, k), (2 * n, k, m)),
        ((k, n, m), (m, n, k)),
        ((0, 3), (5, 0)),
        ((2, 0, 3), (2, 0)),
        ((n, m), (n, m)),
    ]:
        found += _floats(OPS["reshape"](shape=tuple(map(size, wanted))), given)
    for shape, axes in [((), ()), ((n,), (0,)), ((n, m), (1, 0)), ((n, m, k), (2, 0, 1)), ((n, m, k), (0, 2, 1))]:
        found += _floats(OPS["transpose"](axes=axes), shape)
    found.append(Case(OPS["transpose"](axes=(1, 0)), (array(BOOL, n, m),)))

    for given, starts, steps, taken in [
        ((n + 2,), (1,), (1,), (n,)),
        ((n,), (n - 1,), (-1,), (n,)),
        ((2 * n + 1,), (1,), (2,), (n,)),
        ((3 * n,), (3 * n - 1,), (-3,), (n,)),
        ((n + 1, m + 3), (1, 2), (1, 1), (n, m)),
        ((n, 2 * m), (n - 1, 0), (-1, 2), (n, m)),
        ((k + 1,), (k,), (1,), (1,)),
        ((), (), (), ()),
    ]:
        facts = {"starts": tuple(map(size, starts)), "steps": steps}
        found += _floats(OPS["slice"](**facts, shape=tuple(map(size, taken))), given)
        found += _floats(OPS["unslice"](**facts, shape=tuple(map(size, given))), taken)
    found.append(Case(OPS["unslice"](starts=(one,), steps=(1,), shape=(n + 2,)), (array(I32, n),)))

    found += _floats(OPS["after"](), (n, m), (n,))
    found += _floats(OPS["after"](), (), ())

    found += _floats(OPS["concat"](axis=0), (n,))
    found += _floats(OPS["concat"](axis=0), (n,), (m,), (2,))
    found += _floats(OPS["concat"](axis=1), (n, m), (n, k), (n, 1))
    found += _floats(OPS["concat"](axis=0), (n, m), (k, m))
    found.append(Case(OPS["concat"](axis=0), (array(BOOL, n), array(BOOL, m))))

    numbers = (F64, F32, I64, I32, U8)
    for name in ("reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin"):
        found += _reductions(name, numbers)
    found += _reductions("reduce_prod", numbers)
    found += _reductions("reduce_prod", (F64,), {0: with_zeros})
    found += _reductions("logsumexp", (F64, F32))
    for name in ("reduce_any", "reduce_all"):
        found += _reductions(name, (BOOL,))
    for name in ("cumsum", "cumprod"):
        for reverse in (False, True):
            for shape, axis in [((n,), 0), ((n, m), 0), ((n, m), 1), ((n, m, k), 1)]:
                op = OPS[name](axis=axis, reverse=reverse)
                found += [Case(op, (Array(dtype, shape),)) for dtype in (F64, F32, I32)]
                if name == "cumprod":
                    found.append(Case(op, (Array(F64, shape),), {0: with_zeros}))

    for name in ("sort", "argsort"):
        for descending in (False, True):
            for shape, axis in [((n,), 0), ((n, m), 0), ((n, m), 1), ((n, m, k), 1)]:
                op = OPS[name](axis=axis, descending=descending)
                found += [Case(op, (Array(dtype, shape),)) for dtype in numbers]
                found.append(Case(op, (Array(F64, shape),), {0: with_ties}, smooth=False))
    for right in (False, True):
        for dtype in numbers:
            for shape in [(), (m,), (m, k)]:
                types = Array(dtype, (n,)), Array(dtype, shape)
                found.append(Case(OPS["searchsorted"](right=right), types, {0: ascending}))
    for turn_a in (False, True):
        for turn_b in (False, True):
            op = OPS["dot"](transpose_a=turn_a, transpose_b=turn_b)
            a, b = ((k, n) if turn_a else (n, k)), ((m, k) if turn_b else (k, m))
            found += _floats(op, a, b, dtypes=(F64, F32, I32))
            found += _floats(op, (two, *a), (two, *b))
            found += _floats(op, (m, n, *a), (m, n, *b))
            if not turn_b:
                found += _floats(op, a, (k,))
            if not turn_a:
                found += _floats(op, (k,), b)
    found += _floats(OPS["dot"](), (k,), (k,), dtypes=(F64, F32, I64))
    found += _contractions()

    for lower in (False, True):
        for transpose_a in (False, True):
            for unit in (False, True):
                op = OPS["triangular_solve"](lower=lower, transpose_a=transpose_a, unit=unit)
                found += _floats(op, (n, n), (n,), draws={0: regular})
                found += _floats(op, (n, n), (n, k), draws={0: regular})
    found += _floats(OPS["cholesky"](), (n, n), draws={0: definite})
    found += _floats(OPS["lu"](), (n, n))
    for dtype in (F64, F32):
        factored = (Array(dtype, (n, n)), Array(dtype, (n, n)), array(I64, n))
        draws = {0: regular, 1: regular, 2: exchanges}
        for transpose_a in (False, True):
            for rest in [(), (m,)]:
                types = (*factored, Array(dtype, (n, *rest)))
                found.append(Case(OPS["lu_solve"](transpose_a=transpose_a), types, draws, held=(0, 1)))
        for name in ("lu_det", "lu_logdet"):
            found.append(Case(OPS[name](), factored, draws, held=(0, 1)))
    found += _floats(OPS["qr"](), (n + k, n))
    found += _floats(OPS["svd"](), (n + k, n))
    found += _floats(OPS["eigh"](), (n, n))
    for by, skew in (("gaps", False), ("gaps", True), ("sums", False), ("columns", False)):
        op, rows = OPS["over_blocks"](by=by, skew=skew), n + k if by == "columns" else n
        found += _floats(op, (n, n), (rows, n), draws={0: side_by_side}, held=(0,))
    found += _floats(OPS["eigh_blocks"](), (n, n), (n,), (n, n), draws={1: spread}, held=(0, 1, 2))
    found += _floats(OPS["svd_blocks"](), (n + k, n), (n + k, n), (n,), (n, n), draws={2: spread}, held=(0, 1, 2, 3))
    for vectors_only in (False, True):
        for skew in (False, True):
            op = OPS["over_gaps"](skew=skew, vectors_only=vectors_only, strict=True)
            found += _floats(op, (n,), (n, n), draws={0: spread})
            for draw in (regular, fixed(2)):
                found.append(Case(op, (array(F32, n), array(F32, n, n)), {0: fixed(1), 1: draw}, smooth=False))

    for count in (0, 1, 2, 5):
        found.append(Case(OPS["split"](count=count), (array(KEY),)))
    for shape in [(), (n,), (n, m, k)]:
        for dtype in (F64, F32):
            found.append(Case(OPS["uniform"](shape=shape, dtype=dtype), (array(KEY),)))
            found.append(Case(OPS["normal"](shape=shape, dtype=dtype), (array(KEY),)))
            found.append(Case(OPS["bernoulli"](shape=shape), (array(KEY), array(dtype)), {1: inner}))
            found.append(Case(OPS["bernoulli"](shape=shape), (array(KEY), Array(dtype, shape)), {1: inner}))
        for dtype in (I64, I32, U8):
            draws = {1: fixed(3), 2: fixed(20)}
            found.append(Case(OPS["randint"](shape=shape), (array(KEY), array(dtype), array(dtype)), draws))
    found.append(Case(OPS["permutation"](extent=n * k), (array(KEY),)))

    for dtype in (F64, F32, I64):
        found.append(Case(OPS["index"](), (array(dtype, n, m), array(I64)), {1: below(1)}, (0, 1, 3)))
        found.append(Case(OPS["index"](), (array(dtype, 3, m), array(I64), array(I64)), {1: below(3), 2: below(1)}))
        found.append(Case(OPS["index"](policy="drop"), (array(dtype, n, m), array(I64)), {1: fixed(99)}))
        types = (array(dtype, 3, m), array(I64), array(dtype, m))
        found.append(Case(OPS["set_at"](), types, {1: below(3)}))
    return found


CASES = _cases()
