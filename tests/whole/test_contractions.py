"""Sums of products however they are written: over triangles, in batches anywhere, with several indices at once."""

from __future__ import annotations

import re

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.graph import Region
from dgraph.program.pipeline import stage

SIZES = {"n": 17, "k": 3, "d": 11}
SHAPES = {"low": "kdd", "x": "nkd", "y": "kdn", "z": "nd", "w": "dnk", "flat": "dd"}

# What is written, its numbers by einsum where the second factor of `low` is masked, and how the mask compares.
TRIANGLES = {
    "u[i, c, r] = sum(low[c, r, s] * x[i, c, s] for s if s < r)": ("crs,ics->icr", "low x", "s<r"),
    "u[i, c, r] = sum(x[i, c, s] * low[c, r, s] for s if r > s)": ("ics,crs->icr", "x low", "s<r"),
    "u[i, c, r] = sum(low[c, r, s] * x[i, c, s] for s if s <= r)": ("crs,ics->icr", "low x", "s<=r"),
    "u[i, c, s] = sum(low[c, r, s] * x[i, c, r] for r if s < r)": ("crs,icr->ics", "low x", "s<r"),
    "u[c, r, i] = sum(low[c, r, s] * y[c, s, i] for s if s >= r)": ("crs,csi->cri", "low y", "r<=s"),
    "u[r, i, c] = sum(w[s, i, c] * low[c, s, r] for s if s < r)": ("sic,csr->ric", "w low", "s<r"),
    "u[c, i, r] = sum(x[i, c, s] * low[c, r, s] for s if not (s < r))": ("ics,crs->cir", "x low", "r<=s"),
    "u[i, r] = sum(z[i, s] * flat[s, r] for s if s < r)": ("is,sr->ir", "z flat", "s<r"),
    "u[r, i] = sum(flat[r, s] * z[i, s] for s if s > r)": ("rs,is->ri", "flat z", "r<s"),
    "u[i, c, r] = sum(low[c, r, s] * x[i, c, s] if s < r else 0.0 for s)": ("crs,ics->icr", "low x", "s<r"),
}
BATCHES = {
    "u[i, c, r] = sum(low[c, r, s] * x[i, c, s] for s)": ("crs,ics->icr", "low x"),
    "u[c, r, i] = sum(low[c, r, s] * x[i, c, s] for s)": ("crs,ics->cri", "low x"),
    "u[r, c, i] = sum(y[c, s, i] * low[c, s, r] for s)": ("csi,csr->rci", "y low"),
    "u[i, r] = sum(x[i, c, s] * low[c, r, s] for c, s)": ("ics,crs->ir", "x low"),
    "u[r, i, c] = sum(w[s, i, c] * low[c, r, s] for s)": ("sic,crs->ric", "w low"),
    "u[i, r] = sum(low[c, s, r] * y[c, s, i] for s, c)": ("csr,csi->ir", "low y"),
}


def program(formula: str) -> dg.Program:
    left = formula[2 : formula.index("]")]
    shape = ", ".join({"i": "n", "c": "k"}.get(letter, "d") for letter in left.split(", "))
    named = [name for name in SHAPES if re.search(rf"\b{name}\[", formula)]
    formals = ", ".join(f"{name}: f64[{', '.join(SHAPES[name])}]" for name in named)
    given = ", ".join(named)
    sizes = ", ".join(sorted({letter for name in named for letter in SHAPES[name]}))
    return dg.parse(f"""
def f[{sizes}]({formals}) -> f64[{shape}]:
    {formula}
    return u

def weighed[{sizes}]({formals}, weight: f64[{shape}]) -> f64 = sum(f({given}) * weight)
""")


def draw(formula: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(formula))
    named = [name for name in SHAPES if re.search(rf"\b{name}\[", formula)]
    return {name: rng.normal(size=[SIZES[letter] for letter in SHAPES[name]]) for name in named}


