"""Products over blocks of points and the loops around them run block by block, and compute what whole arrays would."""

import numpy as np
import pytest

import dgraph as dg
import dgraph.kernels.point_blocks as point_blocks
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import compile_graph, plan_graph
from dgraph.program.pipeline import stage

TEXT = """
def scores[n, k, d](x: f64[n, d], mean: f64[k, d], w: f64[k, d, d]) -> f64:
    away[i, c, r] = x[i, r] - mean[c, r]
    u[i, c, r] = sum(w[c, r, s] * away[i, c, s] for s)
    return sum(logsumexp(sum(sin(u[i, c, r]) * away[i, c, r] for r) for c) for i)

def slope[n, k, d](x: f64[n, d], mean: f64[k, d], w: f64[k, d, d]) -> (f64[k, d], f64[k, d, d]):
    return grad(scores, wrt=(mean, w))(x, mean, w)

def returned[n, k, d](x: f64[n, d], mean: f64[k, d], w: f64[k, d, d]) -> (f64[n, k, d], f64[n, k]):
    away[i, c, r] = x[i, r] - mean[c, r]
    u[i, c, r] = sum(w[c, r, s] * away[i, c, s] for s)
    total[i, c] = sum(exp(u[i, c, r]) for r)
    return u, total

def neighbours[n, k, d](x: f64[n, d], mean: f64[k, d], w: f64[k, d, d]) -> f64[n, k]:
    away[i, c, r] = x[i, r] - mean[c, r]
    u[i, c, r] = sum(w[c, r, s] * away[i, c, s] for s)
    return [sum(exp(u[n - 1 - i, c, r]) + exp(u[i, c, d - 1 - r]) for r) for i, c]

def again[n, k, d](x: f64[n, d], mean: f64[k, d], w: f64[k, d, d]) -> f64:
    total = 0.0
    for t in range(3):
        away[i, c, r] = cos(total) * x[i, r] - mean[c, r]
        u[i, c, r] = sum(w[c, r, s] * away[i, c, s] for s)
        total = sum(sin(u[i, c, r]) * away[i, c, r] for i, c, r) / 100
    return total
"""
PROGRAM = dg.parse(TEXT)
SIZES = ((1, 2, 3), (64, 3, 2), (65, 5, 4), (200, 4, 19))
JOINED = ("scores", "slope", "returned")


def arguments(n: int, k: int, d: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    return [rng.normal(size=shape) for shape in ((n, d), (k, d), (k, d, d))]


def called(name: str, n: int, k: int, d: int) -> list[np.ndarray]:
    graph = stage(getattr(PROGRAM, name).graph, "kernels")
    found = compile_graph(graph)(arguments(n, k, d))
    return [np.asarray(one) for one in (found if isinstance(found, tuple | list) else [found])]


@pytest.mark.parametrize("name", [*JOINED, "neighbours", "again"])
def test_blocks_change_nothing_but_the_order_in_a_point(name: str, monkeypatch: pytest.MonkeyPatch):
    joined = [called(name, *sizes) for sizes in SIZES]
    monkeypatch.setattr(point_blocks, "in_blocks", lambda program: program)
    for one, sizes in zip(joined, SIZES, strict=True):
        for left, right in zip(one, called(name, *sizes), strict=True):
            # In blocks points go several at a time, and each adds up its own terms one by one.
            if name in ("scores", "slope"):
                assert left == pytest.approx(right, rel=1e-13, abs=1e-12)
            else:
                assert np.array_equal(left, right)
    graph = getattr(PROGRAM, name).graph
    n, k, d = SIZES[2]
    meant = evaluate(stage(graph, "expand"), arguments(n, k, d), {"n": n, "k": k, "d": d})
    for left, right in zip(joined[2], meant, strict=True):
        assert left == pytest.approx(right, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("name", JOINED)
def test_arrays_between_are_as_large_as_a_block(name: str):
    program = plan_graph(stage(getattr(PROGRAM, name).graph, "kernels"))
    assert not any("n" in room.bytes.atoms() for room in program.rooms.values())


@pytest.mark.parametrize("name", ["neighbours", "again"])
def test_what_reads_other_points_or_adds_them_all_up_waits_for_all(name: str):
    program = plan_graph(stage(getattr(PROGRAM, name).graph, "kernels"))
    assert any("n" in room.bytes.atoms() for room in program.rooms.values())
