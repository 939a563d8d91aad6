"""What derivatives look like: zeros that are absent, tapes that are not written, work that is not repeated."""

from itertools import pairwise

import numpy as np
import pytest
from ad_check import Example, build, error, gradient, ops, real, reverse_over_reverse, run, tapes, whole
from ad_examples import EXAMPLES, loop, newton_root, strided_convolution, total

from dgraph.ad import jvp, linearize, vjp
from dgraph.ad.jvp import JVP
from dgraph.ad.transpose import TRANSPOSE
from dgraph.ad.unzip import UNZIP
from dgraph.errors import NOWHERE, NotDifferentiable, Source, Span
from dgraph.ir.dead_code import PRUNE
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.graph import Node, walk
from dgraph.ir.op import OPS, RegionOp
from dgraph.ops.transform import Transform
from dgraph.sizes import variable
from dgraph.types import F64, I64, Accumulator, Array, Tape, array

N = variable("n")
NUMBER = Array(F64)


def test_the_tables_are_total():
    regions = {name for name, op in OPS.items() if issubclass(op, RegionOp) and not issubclass(op, Transform)} - {""}
    waiting = {"fixed_point", "linear_solve", "vjp_tangent"}
    assert set(JVP) == regions | {"custom", "implicit", "vjp"} | waiting
    assert set(PRUNE) == regions | {"fixed_point"}
    assert set(UNZIP) == regions - {"call"}, "jvp inlines calls"
    assert set(TRANSPOSE) == set(UNZIP) - {"while"} | waiting, "unzip turns a linear while into a for"


@pytest.mark.parametrize("name", EXAMPLES)
def test_forward_mode_keeps_no_tape(name: str):
    example = EXAMPLES[name]
    once = jvp(example.region, example.flags)
    twice = jvp(once, [*example.flags, *(False for _ in example.wrt)])
    assert not tapes(once)
    assert not tapes(twice)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_node_of_a_linearization_is_primal_or_linear(name: str):
    example = EXAMPLES[name]
    line = linearize(example.region, example.flags)
    for node in line.nodes:
        kinds = {result in line.linear for result in node.results}
        assert len(kinds) <= 1
        assert kinds != {False} or not any(operand in line.linear for operand in node.operands)
    linear = [node for node in line.nodes if any(operand in line.linear for operand in node.operands)]
    assert {node.derived for node in linear} == {"tangent"}


def power(exponent_of_two: int) -> Example:
    """x to the power 2^k by squaring in a loop."""

    def body(g, x):
        return loop(g, exponent_of_two, [x], lambda h, _i, carried, _w: [h.mul(carried[0], carried[0])])[0]

    return Example(build([NUMBER], body), (1.1,))


def test_third_and_fourth_derivatives_of_a_power():
    x = 1.1
    region = power(4).region
    factor = 1.0
    for order in range(1, 5):
        inputs = len(region.inputs)
        seeded = [at == len(region.outputs) - 1 for at in range(len(region.outputs))]
        region = vjp(region, [True, *(False for _ in range(inputs - 1))], seeded)
        factor *= 17 - order
        found = run(region, [x, *(1.0 for _ in range(order))])[-1]
        assert abs(found / (factor * x ** (16 - order)) - 1) < 1e-13


@pytest.mark.parametrize(
    "name", ["convolution", "loop_updates", "newton", "for_of_while", "while_of_for", "if_in_for", "for_of_space"]
)
def test_third_derivatives(name: str):
    """Reverse over reverse over reverse equals forward over forward over forward."""
    example = EXAMPLES[name]
    rng = np.random.default_rng(0)
    along = [rng.standard_normal(np.shape(example.arguments[at])) for at in example.wrt]
    count = len(along)
    second = reverse_over_reverse(example, gradient(example))
    flags = [*example.flags, False, *(False for _ in along)]
    third = vjp(second, flags, [False] * (len(second.outputs) - count) + [True] * count)
    reverse = run(third, [*example.arguments, 1.0, *along, *along], example.sizes)[-count:]
    forward = example.region
    for order in range(3):
        forward = jvp(forward, [*example.flags, *(False for _ in range(order * count))])
    expected = run(forward, [*example.arguments, *along, *along, *along], example.sizes)[-1]
    assert error([sum(np.sum(a * b) for a, b in zip(reverse, along, strict=True))], [expected]) < 1e-13


def test_a_carry_that_reaches_no_result_leaves_nothing():
    """Its derivative at 0 is infinite: a zero that is a number would give NaN."""

    def body(g, x):
        def step(h, _i, carried, _walked):
            c, d, j = carried
            return [h.sin(h.mul(c, x)), h.sqrt(h.mul(d, x)), h.add(j, whole(h, 1))]

        return loop(g, 4, [x, g.mul(x, real(g, 0.0)), whole(g, 0)], step)[0]

    region = vjp(build([NUMBER], body), [True], [True])
    assert "sqrt" not in ops(region)
    assert np.isfinite(run(region, [0.5, 1.0])[1])


