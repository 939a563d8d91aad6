"""Every function of the language, in every form that a user of NumPy expects, interpreted and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

import dgraph as dg
from dgraph.ad import expand
from dgraph.frontend import lower_function, parse_program
from dgraph.ir.evaluate import evaluate
from dgraph.ir.verify import verify

RANDOM = np.random.default_rng(0)
X = np.array([2.0, -1.0, 0.5, 2.0, -3.0, 0.0])
P = np.abs(X) + 0.25
U = X / 4
M = RANDOM.normal(size=(3, 4))
S = RANDOM.normal(size=(4, 4))
T = RANDOM.normal(size=(2, 3, 4))
I = np.array([3, -1, 2, 3, 0], np.int32)  # noqa: E741
L = np.array([2, 0, 1, 2], np.int64)
C = np.array([True, False, True, True, False, False])
CM = M > 0
E, EM = np.zeros(0), np.zeros((0, 4))
NAN = np.array([1.0, np.nan, -0.0, 0.0, np.inf, np.nan, -np.inf])
TIES = np.array([[2.0, 1.0, 2.0, 1.0], [0.0, 0.0, -0.0, 5.0]])


def stable(x: np.ndarray, axis: int = -1, *, descending: bool = False) -> np.ndarray:
    """Places in order, NaN last."""
    keys = -x if descending else x
    return np.argsort(keys, axis=axis, kind="stable")


def one_axis(function: Any, **facts: Any) -> Any:
    return lambda x: function(x, **facts)


Case = tuple[str, tuple[Any, ...], Any]

ELEMENTWISE: list[Case] = [
    (f"{name}(x)", (values,), wanted)
    for name, values, wanted in [
        ("abs", X, np.abs(X)),
        ("sign", X, np.sign(X)),
        ("sqrt", P, np.sqrt(P)),
        ("rsqrt", P, 1 / np.sqrt(P)),
        ("exp", X, np.exp(X)),
        ("expm1", X, np.expm1(X)),
        ("log", P, np.log(P)),
        ("log1p", P, np.log1p(P)),
        ("sin", X, np.sin(X)),
        ("cos", X, np.cos(X)),
        ("tan", X, np.tan(X)),
        ("asin", U, np.arcsin(U)),
        ("acos", U, np.arccos(U)),
        ("atan", X, np.arctan(X)),
        ("sinh", X, np.sinh(X)),
        ("cosh", X, np.cosh(X)),
        ("tanh", X, np.tanh(X)),
        ("erf", X, special.erf(X)),
        ("lgamma", P, special.gammaln(P)),
        ("digamma", P, special.psi(P)),
        ("floor", X, np.floor(X)),
        ("ceil", X, np.ceil(X)),
        ("round", X, np.round(X)),
        ("sigmoid", X, special.expit(X)),
        ("softplus", X, np.logaddexp(0, X)),
        ("relu", X, np.maximum(X, 0)),
        ("isnan", NAN, np.isnan(NAN)),
        ("isfinite", NAN, np.isfinite(NAN)),
        ("abs", I, np.abs(I)),
        ("sign", I, np.sign(I)),
        ("relu", I, np.maximum(I, 0)),
        ("exp", I, np.exp(I)),
        ("tanh", M, np.tanh(M)),
    ]
] + [
    ("atan2(x, 2.0)", (X,), np.arctan2(X, 2)),
    ("atan2(1, x)", (X,), np.arctan2(1, X)),
    ("atan2(x, x[0])", (M,), np.arctan2(M, M[0])),
    ("clip(x, -1, 1)", (X,), np.clip(X, -1, 1)),
    ("clip(x, low=0, high=2)", (I,), np.clip(I, 0, 2)),
    ("clip(x, -abs(x[0]), x[1] + 3)", (M,), np.clip(M, -np.abs(M[0]), M[1] + 3)),
    ("round(100 * x, 1)", (M,), np.round(100 * M, 1)),
    ("round(100 * x, decimals=-2)", (M,), np.round(100 * M, -2)),
    ("min(x, 1)", (X,), np.minimum(X, 1)),
    ("max(x, 0, -x)", (X,), np.abs(X)),
    ("max(x, x[0])", (M,), np.maximum(M, M[0])),
    ("where(x > 0, x, -2 * x)", (X,), np.where(X > 0, X, -2 * X)),
    ("where(x > x[0], 1, 0)", (M,), np.where(M[0] < M, 1, 0)),
    ("where(x, 1.0, -1.0)", (C,), np.where(C, 1.0, -1.0)),
]

SHAPE: list[Case] = [
    ("reshape(x, (4, 3))", (M,), M.reshape(4, 3)),
    ("reshape(x, 4, 3)", (M,), M.reshape(4, 3)),
    ("reshape(x, -1)", (T,), T.ravel()),
    ("reshape(x, (2, -1))", (T,), T.reshape(2, -1)),
    ("reshape(x, -1, 2, 6)", (T,), T.reshape(-1, 2, 6)),
    ("reshape(x, shape=(6, -1))", (T,), T.reshape(6, -1)),
    ("transpose(x)", (M,), M.T),
    ("transpose(x)", (T,), T.T),
    ("transpose(x, (1, 2, 0))", (T,), T.transpose(1, 2, 0)),
    ("transpose(x, axes=(-1, 0, 1))", (T,), T.transpose(-1, 0, 1)),
    ("x.T", (M,), M.T),
    ("concat(x, x)", (M,), np.concatenate([M, M])),
    ("concat(x, -x, 2 * x, axis=1)", (M,), np.concatenate([M, -M, 2 * M], axis=1)),
    ("concat((x, x), axis=-1)", (T,), np.concatenate([T, T], axis=-1)),
    ("concat([x, -x])", (X,), np.concatenate([X, -X])),
    ("concat([x, -x], axis=1)", (M,), np.concatenate([M, -M], axis=1)),
    ("concat(x, x[1:3])", (M,), np.concatenate([M, M[1:3]])),
    ("concat(x, x)", (E,), E),
    ("stack(x, -x)", (X,), np.stack([X, -X])),
    ("stack(x, -x, axis=1)", (M,), np.stack([M, -M], axis=1)),
    ("stack((x, -x), axis=-1)", (M,), np.stack([M, -M], axis=-1)),
    ("stack([x, -x])", (M,), np.stack([M, -M])),
    ("stack(x[0], 1.5, -2)", (X,), np.array([X[0], 1.5, -2])),
    ("split(x, 3)[1]", (X,), np.split(X, 3)[1]),
    ("split(x, 2, axis=1)[0]", (M,), np.split(M, 2, axis=1)[0]),
    ("split(x, parts=2, axis=-1)[1]", (T,), np.split(T, 2, axis=-1)[1]),
    ("pad(x, 1)", (X,), np.pad(X, 1)),
    ("pad(x, 1)", (M,), np.pad(M, 1)),
    ("pad(x, (2, 1))", (M,), np.pad(M, (2, 1))),
    ("pad(x, ((1, 0), (2, 3)))", (M,), np.pad(M, ((1, 0), (2, 3)))),
    ("pad(x, 2, axis=1)", (M,), np.pad(M, ((0, 0), (2, 2)))),
    ("pad(x, (1, 2), axis=-1)", (T,), np.pad(T, ((0, 0), (0, 0), (1, 2)))),
    ("pad(x, ((1, 2), (0, 3)), axis=(2, 0))", (T,), np.pad(T, ((0, 3), (0, 0), (1, 2)))),
    ("pad(x, 1, 7)", (M,), np.pad(M, 1, constant_values=7)),
    ("pad(x, (1, 2), value=-inf)", (X,), np.pad(X, (1, 2), constant_values=-np.inf)),
    ("pad(x, 1, value=x[0, 0])", (M,), np.pad(M, 1, constant_values=M[0, 0])),
    ("pad(x, 1, value=5)", (I,), np.pad(I, 1, constant_values=5)),
    ("pad(x, 1, value=True)", (C,), np.pad(C, 1, constant_values=True)),
    ("pad(x, 2, value=3)", (E,), np.full(4, 3.0)),
    ("flip(x)", (X,), np.flip(X)),
    ("flip(x)", (M,), np.flip(M)),
    ("flip(x, axis=0)", (M,), np.flip(M, 0)),
    ("flip(x, axis=(0, -1))", (T,), np.flip(T, (0, -1))),
    ("flip(x)", (E,), E),
    ("squeeze(x[:, :1], axis=1)", (M,), M[:, 0]),
    ("squeeze(x[:1, :, :1])", (T,), T[0, :, 0]),
    ("squeeze(x[:1, :, :1], axis=(0, -1))", (T,), T[0, :, 0]),
    ("expand(x, 0)", (X,), X[None]),
    ("expand(x, axis=-1)", (M,), M[..., None]),
    ("expand(x, (0, 2))", (M,), np.expand_dims(M, (0, 2))),
    ("expand(x[0], 0)", (X,), X[:1]),
    ("tile(x, 3)", (X,), np.tile(X, 3)),
    ("tile(x, 2)", (M,), np.tile(M, 2)),
    ("tile(x, (2, 3))", (M,), np.tile(M, (2, 3))),
    ("tile(x, (2, 1, 2))", (M,), np.tile(M, (2, 1, 2))),
    ("tile(x, (2, 2))", (X,), np.tile(X, (2, 2))),
    ("tile(x, 2, axis=0)", (M,), np.tile(M, (2, 1))),
    ("tile(x[1], 4)", (X,), np.tile(X[1], 4)),
    ("diag(x)", (X,), np.diag(X)),
    ("diag(x, 2)", (X,), np.diag(X, 2)),
    ("diag(x, k=-1)", (X,), np.diag(X, -1)),
    ("diag(x)", (S,), np.diag(S)),
    ("diag(x, 1)", (S,), np.diag(S, 1)),
    ("diag(x, -3)", (S,), np.diag(S, -3)),
    ("diag(x[:3, :2])", (S,), np.diag(S[:3, :2])),
    ("diag(x[:3, :2], 1)", (S,), np.diag(S[:3, :2], 1)),
    ("diag(x[:3, :2], 5)", (S,), np.zeros(0)),
    ("tril(x)", (M,), np.tril(M)),
    ("tril(x, 1)", (M,), np.tril(M, 1)),
    ("tril(x, k=-1)", (T,), np.tril(T, -1)),
    ("triu(x)", (M,), np.triu(M)),
    ("triu(x, 2)", (M,), np.triu(M, 2)),
    ("triu(x, k=-1)", (T,), np.triu(T, -1)),
    ("triu(x)", (CM,), np.triu(CM)),
    ("one_hot(x, 3)", (L,), np.eye(3)[L]),
    ("one_hot(x, classes=4)", (I,), (I[:, None] == np.arange(4)).astype(float)),
    ("arange(5) * len(x)", (X,), np.arange(5) * 6),
    ("arange(len(x))", (X,), np.arange(6)),
    ("arange(2, len(x))", (X,), np.arange(2, 6)),
    ("arange(1, 3 * len(x), 4)", (X,), np.arange(1, 18, 4)),
    ("arange(len(x), -3, -2)", (X,), np.arange(6, -3, -2)),
    ("arange(start=-2, stop=len(x))", (X,), np.arange(-2, 6)),
    ("arange(7, 3) + len(x)", (X,), np.zeros(0)),
    ("x * arange(6)", (X,), X * np.arange(6)),
    ("0.5 * arange(3) + x[0]", (X,), 0.5 * np.arange(3) + X[0]),
    ("cumsum(x)", (X,), np.cumsum(X)),
    ("cumsum(x)", (M,), np.cumsum(M)),
    ("cumsum(x, axis=1)", (M,), np.cumsum(M, axis=1)),
    ("cumsum(x, axis=-2)", (T,), np.cumsum(T, axis=-2)),
    ("cumsum(x, reverse=True)", (X,), np.cumsum(X[::-1])[::-1]),
    ("cumsum(x)", (I,), np.cumsum(I)),
    ("cumsum(x)", (E,), E),
    ("cumprod(x)", (X,), np.cumprod(X)),
    ("cumprod(x, axis=0)", (M,), np.cumprod(M, axis=0)),
    ("cumprod(x, axis=1, reverse=True)", (M,), np.cumprod(M[:, ::-1], axis=1)[:, ::-1]),
    ("sort(x)", (X,), np.sort(X)),
    ("sort(x)", (M,), np.sort(M)),
    ("sort(x, axis=0)", (M,), np.sort(M, axis=0)),
    ("sort(x, axis=-2)", (T,), np.sort(T, axis=-2)),
    ("sort(x)", (NAN,), np.sort(NAN)),
    ("sort(x, descending=True)", (NAN,), NAN[stable(NAN, descending=True)]),
    ("sort(x, descending=True)", (I,), -np.sort(-I)),
    ("sort(x)", (E,), E),
    ("sort(x, axis=0)", (EM,), EM),
    ("sort(x)", (I,), np.sort(I)),
    ("sort(x[0])", (M,), np.sort(M[0])),
    ("argsort(x)", (X,), stable(X)),
    ("argsort(x)", (TIES,), stable(TIES)),
    ("argsort(x, axis=0)", (M,), stable(M, 0)),
    ("argsort(x, descending=True)", (TIES,), stable(TIES, descending=True)),
    ("argsort(x, descending=True)", (I,), stable(I, descending=True)),
    ("argsort(x)", (NAN,), stable(NAN)),
    ("argsort(x)", (E,), E),
    ("x[argsort(x)]", (X,), np.sort(X)),
    ("searchsorted(sort(x), x)", (X,), np.searchsorted(np.sort(X), X)),
    ('searchsorted(sort(x), x, side="right")', (X,), np.searchsorted(np.sort(X), X, "right")),
    ("searchsorted(sort(x), x)", (NAN,), np.searchsorted(np.sort(NAN), NAN)),
    ('searchsorted(sort(x), x, "right")', (NAN,), np.searchsorted(np.sort(NAN), NAN, "right")),
    ("searchsorted(arange(3), x)", (I,), np.searchsorted(np.arange(3), I)),
    ("searchsorted(sort(x[0]), x)", (M,), np.searchsorted(np.sort(M[0]), M)),
    ("searchsorted(sort(x), 0.25)", (X,), np.searchsorted(np.sort(X), 0.25)),
    ("searchsorted(x, 0.25)", (E,), 0),
    ("len(x)", (M,), 3),
    ("len(x[0])", (M,), 4),
    ("len((x, x, x))", (M,), 3),
]

REDUCERS: list[Case] = [
    case
    for name, function in [
        ("sum", np.sum),
        ("prod", np.prod),
        ("mean", np.mean),
        ("max", np.max),
        ("min", np.min),
        ("logsumexp", special.logsumexp),
        ("var", np.var),
        ("std", np.std),
    ]
    for case in [
        (f"{name}(x)", (X,), function(X)),
        (f"{name}(x)", (M,), function(M)),
        (f"{name}(x, axis=0)", (M,), function(M, axis=0)),
        (f"{name}(x, axis=-1)", (T,), function(T, axis=-1)),
        (f"{name}(x, axis=(0, 2))", (T,), function(T, axis=(0, 2))),
        (f"{name}(x, axis=(-1, 0, 1))", (T,), function(T, axis=None)),
        (f"{name}(2 * x ** 2 - x[0], axis=1)", (M,), function(2 * M**2 - M[0], axis=1)),
        (f"{name}(x)", (np.abs(I) + 1,), function(np.abs(I) + 1)),
    ]
] + [
    ("sum(x)", (C,), 3),
    ("sum(x, axis=0)", (CM,), CM.sum(0)),
    ("mean(x)", (C,), 0.5),
    ("sum(x)", (E,), 0.0),
    ("prod(x)", (E,), 1.0),
    ("max(x)", (E,), -np.inf),
    ("min(x)", (E,), np.inf),
    ("logsumexp(x)", (E,), -np.inf),
    ("sum(x, axis=0)", (EM,), np.zeros(4)),
    ("sum(x, axis=1)", (EM,), E),
    ("max(x, axis=1)", (EM,), E),
    ("any(x)", (C,), True),
    ("all(x)", (C,), False),
    ("any(x > 1, axis=0)", (M,), (M > 1).any(0)),
    ("all(x > -1, axis=(0, 1))", (T,), (T > -1).all((0, 1))),
    ("any(x > 0)", (E,), False),
    ("all(x > 0)", (E,), True),
    ("argmax(x)", (X,), 0),
    ("argmin(x)", (X,), 4),
    ("argmax(x)", (M,), M.argmax()),
    ("argmin(x, axis=1)", (M,), M.argmin(1)),
    ("argmax(-x, axis=-2)", (T,), (-T).argmax(-2)),
    ("argmax(x)", (NAN,), 1),
    ("argmax(x)", (I,), 0),
    ("var(x, ddof=1)", (X,), np.var(X, ddof=1)),
    ("std(x, axis=0, ddof=1)", (M,), np.std(M, axis=0, ddof=1)),
    ("std(x - x)", (X,), 0.0),
    ("softmax(x)", (M,), special.softmax(M, axis=-1)),
    ("softmax(x, axis=0)", (M,), special.softmax(M, axis=0)),
    ("softmax(x, axis=(0, 2))", (T,), special.softmax(T, axis=(0, 2))),
    ("log_softmax(x)", (M,), special.log_softmax(M, axis=-1)),
    ("log_softmax(x, axis=-2)", (T,), special.log_softmax(T, axis=-2)),
    ("softmax(1000 * x)", (X,), special.softmax(1000 * X)),
    ("norm(x)", (X,), np.linalg.norm(X)),
    ("norm(x)", (M,), np.linalg.norm(M)),
    ("norm(x, axis=1)", (M,), np.linalg.norm(M, axis=1)),
    ("norm(x, axis=(0, 1))", (M,), np.linalg.norm(M)),
    ("norm(x - x, axis=0)", (M,), np.zeros(4)),
    ("dot(x, 2 * x)", (X,), 2 * X @ X),
    ("dot(x, x + 1)", (M,), np.sum(M * (M + 1))),
    ("cross_entropy(x, arange(3))", (M,), -special.log_softmax(M, axis=1)[range(3), range(3)].mean()),
]

MAKERS: list[Case] = [
    ("zeros(len(x), 2)", (X,), np.zeros((6, 2))),
    ("ones((2, 3)) * x[0]", (X,), np.full((2, 3), 2.0)),
    ("ones(like=x)", (M,), np.ones((3, 4))),
    ("zeros_like(x)", (M,), np.zeros((3, 4))),
    ("eye(3) * x[0]", (X,), 2 * np.eye(3)),
    ("eye(2, 3) * x[0]", (X,), 2 * np.eye(2, 3)),
    ("x + stop_gradient(x)", (X,), 2 * X),
]

CASES = ELEMENTWISE + SHAPE + REDUCERS + MAKERS
TYPES = {"float64": "f64", "int32": "i32", "int64": "i64", "bool": "bool"}


def header(x: np.ndarray) -> str:
    """A function of one array; sizes are literals, since some forms need one."""
    return f"def f(x: {TYPES[x.dtype.name]}[{', '.join(map(str, x.shape))}]):\n    return "


def compare(found: Any, wanted: Any) -> None:
    found = np.asarray(found)
    assert found.shape == np.shape(wanted)
    if np.asarray(wanted).dtype.kind == "f" and found.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("text", "arguments", "wanted"), CASES, ids=[f"{case[0]} {case[1][0].shape}" for case in CASES]
)
def test_what_it_gives(text: str, arguments: tuple[Any, ...], wanted: Any) -> None:
    graph = verify(expand(lower_function(parse_program(header(arguments[0]) + text), "f")))
    compare(evaluate(graph, arguments)[0], wanted)


def groups() -> list[list[Case]]:
    """Cases of one argument together, a few at a time: each group is compiled once."""
    by_argument: dict[int, list[Case]] = {}
    for case in CASES:
        by_argument.setdefault(id(case[1][0]), []).append(case)
    return [cases[at : at + 12] for cases in by_argument.values() for at in range(0, len(cases), 12)]


@pytest.mark.parametrize("cases", groups(), ids=lambda cases: f"{cases[0][0]} to {cases[-1][0]}")
def test_what_the_compiled_code_gives(cases: list[Case]) -> None:
    (x,) = cases[0][1]
    found = dg.parse(header(x) + ", ".join(text for text, *_ in cases) + "\n").f(x)
    for result, (*_, wanted) in zip(found if len(cases) > 1 else [found], cases, strict=True):
        compare(result, wanted)
