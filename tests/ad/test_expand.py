"""Transforms as nodes: nested in any order, inside regions, batched."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from ad_check import Example, build, real, run, whole
from ad_examples import EXAMPLES, total

from dgraph.ad import expand, vmap
from dgraph.ad.reversals import is_kept
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Formal, Graph, Region, Value, walk
from dgraph.ir.verify import verify
from dgraph.ops.transform import Jvp, Transform, Vjp, Vmap
from dgraph.sizes import size, variable
from dgraph.types import F64, I64, Array, Tuple, array

N = variable("n")
NUMBER = Array(F64)


def graph(types: Sequence[Array], body: Callable[..., Sequence[Value]], sizes: Sequence[str] = ()) -> Graph:
    g = Builder()
    outputs = list(body(g, *(g.input(type_, f"x{at}") for at, type_ in enumerate(types))))
    result = Tuple(tuple(value.type for value in outputs if isinstance(value.type, Array)))
    formals = tuple(Formal(f"x{at}", type_) for at, type_ in enumerate(types))
    return verify(Graph("main", tuple(sizes), formals, result, g.close(outputs)))


def expanded(source: Graph) -> Graph:
    found = verify(expand(source))
    assert not any(isinstance(node.op, Transform) for node in walk(found.region))
    return found


def value_and_grad(g: Builder, function: Region, arguments: Sequence[Value], at: int = 0) -> tuple[Value, ...]:
    wrt = tuple(k == at for k in range(len(arguments)))
    seed = real(g, 1.0)
    return g.apply(Vjp(function="f", wrt=wrt, seeded=(True,)), *arguments, seed, regions=[function])


def cubic() -> Region:
    """f(x, y) = sin(x) y^2 + x^3"""
    return build(
        [NUMBER, NUMBER],
        lambda g, x, y: g.add(g.mul(g.sin(x), g.mul(y, y)), g.mul(x, g.mul(x, x))),
    )


def test_value_and_gradient():
    main = graph([NUMBER, NUMBER], lambda g, x, y: value_and_grad(g, cubic(), [x, y]))
    value, slope = evaluate(expanded(main), [0.7, 1.3])
    assert value == pytest.approx(np.sin(0.7) * 1.69 + 0.343, rel=1e-15)
    assert slope == pytest.approx(np.cos(0.7) * 1.69 + 3 * 0.49, rel=1e-15)


def test_a_derivative_of_a_derivative_in_every_nesting():
    """d/dx of f_x along 1: reverse over reverse, forward over reverse, reverse over forward, forward over forward."""

    def slope_by(kind: str) -> Region:
        def reverse(g, x, y):
            return value_and_grad(g, cubic(), [x, y])[1]

        def forward(g, x, y):
            return g.apply(Jvp(function="f", active=(True, False)), x, y, real(g, 1.0), regions=[cubic()])[1]

        return build([NUMBER, NUMBER], reverse if kind == "reverse" else forward)

    expected = -np.sin(0.7) * 1.69 + 6 * 0.7
    for inner in ("reverse", "forward"):
        reverse = graph([NUMBER, NUMBER], lambda g, x, y, k=inner: value_and_grad(g, slope_by(k), [x, y])[1:])
        forward = graph(
            [NUMBER, NUMBER],
            lambda g, x, y, k=inner: g.apply(
                Jvp(function="f_x", active=(True, False)), x, y, real(g, 1.0), regions=[slope_by(k)]
            )[1:],
        )
        for source in (reverse, forward):
            (found,) = evaluate(expanded(source), [0.7, 1.3])
            assert found == pytest.approx(expected, rel=1e-14)


def test_gradient_descent_differentiated_through():
    """A transform in the body of a loop that is itself differentiated: d x_k / d step."""

    def descent(g, step):
        def body(h, _i, carried, _walked):
            (x,) = carried
            slope = value_and_grad(h, build([NUMBER], lambda p, x: p.mul(x, p.mul(x, x))), [x])[1]
            return [h.sub(x, h.mul(step, slope))]

        return g.for_(whole(g, 4), [real(g, 0.9)], body)[0]

    main = graph([NUMBER], lambda g, step: value_and_grad(g, build([NUMBER], descent), [step]))
    value, slope = evaluate(expanded(main), [0.1])
    x, dx = 0.9, 0.0
    for _ in range(4):
        x, dx = x - 0.1 * 3 * x * x, dx - 3 * x * x - 0.1 * 6 * x * dx
    assert value == pytest.approx(x, rel=1e-14)
    assert slope == pytest.approx(dx, rel=1e-13)


def test_a_transform_of_a_function_with_captures_on_one_side_of_a_choice():
    def body(g, x, y):
        def then(h):
            return [value_and_grad(h, cubic(), [x, y], at=1)[1]]

        return g.if_(g.less(x, y), then, lambda h: [h.mul(x, y)])

    main = expanded(graph([NUMBER, NUMBER], body))
    assert evaluate(main, [0.7, 1.3])[0] == pytest.approx(2 * np.sin(0.7) * 1.3, rel=1e-14)
    assert evaluate(main, [1.3, 0.7])[0] == 1.3 * 0.7


def test_a_hessian_as_a_batch_of_hessian_vector_products():
    """vmap over the rows of the identity of jvp of grad."""
    f = build([array(F64, N)], lambda g, x: total(g, g.mul(x, g.mul(x, g.broadcast(total(g, x), shape=(N,))))))

    def gradient(g, x):
        return value_and_grad(g, f, [x])[1]

    def product(g, x, direction):
        jvp = Jvp(function="gradient", active=(True,))
        return g.apply(jvp, x, direction, regions=[build([array(F64, N)], gradient)])[1]

    def body(g, x):
        ones = g.map([N, N], lambda h, i, j: h.select(h.equal(i, j), real(h, 1.0), real(h, 0.0)))
        rows = Vmap(function="product", mapped=(False, True), extent=N)
        return g.apply(rows, x, ones, regions=[build([array(F64, N), array(F64, N)], product)])

    (found,) = evaluate(expanded(graph([array(F64, N)], body, ["n"])), [np.array([0.5, -1.0, 2.0])])
    x = np.array([0.5, -1.0, 2.0])
    np.testing.assert_allclose(found, 2 * x.sum() * np.eye(3) + 2 * (x[:, None] + x), rtol=1e-14)


BATCHED = ["newton", "if_in_for", "for_of_while", "while_of_for", "loop_updates", "convolution", "guarded_root"]


def batch_of(example: Example) -> list[np.ndarray]:
    shift = 1.0 if example is EXAMPLES["guarded_root"] else 0.1
    return [np.stack([np.asarray(a, float) + shift * k for k in range(4)]) for a in example.arguments]


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_is_the_loop_of_single_calls(name: str):
    """Bit for bit, for the function, its gradient, and the gradient of the sum of the batch."""
    example = EXAMPLES[name]
    batch = batch_of(example)
    count = len(batch)

    def gradients(g, *arguments):
        vjp = Vjp(function=name, wrt=tuple(example.flags), seeded=(True,))
        return g.apply(vjp, *arguments, real(g, 1.0), regions=[example.region])

    types = [value.type for value in example.region.inputs]
    wide = [Array(type_.dtype, (size(4), *type_.shape)) for type_ in types if isinstance(type_, Array)]
    single = expanded(graph(types, gradients)).region
    expected = [
        np.stack(column) for column in zip(*(run(single, [a[k] for a in batch]) for k in range(4)), strict=True)
    ]

    mapped = (True,) * count

    def batched_gradients(g, *arguments):
        inner = graph(types, gradients).region
        return g.apply(Vmap(function="gradients", mapped=mapped, extent=size(4)), *arguments, regions=[inner])

    found = evaluate(expanded(graph(wide, batched_gradients)), batch)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))

    def sum_of_batch(g, *arguments):
        (values,) = g.apply(Vmap(function=name, mapped=mapped, extent=size(4)), *arguments, regions=[example.region])
        return total(g, values)

    def gradient_of_sum(g, *arguments):
        vjp = Vjp(function="total", wrt=tuple(example.flags), seeded=(True,))
        return g.apply(vjp, *arguments, real(g, 1.0), regions=[build(wide, sum_of_batch)])[1:]

    found = evaluate(expanded(graph(wide, gradient_of_sum)), batch)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected[1:], strict=True))


def test_inputs_that_are_not_mapped_are_shared():
    f = build([array(F64, 3), NUMBER, Array(I64)], lambda g, x, y, k: g.mul(g.index(x, k), y))
    region = vmap(f, [False, True, True], N)
    x, y, k = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.25]), np.array([2, 0])
    np.testing.assert_array_equal(run(region, [x, y, k], (("n", 2),))[0], x[k] * y)


def test_the_same_function_differentiated_twice_is_derived_once():
    f = cubic()

    def body(g, x, y):
        return [value_and_grad(g, f, [x, y])[1], value_and_grad(g, f, [y, x])[1]]

    found = evaluate(expanded(graph([NUMBER, NUMBER], body)), [0.7, 1.3])
    assert found[0] == pytest.approx(np.cos(0.7) * 1.69 + 3 * 0.49, rel=1e-15)
    assert found[1] == pytest.approx(np.cos(1.3) * 0.49 + 3 * 1.69, rel=1e-15)


def test_scopes_say_which_function_was_transformed():
    main = graph([NUMBER, NUMBER], lambda g, x, y: value_and_grad(g, cubic(), [x, y]))
    nodes = [node for node in expand(main).region.nodes if node.op.name == "cos"]
    assert [node.scope for node in nodes] == [("f",)]


def test_scopes_name_a_function_once():
    def hessian_vector(g: Builder, x: Value, y: Value) -> Sequence[Value]:
        h = Builder()
        inner = [h.input(NUMBER), h.input(NUMBER)]
        slope = h.close([value_and_grad(h, cubic(), inner)[1]])
        return g.apply(Jvp(function="f", active=(True, False)), x, y, real(g, 1.0), regions=[slope])

    found = expanded(graph([NUMBER, NUMBER], hessian_vector))
    assert {node.scope for node in found.region.nodes} <= {(), ("f",)}


def test_a_graph_without_transforms_is_left_alone():
    f = cubic()
    main = graph([NUMBER, NUMBER], lambda g, x, y: g.inline(f, [x, y]))
    assert expand(main).region is main.region


def powers(g: Builder, x: Value) -> Value:
    """A loop whose reverse needs a tape: x = sin(x) x, four times."""

    def body(h: Builder, _i: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
        (y,) = carried
        return [h.mul(h.sin(y), y)]

    return g.for_(whole(g, 4), [x], body)[0]


def halvings(g: Builder, x: Value) -> Value:
    def body(h: Builder, carried: list[Value]) -> list[Value]:
        (y,) = carried
        return [h.mul(h.mul(h.sin(y), y), real(h, 0.9))]

    return g.while_([x], lambda h, carried: h.less(real(h, 0.1), carried[0]), body)[0]


def derivative(f: Callable[[Builder, Value], Value], order: int) -> Callable[[Builder, Value], Value]:
    """Reverse over reverse, as often as wanted."""
    if not order:
        return f
    inner = build([NUMBER], derivative(f, order - 1))
    return lambda g, x: value_and_grad(g, inner, [x])[1]


@pytest.mark.parametrize("f", [powers, halvings], ids=["for", "while"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_source_loop_has_one_pair_of_loops_at_every_order(f: Callable[[Builder, Value], Value], order: int):
    main = expanded(graph([NUMBER], lambda g, x: [derivative(f, order)(g, x)]))
    loops = [node for node in walk(main.region) if node.op.name in ("for", "while")]
    writers = [node for node in loops if getattr(node.op, "tapes", 0)]
    assert (len(loops), len(writers)) == (2, 1)
    step = 1e-5
    below = expanded(graph([NUMBER], lambda g, x: [derivative(f, order - 1)(g, x)]))
    (up,), (down,) = (evaluate(below, [0.9 + s]) for s in (step, -step))
    assert evaluate(main, [0.9])[0] == pytest.approx((up - down) / (2 * step), rel=1e-8)


def test_a_reversed_function_without_loops_is_reversed_again():
    """It has no tape to save, and its captures may be large."""
    plain = build([NUMBER, NUMBER], lambda g, x, y: value_and_grad(g, cubic(), [x, y])[1])
    looped = build([NUMBER], derivative(powers, 1))
    assert [is_kept(region.nodes[-1]) for region in (plain, looped)] == [False, True]
    main = expanded(graph([NUMBER, NUMBER], lambda g, x, y: [value_and_grad(g, plain, [x, y])[1]]))
    assert evaluate(main, [0.7, 1.3])[0] == pytest.approx(-np.sin(0.7) * 1.69 + 6 * 0.7, rel=1e-14)