def test_a_carry_that_is_used_but_not_differentiated_has_no_cotangent():
    def body(g, x):
        def step(h, _i, carried, _walked):
            return [h.sin(h.mul(carried[0], x)), h.sqrt(h.mul(carried[1], x))]

        c, d = loop(g, 4, [x, g.mul(x, real(g, 0.0))], step)
        return g.add(c, g.stop_gradient(d))

    region = vjp(build([NUMBER], body), [True], [True])
    forward, reverse = [node for node in region.nodes if node.op.name == "for"]
    assert forward.op.carries == 2
    assert reverse.op.carries == 2, "the cotangent of c and the sum for x"
    assert np.isfinite(run(region, [0.5, 1.0])[1])


def test_a_carry_that_becomes_active_on_the_way():
    """The second carry has no tangent at the start, the first only through the second."""

    def body(g, x):
        def step(h, _i, carried, _walked):
            a, b = carried
            return [h.mul(b, h.sin(a)), h.add(b, x)]

        return loop(g, 3, [real(g, 0.5), real(g, 0.25)], step)[0]

    example = Example(build([NUMBER], body), (0.7,))
    found = run(gradient(example), [0.7, 1.0])[1]
    step = 1e-6
    up, down = (run(example.region, [0.7 + s])[0] for s in (step, -step))
    assert abs(found - (up - down) / (2 * step)) < 1e-9


def entries(region, arguments, sizes=()) -> int:
    """How many numbers the tapes of a run hold."""
    seen = 0

    def size_of(value) -> int:
        return sum(map(size_of, value)) if isinstance(value, list) else 0 if value is None else np.size(value)

    def watch(node: Node, results) -> None:
        nonlocal seen
        if node.op.name in ("for", "while"):
            for value, result in zip(node.results, results, strict=True):
                if isinstance(value.type, Tape):
                    seen += size_of(result)

    values = [np.asarray(a)[()] for a in arguments]
    Interpreter(dict(sizes), watch).run(region, values)
    return seen


def test_loop_invariant_coefficients_are_not_taped():
    def body(g, x, w):
        def step(h, _i, carried, _walked):
            return [h.mul(h.tanh(h.mul(h.sin(w), h.exp(w))), h.sin(carried[0]))]

        return loop(g, 50, [x], step)[0]

    region = vjp(build([NUMBER, NUMBER], body), [True, True], [True])
    assert entries(region, [0.3, 0.4, 1.0]) <= 2 * 50


def test_the_index_and_what_follows_from_it_are_not_taped():
    def body(g, x, w):
        def step(h, i, carried, _walked):
            (c,) = carried
            at = h.mod(h.add(h.mul(i, whole(h, 3)), whole(h, 1)), whole(h, 5))
            return [h.add(c, h.mul(h.index(x, at), h.index(w, h.mod(i, whole(h, 5)))))]

        return loop(g, 7, [real(g, 0.0)], step)[0]

    region = vjp(build([array(F64, 5), array(F64, 5)], body), [True, True], [True])
    assert not tapes(region)


def test_an_integer_carry_is_taped_only_if_the_linear_half_reads_it():
    def program(reads: bool):
        def body(g, x):
            def step(h, _i, carried, _walked):
                c, j = carried
                factor = h.index(x, j) if reads else real(h, 0.5)
                return [h.mul(c, factor), h.mod(h.add(j, whole(h, 2)), whole(h, 5))]

            return loop(g, 6, [g.index(x, whole(g, 0)), whole(g, 1)], step)[0]

        return vjp(build([array(F64, 5)], body), [True], [True])

    def integer_tapes(region) -> int:
        found = [value.type for node in walk(region) for value in node.results if isinstance(value.type, Tape)]
        return sum(type_ == Tape(Array(I64)) for type_ in found)

    assert integer_tapes(program(True)) == 1
    assert integer_tapes(program(False)) == 0


def test_element_updates_do_not_tape_the_buffer():
    def program(extent: int):
        def body(g, a):
            z = g.set_at(g.zeros(array(F64, extent)), whole(g, 0), a)

            def step(h, i, carried, _walked):
                (z,) = carried
                return [h.set_at(z, h.add(i, whole(h, 1)), h.sin(h.mul(h.index(z, i), a)))]

            return total(g, loop(g, 10, [z], step)[0])

        return vjp(build([NUMBER], body), [True], [True])

    small, large = program(11), program(1011)
    assert entries(small, [0.8, 1.0]) == entries(large, [0.8, 1.0]) <= 30


