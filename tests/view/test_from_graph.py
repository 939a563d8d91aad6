"""Scenes of graphs: clusters of region ops and scopes, edges of captures and carries, values of a run."""

from collections.abc import Callable

import numpy as np
import pytest

import dgraph.ops  # noqa: F401 (fills the table of ops)
from dgraph.errors import Source, Span
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Formal, Graph, Value
from dgraph.ir.op import OPS, RegionOp
from dgraph.sizes import size, variable
from dgraph.types import F64, I64, Array, Record, Tuple
from dgraph.view import Scene, SceneNode, record, render, scene_of
from dgraph.view.layout import layout
from dgraph.view.region_rules import RULES

Golden = Callable[[str, str], None]
N, D = variable("n"), variable("d")
REAL = Array(F64)


def graph_of(name: str, build: Callable[..., list[Value]], **inputs: Array) -> Graph:
    """A graph whose formals are the named inputs."""
    g = Builder()
    values = [g.input(type_, formal) for formal, type_ in inputs.items()]
    region = g.close(build(g, *values))
    types = tuple(value.type for value in region.outputs)
    result = types[0] if len(types) == 1 else Tuple(types)
    sizes = dict.fromkeys(str(atom) for type_ in inputs.values() for extent in type_.shape for atom in extent.atoms())
    return Graph(name, tuple(sizes), tuple(Formal(*pair) for pair in inputs.items()), result, region)


def find(scene: Scene, label: str, region: str | None = None) -> SceneNode:
    """The only node with a label."""
    found = [node for node in scene.nodes if node.label == label and (region is None or node.region == region)]
    assert len(found) == 1, (label, [node.label for node in scene.nodes])
    return found[0]


def joined(scene: Scene, tail: SceneNode, head: SceneNode) -> list[str]:
    return [edge.kind for edge in scene.edges if (edge.tail, edge.head) == (tail.id, head.id)]


def region_named(scene: Scene, header: str) -> str:
    (found,) = (region.id for region in scene.regions if region.header == header)
    return found


def scan(g: Builder, w: Value, xs: Value) -> list[Value]:
    """`s = tanh(x . w + s)` over the rows of xs, and every s."""

    def step(h: Builder, _i: Value, carried: list[Value], walked: list[Value]) -> list[Value]:
        with h.at(scope=("cell", "affine")):
            score = h.dot(walked[0], w)
        with h.at(scope=("cell",)):
            following = h.tanh(h.add(score, carried[0]))
        return [following, following]

    return list(g.for_(g.number(N), [g.constant(0.0, F64)], step, walks=[xs], length=N, names=("last", "all")))


SCAN = {"w": Array(F64, (D,)), "xs": Array(F64, (N, D))}


def choose(g: Builder, x: Value) -> list[Value]:
    """`log(x) if x > 0 else x`."""
    positive = g.greater(x, g.constant(0.0, F64))
    return list(g.if_(positive, lambda h: [h.log(x)], lambda _h: [x]))


def halve(g: Builder, x: Value, least: Value) -> list[Value]:
    """Halve x while it is greater than least; the result and the number of times."""
    return list(g.while_([x], lambda h, c: h.greater(c[0], least), lambda h, c: [h.mul(c[0], h.constant(0.5, F64))]))


def test_every_region_op_has_a_rule() -> None:
    assert RULES.keys() == {name for name, op in OPS.items() if issubclass(op, RegionOp)}


def test_a_loop_is_a_cluster_with_its_carry_captures_walks_and_stacks() -> None:
    scene = scene_of(graph_of("scan", scan, **SCAN))
    loop = next(region for region in scene.regions if region.kind == "for")
    assert loop.header == "for i in 0..n"
    carry, tanh, add = find(scene, "carry, first 0.0"), find(scene, "tanh"), find(scene, "add")
    assert carry.region == loop.id
    assert joined(scene, tanh, carry) == ["carry"] and joined(scene, carry, add) == ["data"]
    assert joined(scene, find(scene, "w"), find(scene, "dot")) == ["data"]
    assert joined(scene, find(scene, "xs"), find(scene, "xs[i]")) == ["data"]
    assert find(scene, "xs[i]").type == "f64[d]"
    assert joined(scene, tanh, find(scene, "result.0")) == ["data"]
    stacked = find(scene, "all = gather")
    assert stacked.type == "f64[n]" and joined(scene, stacked, find(scene, "result.1")) == ["data"]
    assert len(scene.nodes) == 10


