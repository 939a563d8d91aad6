"""Long straight code becomes functions of bounded length that compute the same, bit for bit."""

import re

import numpy as np
import pytest
from nest_graphs import N, compare, evaluate, make_graph

from dgraph.kernels import outline
from dgraph.kernels.compile import compile_graph, plan_graph
from dgraph.kernels.function_code import MANY
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.numba_source import print_program
from dgraph.kernels.translator import translate
from dgraph.types import F64, I64, Array

VECTOR = Array(F64, (N,))


def chain(steps):
    """A long chain with reads far back, which cross from one function into others."""

    def build(g, x, y, v):
        values = [x, y, g.index(v, g.constant(0, I64), policy="proven")]
        for step in range(steps):
            near, far = values[-1], values[len(values) // 2]
            kind = step % 4
            if kind == 0:
                values.append(g.add(g.mul(near, y), far))
            elif kind == 1:
                values.append(g.sub(g.sin(near), far))
            elif kind == 2:
                values.append(g.div(near, g.add(g.constant(1.5, F64), g.mul(far, far))))
            else:
                values.append(g.exp(g.neg(g.mul(near, near))))
        return [values[-1], values[steps // 3], g.map([N], lambda h, i: h.mul(h.index(v, i), values[-1]))]

    return make_graph([("x", Array(F64)), ("y", Array(F64)), ("v", VECTOR)], build)


ARGUMENTS = [np.float64(0.3), np.float64(-1.1), np.array([0.7, 0.2])]


@pytest.mark.parametrize("steps", [10, 400, 900])
def test_pieces_compute_what_the_whole_computes(steps):
    graph = chain(steps)
    compare(compile_graph(graph).call(ARGUMENTS), evaluate(graph, ARGUMENTS), ulp=64)


def test_pieces_have_the_bits_of_the_whole(monkeypatch):
    graph = chain(350)
    pieces = compile_graph(graph).call(ARGUMENTS)
    monkeypatch.setattr(outline, "LONG", 10**9)
    compare(compile_graph(graph).call(ARGUMENTS), pieces)


def test_functions_have_bounded_length():
    program = plan_graph(chain(2000))
    assert len(program.kernels) > 3
    assert all(sum(1 for _ in walk(kernel.body)) <= outline.PIECE for kernel in program.kernels)
    assert max(len(body.splitlines()) for body in print_program(program).split("\n\n\n")) < 2000


def test_equal_pieces_are_one_function():
    def build(g, x):
        for _ in range(6 * outline.PIECE):
            x = g.mul(x, g.constant(0.5, F64))
        return [x]

    program = plan_graph(make_graph([("x", Array(F64))], build))
    assert len(program.body) == 6 + 1
    assert len(program.kernels) == 2  # The last one stores the result.
    (found,) = compile_graph(make_graph([("x", Array(F64))], build)).call([np.float64(2.0**800)])
    assert found == 2.0 ** (800 - 6 * outline.PIECE)


def test_short_code_stays_where_it_is():
    program = plan_graph(chain(60))
    assert len(program.kernels) == 1  # The nest over v.


def test_pieces_inside_loops(monkeypatch):
    """Every statement a function of its own, in the body of a loop whose carries cross them."""
    monkeypatch.setattr(outline, "LONG", 1)
    monkeypatch.setattr(outline, "PIECE", 2)

    def build(g, x, y, steps):
        def step(h, k, carried, _walked):
            a, b = carried
            c = h.sin(h.add(h.mul(a, y), b))
            d = h.sub(c, h.mul(b, h.cast(k, dtype=F64)))
            e = h.tanh(h.add(d, h.mul(c, a)))
            return [e, h.add(h.mul(d, y), a)]

        first, second = g.for_(steps, [x, y], step)
        return [g.add(first, second), g.mul(first, x)]

    graph = make_graph([("x", Array(F64)), ("y", Array(F64)), ("steps", Array(I64))], build)
    assert len(plan_graph(graph).kernels) > 1
    for steps in (0, 1, 7):
        arguments = [np.float64(0.3), np.float64(-1.1), np.int64(steps)]
        compare(compile_graph(graph).call(arguments), evaluate(graph, arguments), ulp=32)


def test_many_functions_in_a_row_are_called():
    """Mathematical functions are inlined where there are few or where a loop runs over them."""

    def source(count, inside):
        body = "".join(f"    {'    ' * inside}x = exp_f64(x)\n" for _ in range(count))
        loop = "    for i in range(n):\n" if inside else ""
        entry = "def entry(table: pointer_i64) -> i64:\n    x = kernel_0(0.5, 3)\n    return 0\n"
        return f"def kernel_0(x: f64, n: i64) -> f64:\n{loop}{body}    return x\n\n{entry}"

    def called(text):
        return len(re.findall(r'call double @"?dgraph.exp_f64.apart', text))

    assert called(translate(source(MANY, False), "entry")) == 0
    assert called(translate(source(MANY + 1, False), "entry")) == MANY + 1
    assert called(translate(source(3 * MANY, True), "entry")) == 0


def test_the_extreme_of_a_long_row_takes_turns():
    graph = make_graph([("x", VECTOR)], lambda g, x: [g.reduce_max(x, axes=(0,)), g.reduce_min(x, axes=(0,))])
    text = translate(print_program(plan_graph(graph)), "entry")
    assert len(re.findall(r"br label .*!llvm.loop", text)) == 2
    machine = compile_graph(graph)
    random = np.random.default_rng(0)
    for n in (1, 7, 31, 32, 33, 1000):
        x = random.normal(size=n)
        compare(machine.call([x]), [x.max(), x.min()])
        x[n // 2] = np.nan
        assert np.isnan(machine.call([x])).all()


def test_rows_inside_a_nest_are_not_interleaved():
    graph = make_graph([("x", Array(F64, (N, N)))], lambda g, x: [g.reduce_max(x, axes=(1,))])
    assert "!llvm.loop !" not in translate(print_program(plan_graph(graph)), "entry")