def test_convolution_stays_a_convolution():
    """Two reads and an accumulation; no sequential loop appears, and no index space per entry."""

    def body(g, x, w):
        return g.reduce_sum(strided_convolution(g, x, w), axes=(0,))

    region = build([array(F64, 9), array(F64, 3)], body)
    assert [ops(region).count(name) for name in ("index", "accumulate", "space")] == [2, 1, 1]
    first = vjp(region, [True, True], [True])
    assert [ops(first).count(name) for name in ("accumulate", "space", "for")] == [3, 2, 0]
    second = vjp(first, [True, True, False], [False, True, True])
    assert ops(second).count("for") == 0
    assert ops(second).count("space") <= 4


def test_an_entry_added_at_the_own_place_is_a_yield():
    def body(g, x):
        return g.sum_over([N], F64, lambda h, i: h.mul(h.index(x, i), h.sin(h.index(x, i))))

    region = vjp(build([array(F64, N)], body), [True], [True])
    (reverse,) = [node for node in region.nodes if node.op.name == "space" and node.derived == "adjoint"]
    assert reverse.op.buffers == ()
    assert "accumulate" not in [node.op.name for node in walk(reverse.regions[0])]


def test_the_cotangent_of_an_array_captured_by_a_loop_is_one_accumulator():
    """An entry per step costs an entry, not an array."""

    def body(g, x):
        def step(h, i, carried, _walked):
            return [h.mul(carried[0], h.index(x, i))]

        return g.for_(g.number(N), [real(g, 1.0)], step)[0]

    region = vjp(build([array(F64, N)], body), [True], [True])
    reverse = next(node for node in region.nodes if node.op.name == "for" and node.derived == "adjoint")
    inner = [node.op.name for node in walk(reverse.regions[0])]
    assert "accumulate" in inner
    assert not {"broadcast", "fresh", "freeze"} & set(inner)


def test_a_while_that_starts_at_its_solution_has_derivative_zero():
    """The derivative is that of the steps that are made."""
    region = build([NUMBER], newton_root)
    assert run(vjp(region, [True], [True]), [1.0, 1.0])[1] == 0


def test_a_while_and_a_for_of_as_many_steps_have_equal_gradients():
    def step(h, c):
        return h.sin(h.mul(c, h.add(c, real(h, 0.5))))

    def counted(g, x):
        return loop(g, 9, [x], lambda h, _i, carried, _w: [step(h, carried[0])])[0]

    def uncounted(g, x):
        def body(h, carried):
            return [step(h, carried[0]), h.add(carried[1], whole(h, 1))]

        start = [x, whole(g, 0)]
        return g.while_(start, lambda h, carried: h.less(carried[1], whole(h, 9)), body)[0]

    one, other = (run(vjp(build([NUMBER], body), [True], [True]), [0.7, 1.0]) for body in (counted, uncounted))
    assert one == other


@pytest.mark.parametrize("kind", ["max", "min", "mul"])
def test_only_sums_are_differentiated(kind: str):
    span = Span(Source("model.dg", "m = max(x[i] for i)"), 0, 5)

    def body(g, x):
        def point(h, indices, _threads, own):
            return [h.accumulate(own[0], h.index(x, *indices))]

        with g.at(span=span):
            return g.space([N], point, buffers=[Accumulator(F64, (), kind)])[0]

    region = build([array(F64, N)], body)
    assert len(run(jvp(region, [False]), [np.ones(3)], (("n", 3),))) == 2
    with pytest.raises(NotDifferentiable) as caught:
        vjp(region, [True], [True])
    assert caught.value.span == span


def test_a_check_runs_once_and_only_forwards():
    def body(g, x):
        def point(h, i):
            v = h.index(x, i)
            h.apply(OPS["check"](message="positive"), h.less(real(h, 0.0), v))
            return h.mul(v, h.sin(v))

        return total(g, g.map([N], point))

    region = vjp(build([array(F64, N)], body), [True], [True])
    assert ops(region).count("check") == 1
    assert not any(
        "check" in [n.op.name for n in walk(r)] for node in region.nodes if node.derived for r in node.regions
    )
    again = vjp(region, [True, False], [False, True])
    assert ops(again).count("check") == 1


def test_derived_nodes_keep_span_and_scope_and_say_what_they_are():
    span = Span(Source("model.dg", "y = tanh(x) * x"), 4, 15)

    def body(g, x):
        with g.at(span=span, scope=("model", "layer1")):
            return total(g, g.mul(g.tanh(x), x))

    region = vjp(build([array(F64, N)], body), [True], [True])
    adjoint = [node for node in walk(region) if node.derived == "adjoint"]
    assert adjoint
    located = [node for node in region.nodes if node.span is not NOWHERE]
    assert {node.derived for node in located} == {"", "tangent", "adjoint"}
    assert {node.scope for node in located} == {("model", "layer1")}
    primal = [node.op.name for node in region.nodes if not node.derived]
    assert primal[:2] == ["tanh", "mul"]