def masked(array: np.ndarray, letters: str, compared: str, outside: float) -> np.ndarray:
    """The array with another number where the comparison does not hold."""
    low, high = compared[0], compared[-1]
    at = np.indices(array.shape)
    one, other = at[letters.index(low)], at[letters.index(high)]
    return np.where(one <= other if "=" in compared else one < other, array, outside)


def products(region: Region) -> int:
    inner = sum(products(part) for node in region.nodes for part in node.regions)
    return inner + sum(node.op.name in ("dot", "contract") for node in region.nodes)


def check(formula: str, einsum: str, arrays: dict[str, np.ndarray], order: str, plain: dict[str, np.ndarray]) -> None:
    """Values and derivatives; `plain` are the factors with zeros outside of the triangle."""
    loaded = program(formula)
    function = dg.compile(loaded.f)
    found = function(**arrays)
    factors = [plain[name] for name in order.split()]
    wanted = np.einsum(einsum, *factors)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    weight = np.random.default_rng(0).normal(size=wanted.shape)
    (left, right), written = einsum.split("->")[0].split(","), einsum.split("->")[1]
    pulled = {
        order.split()[0]: np.einsum(f"{written},{right}->{left}", weight, factors[1]),
        order.split()[1]: np.einsum(f"{left},{written}->{right}", factors[0], weight),
    }
    slopes = dg.compile(dg.grad(loaded.weighed, wrt=tuple(arrays)))(**arrays, weight=weight)
    for name, slope in zip(arrays, slopes, strict=True):
        triangular = np.isnan(arrays[name])
        np.testing.assert_allclose(np.where(triangular, 0, slope), np.where(triangular, 0, pulled[name]), atol=1e-12)
        assert not slope[triangular].any()


@pytest.mark.parametrize("formula", BATCHES)
def test_batches(formula: str) -> None:
    einsum, order = BATCHES[formula]
    arrays = draw(formula)
    assert products(stage(program(formula).f.graph, "kernels").region) == 1
    assert products(stage(dg.grad(program(formula).weighed, wrt=tuple(arrays)).graph, "kernels").region) == 2
    check(formula, einsum, arrays, order, arrays)


@pytest.mark.parametrize("formula", TRIANGLES)
def test_triangles(formula: str) -> None:
    einsum, order, compared = TRIANGLES[formula]
    arrays = draw(formula)
    assert products(stage(program(formula).f.graph, "kernels").region) == 1
    assert products(stage(dg.grad(program(formula).weighed, wrt=tuple(arrays)).graph, "kernels").region) == 2
    name = "flat" if "flat" in arrays else "low"
    letters = einsum.split("->")[0].split(",")[order.split().index(name)]
    outside = dict(arrays) | {name: masked(arrays[name], letters, compared, np.nan)}
    inside = dict(arrays) | {name: masked(arrays[name], letters, compared, 0.0)}
    check(formula, einsum, outside, order, inside)


def test_nothing_changes_where_a_product_is_added_to_what_is_there() -> None:
    loaded = dg.parse("""
def loss[n, k, d](x: f64[n, k, d], low: f64[k, d, d], scale: f64[k, d]) -> f64:
    u[i, c, r] = scale[c, r] * x[i, c, r] + sum(low[c, r, s] * x[i, c, s] for s if s < r)
    return sum(u[i, c, r] ** 2 for i, c, r)
""")
    rng = np.random.default_rng(5)
    x, low, scale = rng.normal(size=(9, 2, 5)), rng.normal(size=(2, 5, 5)), rng.normal(size=(2, 5))
    full = np.tril(low, -1) + np.einsum("cr,rs->crs", scale, np.eye(5))
    u = np.einsum("crs,ics->icr", full, x)
    slopes = dg.compile(dg.grad(loaded.loss, wrt=("x", "low", "scale")))(x, low, scale)
    wanted = np.einsum("icr,ics->crs", 2 * u, x)
    np.testing.assert_allclose(slopes[0], np.einsum("icr,crs->ics", 2 * u, full), rtol=1e-12)
    np.testing.assert_allclose(slopes[1], np.tril(wanted, -1), rtol=1e-12)
    np.testing.assert_allclose(slopes[2], np.einsum("crr->cr", wanted), rtol=1e-12)


