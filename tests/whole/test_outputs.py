"""Results written to arrays that a call is given."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import dgraph as dg

PROGRAM = """
record Line:
    slope: f64
    offset: f64

record Net[n]:
    line: Line
    w: f32[n]

def twice[n, m](x: f64[n, m]) -> f64[m, n] = 2.0 * transpose(x)

def both[n](x: f64[n]) -> (f64, f64[n]) = (sum(x), x + 1.0)

def step[n](net: Net[n], x: f32[n]) -> Net[n] = Net(
    line=Line(slope=net.line.slope + 1.0, offset=2.0), w=net.w + x
)

def counted[n](x: f64[n], k: size) -> i32[n, k]:
    y[i, j] = i32(j) for i in range(n) for j in range(k)
    return y

def positive[n](x: f64[n]) -> f64[n]:
    assert x[0] > 0.0
    return sqrt(x)

def named[n](x: f64[n], out: f64[n]) -> f64[n] = x + out
"""

program = dg.parse(PROGRAM)
rng = np.random.default_rng(0)


def test_an_array_is_written_and_returned() -> None:
    x, out = rng.normal(size=(3, 2)), np.full((2, 3), np.nan)
    assert program.twice(x, out=out) is out
    np.testing.assert_array_equal(out, 2 * x.T)
    bound = dg.compile(program.twice).bind(x, out=out)
    x += 1
    assert bound() is out
    np.testing.assert_array_equal(out, 2 * x.T)
    assert program.twice(x, out=None) is not out


def test_trees_are_those_of_the_result() -> None:
    x = rng.normal(size=4)
    total, more = np.zeros(()), np.zeros(4)
    found = dg.compile(program.both)(x, out=(total, more))
    assert found[0] is total
    assert found[1] is more
    np.testing.assert_array_equal(more, x + 1)
    np.testing.assert_allclose(total, x.sum())
    alone = program.both(x, out=[None, more])
    assert alone[1] is more
    assert np.ndim(alone[0]) == 0
    net = {"line": {"slope": 1.0, "offset": 0.0}, "w": np.ones(4, np.float32)}
    out = {"line": None, "w": np.zeros(4, np.float32)}
    made = program.step(net, np.ones(4, np.float32), out=out)
    assert made.w is out["w"]
    assert made.line.slope == 2.0
    np.testing.assert_array_equal(made.w, 2)
    again = program.step(net, np.ones(4, np.float32), out=made_anew(made))
    assert again == made


def made_anew(tree):
    """Arrays like those of a tree."""
    return {
        "line": {"slope": np.zeros(()), "offset": np.zeros(())},
        "w": np.empty_like(tree.w),
    }


def test_sizes_empty_arrays_and_a_formal_of_this_name() -> None:
    out = np.zeros((2, 3), np.int32)
    assert program.counted(np.zeros(2), k=3, out=out) is out
    np.testing.assert_array_equal(out, [[0, 1, 2]] * 2)
    empty = np.zeros((0, 3), np.int32)
    assert program.counted(np.zeros(0), k=3, out=empty) is empty
    x = np.ones(3)
    np.testing.assert_array_equal(program.named(x, out=x), 2 * x)
    bound = dg.compile(program.named).bind(x, out=x)
    np.testing.assert_array_equal(bound(), 2 * x)


def test_gradients_batches_precision_and_budgets() -> None:
    x = rng.uniform(1, 2, 4)
    total = np.zeros(())
    slope = dg.compile(dg.parse("def f[n](x: f64[n]) -> f64 = sum(x ** 3)").f)
    loaded = dg.parse("def f[n](x: f64[n]) -> f64 = sum(x ** 3)")
    out = np.zeros(4)
    assert dg.grad(loaded.f, wrt="x")(x, out=out) is out
    np.testing.assert_allclose(out, 3 * x**2)
    assert slope(x, out=total) is total
    np.testing.assert_allclose(total, (x**3).sum())
    single = np.zeros(4, np.float32)
    assert dg.compile(dg.grad(loaded.f, wrt="x"), precision="f32")(x.astype(np.float32), out=single) is single
    limited = dg.compile(dg.grad(loaded.f, wrt="x"), budget="1MB")
    for _ in range(2):
        assert limited(x, out=out) is out
    generic = dg.parse("def f[T: float, n](x: T[n]) -> T[n] = x + x").f
    assert generic(x, out=out) is out
    np.testing.assert_array_equal(out, 2 * x)
    hessian = np.zeros((4, 4))
    assert dg.hessian(loaded.f, wrt="x")(x, out=hessian) is hessian
    np.testing.assert_allclose(hessian, np.diag(6 * x), atol=1e-12)


def test_nothing_is_made() -> None:
    x, out = rng.normal(size=(300, 200)), np.empty((200, 300))
    twice = dg.compile(program.twice)
    twice(x, out=out)
    tracemalloc.start()
    twice(x, out=out)
    assert tracemalloc.get_traced_memory()[1] < out.nbytes / 10
    tracemalloc.stop()


def test_a_check_that_fails_is_told() -> None:
    with pytest.raises(dg.DgraphError, match=r"x\[0\] > 0"):
        program.positive(np.zeros(2), out=np.zeros(2))


held = np.zeros(12)
WRONG = {
    "shape": (np.zeros((3, 2)), r"`out` has the shape \(3, 2\), and the result \(2, 3\)"),
    "dtype": (np.zeros((2, 3), np.float32), "`out` holds float32, and the result float64"),
    "list": ([[0.0] * 3] * 2, "`out` is a NumPy array to write to, not a list"),
    "number": (3.0, "`out` is a NumPy array to write to, not 3.0"),
    "turned": (np.zeros((3, 2)).T, "do not lie row by row"),
    "gaps": (np.zeros((2, 6))[:, ::2], "do not lie row by row"),
    "fixed": (np.broadcast_to(np.zeros(3), (2, 3)), "`out` can be read only"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_written_to_is_told(name: str) -> None:
    out, words = WRONG[name]
    for call in (program.twice, dg.compile(program.twice).bind):
        with pytest.raises(dg.DgraphError, match=words) as caught:
            call(np.ones((3, 2)), out=out)
        assert "declared here" in str(caught.value)


def test_memory_in_two_places_is_told() -> None:
    with pytest.raises(dg.DgraphError, match=r"`out` lies in the memory of `x`"):
        program.positive(held[:5], out=held[4:9])
    program.positive(held[:5] + 1, out=held[5:10])
    x = np.ones(6)
    memory = np.zeros(8)
    with pytest.raises(dg.DgraphError, match=r"`out\[0\]` and `out\[1\]` lie in the same memory"):
        program.both(x, out=(memory[3:4].reshape(()), memory[:6]))
    net = {"line": {"slope": 1.0, "offset": 0.0}, "w": np.ones(4, np.float32)}
    with pytest.raises(dg.DgraphError, match=r"`out.w` lies in the memory of `net.w`"):
        program.step(net, np.ones(4, np.float32), out={"line": None, "w": net["w"]})


def test_other_trees_are_told() -> None:
    with pytest.raises(dg.DgraphError, match="the result is a tuple of 2 entries, and so is `out`, not one of 1"):
        program.both(np.ones(2), out=(None,))
    with pytest.raises(dg.DgraphError, match="needs the field `line`"):
        program.step(
            {"line": {"slope": 1.0, "offset": 0.0}, "w": np.ones(1, np.float32)}, np.ones(1, np.float32), out={}
        )
    loaded = dg.parse("def f[n](x: f64[n]) -> f64[n] = x * x")
    sparse = dg.jacobian(loaded.f, mode="sparse")
    for call in (dg.compile(sparse), dg.compile(sparse).bind):
        with pytest.raises(dg.DgraphError, match="has sparse derivatives"):
            call(np.ones(3), out=np.zeros((3, 3)))