def test_inlined_functions_are_scopes():
    example = EXAMPLES["calls"]
    region = vjp(example.region, example.flags, [True])
    assert "call" not in ops(region)
    sines = [node for node in region.nodes if node.op.name == "sin"]
    assert [node.scope for node in sines] == [("f",), ("f",)]


def test_results_that_do_not_depend_on_an_input_have_zero_derivatives():
    def rounded(g, x):
        return g.mul(g.sin(x), g.cast(g.floor(x), dtype=F64))

    assert run(jvp(build([NUMBER], rounded), [False]), [0.3])[1] == 0

    def constant(g, x):
        return g.floor(x)

    assert run(vjp(build([NUMBER], constant), [True], [True]), [0.3, 1.0])[1] == 0


def test_gather_and_scatter_with_repeated_places():
    def body(g, x, at):
        y = g.map([variable("m")], lambda h, i: h.index(x, h.index(at, i)))

        def point(h, indices, _threads, own):
            (i,) = indices
            return [h.accumulate(own[0], h.index(at, i), h.sin(h.index(y, i)))]

        (z,) = g.space([variable("m")], point, buffers=[Accumulator(F64, (N,))])
        return total(g, g.mul(z, g.mul(z, x)))

    x, at = np.array([0.3, -0.8, 1.2, 0.1]), np.array([0, 2, 2, 0, 1, 2])
    example = Example(build([array(F64, N), array(I64, variable("m"))], body), (x, at), (0,), (("n", 4), ("m", 6)))
    counts = np.bincount(at, minlength=4)
    z = counts * np.sin(x)
    expected = 2 * z * x * counts * np.cos(x) + z * z
    found = run(gradient(example), [x, at, 1.0], example.sizes)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("policy", ["clip", "drop"])
def test_reads_out_of_range_are_transposed_with_their_policy(policy: str):
    def body(g, x):
        return g.sum_over([N + 2], F64, lambda h, i: h.sin(h.index(x, h.sub(i, whole(h, 1)), policy=policy)))

    x = np.array([0.3, -0.8, 1.2])
    weights = {"clip": np.array([2, 1, 2]), "drop": np.array([1, 1, 1])}[policy]
    found = run(vjp(build([array(F64, N)], body), [True], [True]), [x, 1.0], (("n", 3),))[1]
    np.testing.assert_allclose(found, weights * np.cos(x), rtol=1e-14)


def test_the_sides_of_a_choice_share_the_places_of_their_residuals():
    def body(g, x):
        def step(h, i, carried, _walked):
            (c,) = carried
            return h.if_(
                h.less(h.mod(i, whole(h, 2)), whole(h, 1)),
                lambda b: [b.mul(b.sin(c), b.exp(c))],
                lambda b: [b.mul(b.cos(c), b.tanh(c))],
            )

        return loop(g, 6, [x], step)[0]

    region = vjp(build([NUMBER], body), [True], [True])
    (forward,) = tapes(region)
    assert forward.op.tapes == 4, "three of one side, four of the other"
    assert ops(region).count("undefined") == 1


def test_sizes_stay_symbolic():
    """One gradient serves all sizes."""
    example = EXAMPLES["for_of_space"]
    region = gradient(example)
    for extent in (1, 2, 7):
        rng = np.random.default_rng(extent)
        x, w = rng.standard_normal(extent), rng.standard_normal((extent, extent))
        found = run(region, [x, w, 1.0], (("n", extent),))[1:]
        expected_x, expected_w = dense_recurrence(x, w)
        np.testing.assert_allclose(found[0], expected_x, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found[1], expected_w, rtol=1e-12, atol=1e-13)


def dense_recurrence(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of |x_3|^2, x_{t+1} = tanh(w x_t), by hand."""
    states = [x]
    for _ in range(3):
        states.append(np.tanh(w @ states[-1]))
    bar, w_bar = 2 * states[-1], np.zeros_like(w)
    for before, after in pairwise(reversed(states)):
        inner = bar * (1 - before**2)
        w_bar += np.outer(inner, after)
        bar = w.T @ inner
    return bar, w_bar


def test_an_empty_loop_and_an_empty_space():
    """Nothing is done, and the derivative of nothing is zero, even where a step would be singular."""

    def body(g, a, x):
        (c,) = g.for_(g.number(N), [g.mul(a, a)], lambda h, _i, carried, _w: [h.mul(carried[0], h.sqrt(a))])
        return g.add(c, g.sum_over([N], F64, lambda h, i: h.mul(h.index(x, i), h.sqrt(a))))

    region = build([NUMBER, array(F64, N)], body)
    empty = np.zeros(0)
    found = run(vjp(region, [True, True], [True]), [0.0, empty, 1.0], (("n", 0),))
    assert found[1] == 0
    assert found[2].shape == (0,)
