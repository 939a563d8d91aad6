"""Draws as programs write them: every form, the same numbers however they come about, and their distributions."""

import numpy as np
import pytest
from scipy import stats

import dgraph as dg
from dgraph.ad import expand
from dgraph.frontend import lower_function, parse_program
from dgraph.ir.evaluate import evaluate

PROGRAM = """
def sizes(k: key) -> f64[3, 4] = normal(k, 3, 4)
def tupled(k: key) -> f64[3, 4] = normal(k, (3, 4))
def shaped(k: key) -> f64[3, 4] = normal(k, shape=(3, 4))
def likened(k: key) -> f64[3, 4]:
    model: f64[3, 4] = zeros()
    return normal(k, like=model)
def met(k: key) -> f64[3, 4] = normal(k)
def bound(k: key) -> f64[3, 4]:
    x: f64[3, 4] = normal(k)
    return x
def scaled(k: key) -> f64[3, 4] = normal(k, 3, 4, scale=0.5) * 2
def single(k: key) -> f32[3, 4] = normal(k)
def one(k: key) -> f64 = normal(k)
def even(k: key, n: size) -> f64[n] = uniform(k, n)
def coins(k: key, p: f64[6]) -> bool[6] = bernoulli(k, p)
def dice(k: key, n: size) -> i64[n] = randint(k, 1, 7)
def bytes(k: key, n: size) -> u8[n] = randint(k, 0, 10)
def order(k: key, n: size) -> i64[n] = permutation(k, n)
def drawn[n, c](k: key, z: f64[n, c]) -> i64[n] = categorical(k, z)
def drawn_one[c](k: key, z: f64[c]) -> i64 = categorical(k, z)
def drawn_single[a, n, c](k: key, z: f32[a, n, c]) -> i64[a, n] = categorical(k, z)
def keys(k: key) -> key[3] = split(k, 3)
def many(k: key, n: size) -> f64[n]:
    each = split(k, n)
    for t in range(n):
        x: f64 = normal(each[t])
        found[t] = x
    return found
def folded(k: key, n: size) -> f64[n]:
    for t in range(n):
        x: f64 = normal(fold(k, t))
        path[t] = x
    return path
def mapped(k: key) -> f64[5]:
    def draw(own: key) -> f64 = normal(own)
    return vmap(draw, over=own)(split(k, 5))
"""
KEY = np.uint64(42)
SHAPED = ["sizes", "tupled", "shaped", "likened", "met", "bound", "scaled"]


@pytest.fixture(scope="module")
def compiled():
    return dg.parse(PROGRAM)


def interpreted(name, *arguments, **sizes):
    return evaluate(expand(lower_function(parse_program(PROGRAM), name)), [KEY, *arguments], sizes)[0]


@pytest.mark.parametrize("name", SHAPED)
def test_every_way_to_give_a_shape_draws_the_same(compiled, name):
    np.testing.assert_array_equal(interpreted(name), interpreted("sizes"))
    np.testing.assert_allclose(getattr(compiled, name)(KEY), interpreted("sizes"), rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("single", {}),
        ("one", {}),
        ("even", {"n": 7}),
        ("even", {"n": 0}),
        ("dice", {"n": 9}),
        ("bytes", {"n": 5}),
        ("order", {"n": 8}),
        ("order", {"n": 0}),
        ("many", {"n": 4}),
        ("folded", {"n": 4}),
        ("mapped", {}),
        ("keys", {}),
    ],
)
def test_kernels_draw_what_the_interpreter_draws(compiled, name, sizes):
    found, wanted = getattr(compiled, name)(KEY, **sizes), interpreted(name, **sizes)
    assert np.asarray(found).dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-13 if wanted.dtype == np.float64 else 1e-5)


def test_coins_with_a_probability_each(compiled):
    p = np.array([0.0, 0.1, 0.4, 0.6, 0.9, 1.0])
    found = np.array([compiled.coins(np.uint64(at), p) for at in range(2000)]).mean(0)
    assert (np.abs(found - p) <= 4 * np.sqrt(p * (1 - p) / 2000)).all()


@pytest.mark.parametrize(("name", "low", "high"), [("dice", 1, 6), ("bytes", 0, 9)])
def test_integers_are_even(compiled, name, low, high):
    found = np.asarray(getattr(compiled, name)(KEY, n=60_000))
    assert found.min() == low and found.max() == high
    assert stats.chisquare(np.bincount(found)[low:]).pvalue > 0.01


def test_permutations_hold_every_number(compiled):
    found = compiled.order(KEY, n=1000)
    np.testing.assert_array_equal(np.sort(found), np.arange(1000))
    assert abs(np.corrcoef(found, np.arange(1000))[0, 1]) < 0.15


def test_categories_follow_softmax_row_by_row(compiled):
    z = np.array([[0.0, 1.0, -1.0], [2.0, 2.0, 2.0], [-np.inf, 0.0, 5.0]])
    rows = np.repeat(z, 20_000, axis=0)
    found = np.asarray(compiled.drawn(KEY, rows)).reshape(3, 20_000)
    for row, draws in zip(z, found, strict=True):
        wanted = np.exp(row) / np.exp(row).sum()
        counts = np.bincount(draws, minlength=3)
        assert (counts[wanted == 0] == 0).all()
        assert stats.chisquare(counts[wanted > 0], 20_000 * wanted[wanted > 0]).pvalue > 0.01


def test_categories_of_every_shape(compiled):
    z = np.random.default_rng(0).normal(size=(4, 5, 3))
    np.testing.assert_array_equal(compiled.drawn_one(KEY, z[0, 0]), interpreted("drawn_one", z[0, 0]))
    np.testing.assert_array_equal(compiled.drawn(KEY, z[0]), interpreted("drawn", z[0]))
    single = z.astype(np.float32)
    found = compiled.drawn_single(KEY, single)
    assert found.shape == (4, 5) and set(np.unique(found)) <= {0, 1, 2}
    assert compiled.drawn(KEY, np.zeros((0, 3))).shape == (0,)
    with pytest.raises(dg.errors.CheckFailed, match="of nothing"):
        compiled.drawn_one(KEY, np.zeros(0))
