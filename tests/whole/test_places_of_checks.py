"""Whatever fails while a program runs says in which step or point, in compiled code as in the interpreter."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.program.pipeline import stage

ROW = np.array([1.0, 2, 5, 6])


def message_of(text, *arguments, of=lambda function: function):
    """The message of a call, the same from the interpreter and from compiled code."""
    function = of(dg.parse(text, path="p.dg").f)
    with pytest.raises(dg.DgraphError) as compiled:
        function(*arguments)
    with pytest.raises(dg.DgraphError) as interpreted:
        evaluate(stage(function.graph, "expand"), arguments)
    assert str(compiled.value) == str(interpreted.value)
    return str(compiled.value)


def test_a_while_in_a_for():
    text = (
        "def f[n](x: f64[n]) -> f64:\n    s = 0.0\n    for i in range(n):\n        y = x[i]\n        while y > 1.0:\n"
        '            y = y / 2\n            assert y != 0.75, "bad"\n        s += y\n    return s\n'
    )
    message = message_of(text, ROW)
    assert "checked here, in step 2 (from 0) of the loop at line 5, in step 3 of the loop at line 3" in message
    assert message.endswith("y = 0.75")
    assert message_of(text, ROW, of=dg.value_and_grad) == message


def test_the_condition_of_a_while():
    text = "def f[n](x: f64[n]) -> i32:\n    k = 0\n    while x[i64(k) + 2] < 9:\n        k += 1\n    return k\n"
    message = message_of(text, ROW)
    assert "index (4,) is out of range for the shape (4,)" in message
    assert "while this was computed, in step 2 (from 0) of the loop at line 3" in message


def test_an_index_and_a_division():
    text = (
        "def f[n](x: f64[n], p: i32[n]) -> f64:\n    s = 0.0\n    for k in range(n):\n"
        "        s += x[p[k]] / f64(p[k] // p[n - 1 - k])\n    return s\n"
    )
    assert "in step 2 (from 0) of the loop at line 3" in message_of(text, ROW, np.array([1, 2, 4, 6], np.int32))
    message = message_of(text, ROW, np.array([1, 0, 3, 1], np.int32))
    assert message.startswith("error: division by zero\n --> p.dg:4:28")
    assert "in step 2 (from 0) of the loop at line 3" in message


def test_points_of_spaces():
    text = (
        "def point(a: f64, b: f64) -> f64:\n    assert a + b < 9\n    return a * b\n"
        "def f[n](x: f64[n]) -> f64[n, n] = [[point(x[row], x[col]) for col in range(n)] for row in range(n)]\n"
    )
    assert "checked here, at row = 2, col = 2" in message_of(text, ROW)
    text = "def f[n](x: f64[n], p: i32[n]) -> f64 = sum(x[p[k]] for k)\n"
    assert "while this was computed, at k = 3" in message_of(text, ROW, np.array([0, 1, 2, 5], np.int32))


def test_a_loop_at_a_point_of_a_space():
    text = (
        "def steps(a: f64) -> f64:\n    y = a\n    for i in range(3):\n        assert y < 9\n        y = 2 * y\n"
        "    return y\ndef f[n](x: f64[n]) -> f64[n] = [steps(x[j]) for j in range(n)]\n"
    )
    assert "checked here, in step 1 (from 0) of the loop at line 3, at j = 2" in message_of(text, ROW)


def test_a_lane_of_a_vmap():
    text = "def one(x: f64) -> f64:\n    assert x < 5\n    return x\ndef f[n](x: f64[n]) -> f64[n] = vmap(one)(x)\n"
    assert "checked here, in lane 2 of the batch" in message_of(text, ROW)


@pytest.mark.parametrize("of", [lambda f: f, dg.value_and_grad])
@pytest.mark.parametrize("wish", ["", "slots=2", "every=3", "every=100", "slots=1", 'budget="40B"', "none"])
def test_steps_are_counted_through_checkpoints(wish, of):
    line = f"    @checkpoint({wish})\n" if wish else ""
    text = (
        f"def f(x: f64, p: i32[3], n: i32) -> f64:\n    y = x\n{line}    for i in range(n):\n"
        "        for j in range(2):\n            assert y < 1.5 + 0.1 * f64(j)\n            y = 1.05 * y\n"
        "    return y\n"
    )
    y, step = 1.0, 0
    while y < 1.5 + 0.1 * (step % 2):
        y, step = 1.05 * y, step + 1
    message = message_of(text, 1.0, np.zeros(3, np.int32), np.int32(30), of=of)
    inner, outer = (
        f"in step {step % 2} (from 0) of the loop",
        f"in step {step // 2} of the loop at line {3 + bool(wish)}",
    )
    assert inner in message
    assert outer in message


@pytest.mark.parametrize("wish", ["slots=2", "every=3"])
def test_an_index_in_a_checkpointed_loop(wish):
    text = (
        f"def f(x: f64[4], n: i32) -> f64:\n    y = 1.0\n    @checkpoint({wish})\n    for i in range(n):\n"
        "        y = sin(y) * x[i]\n    return y\n"
    )
    message = message_of(text, ROW, np.int32(7), of=dg.value_and_grad)
    assert "index (4,) is out of range" in message
    assert "in step 4 (from 0) of the loop at line 4" in message


def test_a_function_of_another_file(tmp_path):
    (tmp_path / "part.dg").write_text(
        "def steps(y: f64, n: i32) -> f64:\n    for i in range(n):\n        assert y < 4\n        y = 2 * y\n"
        "    return y\n",
        encoding="utf-8",
    )
    (tmp_path / "p.dg").write_text(
        "import part\n\n\ndef f(x: f64) -> f64:\n    for k in range(3):\n        x = part.steps(x, 2)\n    return x\n",
        encoding="utf-8",
    )
    with pytest.raises(dg.DgraphError) as fault:
        dg.load(tmp_path / "p.dg").f(1.0)
    message = str(fault.value)
    assert "in step 0 (from 0) of the loop at line 2, in step 1 of the loop at" in message
    assert "p.dg:5" in message


def test_the_check_costs_nothing_where_it_holds():
    text = (
        "def f[n](x: f64[n]) -> f64:\n    s = 0.0\n    for i in range(n):\n        assert x[i] > 0\n"
        "        s += x[i]\n    return s\n"
    )
    lines = dg.compile(dg.parse(text).f).source.splitlines()
    loop = next(at for at, line in enumerate(lines) if "for i in range" in line)
    failing = [line for line in lines[loop:] if "store" in line and "state" in line]
    assert len(failing) == 2
    at = lines.index(failing[0])
    assert lines[at - 1].lstrip().startswith("if not_bool")
    assert lines[at + 2].strip().startswith("return 1")