CONVOLUTION = """
def f[s, h, w, a, b, c, o](x: f64[s, h, w, c], k: f64[a, b, c, o]) -> f64[s, h - a + 1, w - b + 1, o]:
    z[n, i, j, p] = sum(x[n, i + u, j + v, q] * k[u, v, q, p] for u, v, q)
    return z

def weighed[s, h, w, a, b, c, o](
    x: f64[s, h, w, c], k: f64[a, b, c, o], weight: f64[s, h - a + 1, w - b + 1, o]
) -> f64 = sum(f(x, k) * weight)

def short[s, h, w, c, o](x: f64[s, h, w, c], k: f64[3, 2, c, o]) -> f64[s, h - 4, w - 1, o]:
    z[n, i, j, p] = (
        sum(x[n, i + u, j + v, q] * k[u, v, q, p] for u, v, q)
    ) for n in range(s) for i in range(h - 4) for j, p
    return z
"""


IMAGES = [(3, 9, 8, 3, 2, 4, 5), (1, 5, 5, 5, 5, 1, 6), (2, 4, 7, 1, 1, 3, 20), (2, 6, 40, 2, 5, 2, 33)]


@pytest.mark.parametrize("sizes", IMAGES)
def test_convolutions(sizes: tuple[int, ...]) -> None:
    s, h, w, a, b, c, o = sizes
    loaded = dg.parse(CONVOLUTION)
    assert products(stage(loaded.f.graph, "kernels").region) == 1
    slope = dg.grad(loaded.weighed, wrt=("x", "k"))
    assert products(stage(slope.graph, "kernels").region) == 2
    rng = np.random.default_rng(s)
    x, dx, k, dk = (rng.normal(size=shape) for shape in [(s, h, w, c)] * 2 + [(a, b, c, o)] * 2)
    f = dg.compile(loaded.f)
    windows = np.lib.stride_tricks.sliding_window_view(x, (a, b), axis=(1, 2))
    found = f(x, k)
    np.testing.assert_allclose(found, np.einsum("nijquv,uvqp->nijp", windows, k), atol=1e-12)
    weight = rng.normal(size=found.shape)
    by_x, by_k = dg.compile(slope)(x, k, weight)
    np.testing.assert_allclose(np.sum(by_x * dx), np.sum(f(dx, k) * weight), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.sum(by_k * dk), np.sum(f(x, dk) * weight), rtol=1e-10, atol=1e-10)


FIXED = """
def f[s, h, w](
    x: {t}[s, h, w, {c}], k: {t}[{a}, {b}, {c}, {o}]
) -> {t}[s, (h - {a}) // {step} + 1, (w - {b}) // {step} + 1, {o}]:
    z[n, i, j, p] = (
        sum(x[n, {step} * i + u, {step} * j + v, q] * k[u, v, q, p] for u in range({a}) for v in range({b}) for q)
    ) for n in range(s) for i in range((h - {a}) // {step} + 1) for j in range((w - {b}) // {step} + 1) for p
    return z

def weighed[s, h, w](
    x: {t}[s, h, w, {c}], k: {t}[{a}, {b}, {c}, {o}],
    weight: {t}[s, (h - {a}) // {step} + 1, (w - {b}) // {step} + 1, {o}],
) -> {t} = sum(f(x, k) * weight)
"""