def test_scopes_nest_and_neighbours_share_them() -> None:
    scene = scene_of(graph_of("scan", scan, **SCAN))
    cell, affine = region_named(scene, "cell"), region_named(scene, "affine")
    assert scene.home[affine] == cell
    assert find(scene, "dot").region == affine
    assert find(scene, "add").region == find(scene, "tanh").region == cell


def test_a_branch_has_two_sides_and_meets_again() -> None:
    scene = scene_of(graph_of("choose", choose, x=REAL))
    then, otherwise = region_named(scene, "then"), region_named(scene, "else")
    ask, meet = find(scene, "?"), find(scene, "result", region_named(scene, "if"))
    assert ask.shape == meet.shape == "diamond"
    assert joined(scene, find(scene, "greater(·, 0.0)"), ask) == ["data"]
    assert [edge.head for edge in scene.edges if edge.kind == "control"] == [then, otherwise]
    log, kept = find(scene, "log", then), find(scene, "x", otherwise)
    assert joined(scene, log, meet) == joined(scene, kept, meet) == ["data"]
    assert joined(scene, find(scene, "x", ""), log) == ["data"]
    assert joined(scene, meet, find(scene, "result", "")) == ["data"]


def test_a_while_asks_then_runs_and_its_result_is_the_carry() -> None:
    scene = scene_of(graph_of("halve", halve, x=REAL, least=REAL))
    carry = find(scene, "x", region_named(scene, "while, carry x"))
    test, body = region_named(scene, "test"), region_named(scene, "body")
    assert joined(scene, find(scene, "mul(·, 0.5)", body), carry) == ["carry"]
    assert joined(scene, find(scene, "least"), find(scene, "greater", test)) == ["data"]
    assert [(edge.tail, edge.head) for edge in scene.edges if edge.kind == "control"] == [
        (find(scene, "continue?").id, body)
    ]
    assert joined(scene, carry, find(scene, "result.0")) == ["data"]
    assert joined(scene, find(scene, "trips"), find(scene, "result.1")) == ["data"]


def test_an_index_space_shows_extents_yields_and_totals() -> None:
    def build(g: Builder, x: Value, y: Value) -> list[Value]:
        product = g.map((N,), lambda h, i: h.mul(h.index(x, i), h.index(y, i)))
        return [product, g.sum_over((N,), F64, lambda h, i: h.index(product, i))]

    scene = scene_of(graph_of("inner", build, x=Array(F64, (N,)), y=Array(F64, (N,))))
    assert [region.header for region in scene.regions] == ["each i0 in n", "each i0 in n"]
    assert find(scene, "gather").type == "f64[n]"
    assert find(scene, "total").type == "f64"
    assert joined(scene, find(scene, "gather"), find(scene, "index", scene.regions[1].id)) == ["data"]
    assert joined(scene, find(scene, "add into"), find(scene, "accumulate")) == ["data"]


def test_a_call_is_a_cluster_and_a_derivative_holds_its_function() -> None:
    def build(g: Builder, x: Value) -> list[Value]:
        h = g.child()
        inner = h.close([h.sin(h.input(REAL, "z"))])
        (called,) = g.call("wave", [x], inner)
        value, slope = g.apply(
            OPS["vjp"](function="wave", wrt=(True,), seeded=(True,)),  # type: ignore[call-arg]
            called,
            g.constant(1.0, F64),
            regions=[inner],
        )
        return [value, slope]

    scene = scene_of(graph_of("calls", build, x=REAL))
    function, derivative = region_named(scene, "wave"), region_named(scene, "vjp of wave")
    assert joined(scene, find(scene, "x"), find(scene, "sin", function)) == ["data"]
    assert joined(scene, find(scene, "sin", function), find(scene, "sin", derivative)) == ["data"]
    assert joined(scene, find(scene, "vjp"), find(scene, "result.1")) == ["data"]


