"""`dgraph check` names the operation whose derivative is wrong, and the step in which it was seen."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ops.linalg import Dot
from dgraph.ops.transcendental import Sinh
from dgraph.program.check import check_program

LOOP = """@entry
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for i in range(n):
        y = cos(x[i])
        s += sinh(y) * tanh(y)
    return s
"""


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """Code compiled with a planted fault is nobody else's."""
    monkeypatch.setenv("DGRAPH_CACHE_DIR", str(tmp_path))


def message_of(text, **given):
    found = check_program(dg.parse(text, path="p.dg"), None, given)
    return found[0].render() if found else ""


def test_nothing_is_named_where_all_is_right():
    assert not message_of(LOOP)


def test_an_op_with_a_wrong_tangent(monkeypatch):
    monkeypatch.setattr(Sinh, "jvp", lambda _op, g, _primals, results, tangents: (g.mul(results[0], tangents[0]),))
    message = message_of(LOOP)
    assert "the derivatives of `f` are wrong: forward mode and differences differ" in message
    assert " --> p.dg:6:14" in message
    assert "the derivative of this differs from differences by" in message
    assert "in step 0 (from 0) of the loop at line 4" in message
    assert "in this function" in message


def test_an_op_with_a_wrong_transpose(monkeypatch):
    right = Dot.transpose

    def wrong(op, g, operands, linear, cotangent):
        return [None if part is None else g.add(part, part) for part in right(op, g, operands, linear, cotangent)]

    monkeypatch.setattr(Dot, "transpose", wrong)
    message = message_of("@entry\ndef f[n](a: f64[n, n], x: f64[n]) -> f64:\n    y = sin(x)\n    return sum(a @ y)\n")
    assert "reverse and forward mode differ" in message
    assert " --> p.dg:4:16" in message
    assert "reverse and forward mode of this differ by" in message


def test_a_rule_that_is_wrong_only_for_what_a_loop_meets():
    text = """def bump(x: f64) -> f64 = x * x if x > 9 else x

@derivative(of=bump)
def bump_rule(x: f64, dx: f64) -> f64 = 3 * x * dx if x > 9 else dx

@entry
def f(x: f64, n: i32) -> f64:
    y = 0.1 * sin(x)
    for i in range(n):
        y = 0.5 * y + 0.1 * bump(f64(i) * 3.1 + 0.1 * y)
    return sin(y)
"""
    message = message_of(text, n=np.int32(5))
    assert " --> p.dg:10:29" in message
    assert "the derivative of this differs from differences by 3.3e-01 (relative)" in message
    assert "in step 3 (from 0) of the loop at line 9" in message


def test_an_index_space(monkeypatch):
    monkeypatch.setattr(Sinh, "jvp", lambda _op, g, _primals, results, tangents: (g.mul(results[0], tangents[0]),))
    message = message_of("@entry\ndef f[n](x: f64[n]) -> f64[n] = [sinh(x[k]) * x[k] for k in range(n)]\n")
    assert " --> p.dg:2:34" in message
    assert "at k = 0" in message