def check_convolution(image, window, channels, step: int, kind: type, digits: int) -> None:
    """A convolution of literal sizes, and its derivatives, against sums over windows."""
    (s, h, w), (a, b), (c, o) = image, window, channels
    name = {np.float64: "f64", np.float32: "f32"}[kind]
    loaded = dg.parse(FIXED.format(t=name, a=a, b=b, c=c, o=o, step=step))
    rng = np.random.default_rng(s)
    x, k = rng.normal(size=(s, h, w, c)).astype(kind), rng.normal(size=(a, b, c, o)).astype(kind)
    windows = np.lib.stride_tricks.sliding_window_view(x, (a, b), axis=(1, 2))[:, ::step, ::step]
    wanted = np.einsum("nijquv,uvqp->nijp", windows, k)
    np.testing.assert_allclose(dg.compile(loaded.f)(x, k), wanted, rtol=0, atol=10.0**-digits * a * b * c)
    weight = rng.normal(size=wanted.shape).astype(kind)
    slope = dg.grad(loaded.weighed, wrt=("x", "k"))
    assert products(stage(slope.graph, "kernels").region) == 2
    by_x, by_k = dg.compile(slope)(x, k, weight)
    back = np.zeros_like(x)
    rows, columns = (step * (extent - 1) + 1 for extent in wanted.shape[1:3])
    for u, v in np.ndindex(a, b):
        back[:, u : u + rows : step, v : v + columns : step] += weight @ k[u, v].T
    np.testing.assert_allclose(by_x, back, rtol=0, atol=10.0**-digits * a * b * o)
    wanted = np.einsum("nijquv,nijp->uvqp", windows, weight)
    np.testing.assert_allclose(by_k, wanted, rtol=0, atol=10.0**-digits * weight.size)


@pytest.mark.parametrize("channels", [(1, 10), (6, 16), (9, 2), (2, 40)])
@pytest.mark.parametrize(("kind", "digits"), [(np.float64, 12), (np.float32, 4)])
def test_convolutions_of_few_channels(kind: type, digits: int, channels: tuple[int, int]) -> None:
    for image, window in (((3, 9, 8), (5, 5)), ((70, 6, 5), (3, 3)), ((1, 4, 20), (3, 4))):
        check_convolution(image, window, channels, 1, kind, digits)


@pytest.mark.parametrize(("step", "window"), [(2, (3, 3)), (2, (2, 2)), (3, (2, 1)), (2, (1, 1)), (4, (5, 3))])
def test_convolutions_that_leave_out_places(step: int, window: tuple[int, int]) -> None:
    for image, channels in (((3, 9, 8), (20, 33)), ((70, 8, 5), (9, 16))):
        check_convolution(image, window, channels, step, np.float64, 12)


def test_a_convolution_that_leaves_some_of_its_image() -> None:
    rng = np.random.default_rng(1)
    x, k = rng.normal(size=(2, 9, 6, 3)), rng.normal(size=(3, 2, 3, 4))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), axis=(1, 2))[:, :5]
    found = dg.compile(dg.parse(CONVOLUTION).short)(x, k)
    np.testing.assert_allclose(found, np.einsum("nijquv,uvqp->nijp", windows, k), atol=1e-12)


def test_a_few_multiplications_are_done_as_many_are() -> None:
    loaded = dg.parse("def f[n, k, m](a: f64[n, k], b: f64[k, m]) -> f64[n, m] = a @ b")
    f = dg.compile(loaded.f)
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(9, 7)), rng.normal(size=(7, 9))
    whole = f(a, b)
    for rows, columns in ((1, 9), (2, 4), (3, 3), (9, 1)):
        np.testing.assert_array_equal(f(a[:rows], np.ascontiguousarray(b[:, :columns])), whole[:rows, :columns])


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_a_product_large_enough_for_several_threads(turned: tuple[bool, bool]) -> None:
    left, right = ("transpose(a)" if turned[0] else "a"), ("transpose(b)" if turned[1] else "b")
    shapes = ("k, n" if turned[0] else "n, k"), ("m, k" if turned[1] else "k, m")
    loaded = dg.parse(f"def f[n, k, m](a: f64[{shapes[0]}], b: f64[{shapes[1]}]) -> f64[n, m] = {left} @ {right}")
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(331, 340)), rng.normal(size=(340, 345))
    given = (np.ascontiguousarray(x.T) if flag else x for x, flag in zip((a, b), turned, strict=True))
    np.testing.assert_allclose(dg.compile(loaded.f)(*given), a @ b, rtol=0, atol=1e-11)
