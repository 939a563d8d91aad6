"""The process that answers GradBench's requests, driven as the benchmark's runner drives it: a line for a line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import gradbench_formulas as formulas

ROOT = Path(__file__).parents[2]
TOOL = [sys.executable, str(ROOT / "examples" / "gradbench" / "tool.py")]
RUNS = {"min_runs": 3, "min_seconds": 0}


class Runner:
    """The process, and messages with numbers of their own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(TOOL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.count = 0

    def line(self, text: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def send(self, kind: str, **fields: Any) -> dict[str, Any]:
        self.count += 1
        response = self.line(json.dumps({"id": self.count, "kind": kind, **fields}))
        assert response.pop("id") == self.count
        return response

    def evaluate(self, module: str, function: str, given: Any) -> Any:
        """The output, after a look at the timings and the analysis that the runner sends then."""
        response = self.send("evaluate", module=module, function=function, input=given, description="small")
        assert response["success"], response.get("error")
        names = [timing["name"] for timing in response["timings"]]
        assert names == ["prepare", *["evaluate"] * (3 if isinstance(given, dict) else 1)]
        assert all(timing["nanoseconds"] > 0 for timing in response["timings"])
        assert self.send("analysis", of=self.count, valid=True) == {}
        return response["output"]


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    started = Runner()
    assert started.send("start", eval="all", config={}) == {"tool": "dgraph"}
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()
    assert started.process.wait(timeout=30) == 0


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("module", ["hello", "gmm", "ba", "ht", "lstm", "det", "kmeans", "llsq", "lse", "ode"])
def test_a_module_is_defined(runner, module):
    response = runner.send("define", module=module)
    assert response["success"]
    assert [timing["name"] for timing in response["timings"]] == ["load"]


def test_hello(runner):
    x = 1.0
    for expected in (2.0, 8.0, 128.0, 32768.0):
        square = runner.evaluate("hello", "square", x)
        assert square == x * x
        x = runner.evaluate("hello", "double", square)
        assert x == expected


def test_gmm(runner):
    rng = np.random.default_rng(31337)
    n, d, k = 6, 3, 2
    x = rng.normal(size=(n, d))
    g = {"alpha": rng.normal(size=k), "mu": rng.normal(size=(k, d)), "q": rng.normal(size=(k, d))}
    g["l"] = rng.normal(size=(k, 3))
    given = {"d": d, "k": k, "n": n, "x": x.tolist(), "m": 1, "gamma": 1.5} | RUNS
    given |= {name: value.tolist() for name, value in g.items()}
    value, slope = formulas.gmm(g, x, 1.5, 1)
    close(runner.evaluate("gmm", "objective", given), value)
    found = runner.evaluate("gmm", "jacobian", given)
    assert set(found) == set(slope)
    for name, part in slope.items():
        close(found[name], part)


def test_ba(runner):
    rng = np.random.default_rng(2)
    n, m, p = 3, 4, 7
    cam = rng.normal(size=11) * 0.3
    x, w, feature = np.array([0.1, 0.2, 4.0]), 0.7, np.array([0.5, -0.5])
    given = {"n": n, "m": m, "p": p, "cam": cam.tolist(), "x": x.tolist(), "w": w, "feat": feature.tolist()} | RUNS
    j = np.arange(p)
    error, weight, dense, _ = formulas.ba(
        np.tile(cam, (n, 1)), np.tile(x, (m, 1)), np.full(p, w), j % n, j % m, np.tile(feature, (p, 1))
    )
    found = runner.evaluate("ba", "objective", given)
    close(found["reproj_error"].pop("elements"), error[0])
    close(found["w_err"].pop("element"), weight[0])
    assert found == {"reproj_error": {"repeated": p}, "w_err": {"repeated": p}}
    found = runner.evaluate("ba", "jacobian", given)
    assert found["rows"] == [*[15 * row if row <= 2 * p else 28 * p + row for row in range(22)], 31 * p][:31]
    assert found["cols"][:15] == found["cols"][15:30] == [*range(11), 33, 34, 35, 45]
    assert found["cols"][30] == dense.shape[1] - 1
    close(found["vals"], [*dense[0, found["cols"][:15]], *dense[1, found["cols"][:15]], -2 * w])


@pytest.mark.parametrize("us", [[[0.2, 0.3], [0.5, 0.1]], []])
def test_ht(runner, us):
    rng = np.random.default_rng(3)
    model = {
        "bone_count": 22,
        "bone_names": [f"bone {number}" for number in range(22)],
        "parents": [-1, *range(21)],
        "base_relatives": (np.eye(4) + 0.1 * rng.normal(size=(22, 4, 4))).tolist(),
        "inverse_base_absolutes": (np.eye(4) + 0.1 * rng.normal(size=(22, 4, 4))).tolist(),
        "base_positions": rng.normal(size=(3, 4)).tolist(),
        "weights": rng.uniform(size=(3, 22)).tolist(),
        "triangles": [[0, 1, 2], [2, 1, 0]],
        "is_mirrored": True,
    }
    theta, points, match = rng.normal(size=26), rng.normal(size=(2, 3)), np.array([1, 0])
    data = {"model": model, "correspondences": match.tolist(), "points": points.tolist()}
    given = {"theta": theta.tolist(), "data": data, "us": us} | RUNS
    hand = {
        "parent": model["parents"],
        "base_relative": np.array(model["base_relatives"]),
        "inverse_absolute": np.array(model["inverse_base_absolutes"]),
        "position": np.array(model["base_positions"]),
        "weight": np.array(model["weights"]),
        "mirrored": True,
    }

    def error(theta: np.ndarray, us: np.ndarray) -> np.ndarray:
        if us.size == 0:
            return points - formulas.ht_skin(hand, theta)[match]
        return formulas.ht(hand, theta, us, points, np.array(model["triangles"])[match])

    places = np.array(us, dtype=float)
    close(runner.evaluate("ht", "objective", given), error(theta, places).real.ravel())
    columns = formulas.complex_step(lambda theta: error(theta, places), theta)
    if us:
        by_us = formulas.complex_step(lambda places: error(theta, places), places)
        columns = np.concatenate([np.einsum("irid->ird", by_us), columns], axis=2)
    close(runner.evaluate("ht", "jacobian", given), columns.reshape(6, -1))


def test_lstm(runner):
    rng = np.random.default_rng(4)
    parts = [rng.normal(size=(4, 8)), rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), np.eye(2)[[0, 1, 1, 0]]]
    names = ("main_params", "extra_params", "state", "sequence")
    given = {name: part.tolist() for name, part in zip(names, parts, strict=True)} | RUNS
    main, extra, state, sequence = parts
    close(runner.evaluate("lstm", "objective", given), formulas.lstm(*parts).real)
    by_main = formulas.complex_step(lambda main: formulas.lstm(main, extra, state, sequence), main)
    by_extra = formulas.complex_step(lambda extra: formulas.lstm(main, extra, state, sequence), extra)
    close(runner.evaluate("lstm", "jacobian", given), [*by_main.ravel(), *by_extra.ravel()])


def test_det(runner):
    a = np.random.default_rng(5).uniform(size=(5, 5))
    given = {"A": a.ravel().tolist(), "ell": 5} | RUNS
    close(runner.evaluate("det", "primal", given), np.linalg.det(a))
    close(runner.evaluate("det", "gradient", given), (np.linalg.det(a) * np.linalg.inv(a).T).ravel())


def test_kmeans(runner):
    points = np.random.default_rng(6).uniform(size=(20, 2))
    given = {"points": points.tolist(), "centroids": points[-3:].tolist()} | RUNS
    cost, direction = formulas.kmeans(points, points[-3:])
    close(runner.evaluate("kmeans", "cost", given), cost)
    close(runner.evaluate("kmeans", "dir", given), direction)


def test_gradients_of_vectors(runner):
    x = np.random.default_rng(7).uniform(size=6)
    given = {"x": x.tolist()} | RUNS
    value, slope = formulas.llsq(x, 9)
    close(runner.evaluate("llsq", "primal", given | {"n": 9}), value)
    close(runner.evaluate("llsq", "gradient", given | {"n": 9}), slope)
    close(runner.evaluate("lse", "primal", given), formulas.log_sum_exp(x))
    close(runner.evaluate("lse", "gradient", given), formulas.softmax(x))
    y = formulas.ode(x, 4)
    close(runner.evaluate("ode", "primal", given | {"s": 4}), y)
    close(runner.evaluate("ode", "gradient", given | {"s": 4}), y[-1] / x)


@pytest.mark.parametrize("mode", ["rr", "rf", "fr", "ff"])
def test_descents(runner, mode):
    close(runner.evaluate("particle", mode, {"w": 0.0} | RUNS), 0.2071918746486116)
    close(runner.evaluate("saddle", mode, {"start": [1.0, 1.0]} | RUNS), [8.246324826140356e-06] * 4)


def test_it_repeats_until_the_time_is_full(runner):
    given = {"x": [1.0, 2.0], "min_runs": 1, "min_seconds": 0.02}
    response = runner.send("evaluate", module="lse", function="primal", input=given)
    taken = [timing["nanoseconds"] for timing in response["timings"] if timing["name"] == "evaluate"]
    assert sum(taken) >= 0.02e9 > sum(taken[:-1])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"kind": "define", "module": "lsq"}, "there is no module 'lsq'; there are hello, gmm,"),
        ({"kind": "define"}, "the request has no 'module'"),
        ({"kind": "evaluate", "module": "lsq", "function": "primal", "input": {}}, "there is no module 'lsq'"),
        (
            {"kind": "evaluate", "module": "lse", "function": "slope", "input": {"x": [1.0]}},
            "lse has no function 'slope'; it has primal, gradient",
        ),
        ({"kind": "evaluate", "module": "lse", "function": "primal", "input": {}}, "the request has no 'x'"),
        ({"kind": "evaluate", "module": "lse", "function": "primal", "input": None}, "the input is not an object"),
        ({"kind": "evaluate", "module": "lse", "function": "primal"}, "the input is not an object"),
        (
            {"kind": "evaluate", "module": "lse", "function": "primal", "input": {"x": [[1.0]]}},
            "`x` has 2 axes, and f64[n] has 1",
        ),
        ({"kind": "evaluate", "module": "lse", "function": "primal", "input": {"x": ["a"]}}, "could not convert"),
        (
            {"kind": "evaluate", "module": "lse", "function": "primal", "input": {"x": [1e400, 1.0]}},
            "not JSON compliant",
        ),
        ({"kind": "evaluate", "module": "det", "function": "primal", "input": {"A": [1.0], "ell": 2}}, "reshape"),
        ({"module": "lse"}, "the request has no 'kind'"),
    ],
)
def test_what_cannot_be_answered_is_an_error(runner, fields, error):
    response = runner.line(json.dumps({"id": -1, **fields}))
    assert response.pop("id") == -1
    assert response["success"] is False
    assert error in response["error"]


@pytest.mark.parametrize("line", ["", "{", "[1, 2]", '"start"', '{"kind": "start"}'])
def test_a_line_that_is_no_message_is_an_error(runner, line):
    response = runner.line(line)
    assert response["id"] is None
    assert response["success"] is False
    assert response["error"]


def test_messages_of_a_kind_that_is_not_known_are_answered(runner):
    assert runner.send("end") == {}


def test_it_ends_quietly_when_nobody_listens():
    with subprocess.Popen(
        TOOL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write('{"id": 0, "kind": "start"}\n')
        process.stdin.flush()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""


def test_it_uses_one_core_unless_told_otherwise():
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not bind processes to cores")
    for option, cores in ([], 1), (["--multithreaded"], len(os.sched_getaffinity(0))):
        with subprocess.Popen(
            [*TOOL, *option], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write('{"id": 0, "kind": "start"}\n')
            process.stdin.flush()
            assert process.stdout.readline()
            assert len(os.sched_getaffinity(process.pid)) == cores
            process.stdin.close()
            assert process.wait(timeout=30) == 0