def test_inputs_and_outputs_have_qualified_names_and_nodes_their_place() -> None:
    layer = Record("Layer", (("w", REAL), ("b", REAL)))
    g = Builder()
    w, b = g.input(REAL, "w"), g.input(REAL, "b")
    source = Source("/somewhere/model.dg", "a\nb = w * b\n")
    with g.at(Span(source, 2, 3)):
        product = g.emit(OPS["mul"](), w, b, name="scaled")
    graph = Graph("f", (), (Formal("model", layer),), REAL, g.close([product]))
    scene = scene_of(graph, title="a title", texts=("a text",))
    assert [node.label for node in scene.nodes] == ["model.w", "model.b", "mul", "result"]
    assert (find(scene, "mul").span, find(scene, "mul").type) == ("model.dg:2", "scaled: f64")
    assert (scene.title, scene.texts) == ("a title", ("f(model: Layer) -> f64", "a text"))


def test_values_are_those_of_the_last_step() -> None:
    graph = graph_of("scan", scan, **SCAN)
    w, xs = np.array([0.5, -1.0]), np.array([[1.0, 2.0], [0.25, 0.5], [-1.0, 3.0]])
    s = [0.0]
    for row in xs:
        s.append(float(np.tanh(row @ w + s[-1])))
    scene = scene_of(graph, values=record(graph, [w, xs]))
    assert find(scene, "carry, first 0.0").value == str(np.float64(s[2]))
    assert find(scene, "tanh").value == find(scene, "result.0").value == str(np.float64(s[3]))
    assert find(scene, "xs[i]").value == "[-1, 3]"
    assert find(scene, "result.0").value == str(evaluate(graph, [w, xs])[0])
    assert all(node.adjoint is None for node in scene.nodes)
    assert "last step" in scene.texts[-1]


@pytest.mark.parametrize(("x", "log", "kept"), [(2.0, str(np.log(2.0)), "not run"), (-2.0, "not run", "-2.0")])
def test_the_side_that_was_not_taken_has_not_run(x: float, log: str, kept: str) -> None:
    graph = graph_of("choose", choose, x=REAL)
    scene = scene_of(graph, values=record(graph, [x]))
    assert find(scene, "log").value == log
    assert find(scene, "x", region_named(scene, "else")).value == kept


def test_a_side_taken_in_an_earlier_step_only_has_not_run_in_the_last() -> None:
    def build(g: Builder, x: Value) -> list[Value]:
        def step(h: Builder, i: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
            early = h.less(i, h.constant(1, I64))
            return list(h.if_(early, lambda b: [b.sin(carried[0])], lambda b: [b.cos(carried[0])]))

        return list(g.for_(g.constant(2, I64), [x], step))

    graph = graph_of("turns", build, x=REAL)
    scene = scene_of(graph, values=record(graph, [1.0]))
    assert find(scene, "sin").value == "not run"
    assert find(scene, "cos").value == str(np.cos(np.sin(1.0)))


def test_the_body_of_a_loop_without_steps_has_not_run() -> None:
    graph = graph_of("halve", halve, x=REAL, least=REAL)
    scene = scene_of(graph, values=record(graph, [0.5, 1.0]))
    assert find(scene, "mul(·, 0.5)").value == "not run"
    carries = region_named(scene, "while, carry x")
    assert find(scene, "x", carries).value == "0.5" and find(scene, "trips").value == "0"
    ran = scene_of(graph, values=record(graph, [8.0, 1.0]))
    assert find(ran, "x", carries).value == "1.0" and find(ran, "trips").value == "3"
    assert find(ran, "mul(·, 0.5)").value == "1.0"


def test_a_region_that_stands_twice_shows_other_values_in_each_place() -> None:
    def build(g: Builder, x: Value) -> list[Value]:
        h = g.child()
        inner = h.close([h.sin(h.input(REAL, "z"))])
        (once,) = g.call("wave", [x], inner)
        return list(g.call("wave", [once], inner))

    graph = graph_of("waves", build, x=REAL)
    scene = scene_of(graph, values=record(graph, [1.0]))
    assert [node.value for node in scene.nodes if node.label == "sin"] == [str(np.sin(1.0)), str(np.sin(np.sin(1.0)))]


def test_a_plain_mapping_of_values_and_adjoints() -> None:
    graph = graph_of("choose", choose, x=REAL)
    (x,) = graph.region.inputs
    scene = scene_of(graph, values={x: np.float64(2.0)}, adjoints={x: np.float64(0.5)})
    assert (find(scene, "x", "").value, find(scene, "x", "").adjoint) == ("2.0", "0.5")
    assert (find(scene, "log").value, find(scene, "log").adjoint) == (None, None)
    assert "adjoints are those of values outside of loops, choices and index spaces" in scene.texts


def test_the_reverse_pass_shows_adjoints_and_saved_values() -> None:
    def build(g: Builder, x: Value) -> list[Value]:
        y = g.sin(x)
        with g.at(derived="adjoint"):
            slope = g.mul(g.constant(3.0, F64), g.cos(x))
        return [y, slope]

    graph = graph_of("slope", build, x=REAL)
    scene = scene_of(graph, values=record(graph, [1.0]))
    x, sin, cos, mul = (find(scene, label) for label in ("x", "sin", "cos", "mul(3.0, ·)"))
    assert (sin.direction, cos.direction, mul.direction) == ("forward", "adjoint", "adjoint")
    assert (sin.value, sin.adjoint) == (str(np.sin(1.0)), None)
    assert (mul.value, mul.adjoint) == (None, str(3.0 * np.cos(1.0)))
    assert joined(scene, x, sin) == ["data"] and joined(scene, x, cos) == ["saved"]
    assert find(scene, "result.1").adjoint == mul.adjoint
    places = layout(scene, engine="layered").frames
    assert places[find(scene, "result.1").id].y < places[mul.id].y < places[cos.id].y


@pytest.mark.parametrize(
    ("build", "inputs"), [(scan, SCAN), (choose, {"x": REAL}), (halve, {"x": REAL, "least": REAL})]
)
def test_golden(golden: Golden, build: Callable[..., list[Value]], inputs: dict[str, Array]) -> None:
    scene = scene_of(graph_of(build.__name__, build, **inputs))
    golden(f"view/{build.__name__}.dot", render(scene, ".dot").decode())
    again = scene_of(graph_of(build.__name__, build, **inputs))
    assert render(scene, engine="layered") == render(again, engine="layered")


@pytest.mark.parametrize(
    ("build", "label"),
    [
        (lambda g, x: g.slice(x, starts=(size(1),), steps=(1,), shape=(variable("n") - 2,)), "slice [1:n - 1]"),
        (lambda g, x: g.slice(x, starts=(size(0),), steps=(1,), shape=(variable("n") - 1,)), "slice [:n - 1]"),
        (lambda g, x: g.slice(x, starts=(size(1),), steps=(1,), shape=(variable("n") - 1,)), "slice [1:]"),
        (lambda g, x: g.slice(x, starts=(size(0),), steps=(3,), shape=(size(2),)), "slice [:6:3]"),
        (lambda g, x: g.slice(x, starts=(variable("n") - 1,), steps=(-1,), shape=(variable("n"),)), "slice [::-1]"),
        (lambda g, x: g.powi(x, exponent=3), "** 3"),
        (lambda g, x: g.reduce_sum(x, axes=(0,)), "reduce_sum axes=[0]"),
    ],
)
def test_labels_are_in_the_notation_of_the_language(build, label: str) -> None:
    graph = graph_of("labels", lambda g, x: [build(g, x)], x=Array(F64, (variable("n"),)))
    assert find(scene_of(graph), label).label == label
