"""The law of the rules: the sides are equal for all special values, to the last bit or as far as a rule says; the right
side costs no more; slopes are the same whichever comes first, rule or derivative."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from random_arrays import is_same

import dgraph.ops  # noqa: F401
from dgraph.ad import expand
from dgraph.errors import InvalidGraph, ParseError
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.evaluate import Interpreter, evaluate
from dgraph.ir.graph import Formal, Graph, Region, Value
from dgraph.ir.op import OPS
from dgraph.ops.elementwise import Elementwise
from dgraph.passes import run_passes
from dgraph.passes.fold_constants import fold
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.passes.rules import (
    EXACT,
    STABLE,
    Apply,
    Hole,
    Number,
    Pattern,
    Rule,
    read_rules,
    rules,
    rules_as_data,
    written_rules,
)
from dgraph.passes.simplify import simplify
from dgraph.sizes import variable
from dgraph.types import BOOL, F32, F64, I32, I64, Array, DType, Tuple

RULES = [*written_rules(EXACT), *written_rules(STABLE)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 2.5, -3.75, 1e-310, 1e200, -1e200, np.inf, -np.inf, np.nan, 0.1, 7.0]
MORE = [1e-9, -1e-20, 40.0, -40.0, 800.0, -800.0]
INTEGERS = [0, 1, -1, 2, -7, 100, 2**31 - 1, -(2**31)]
SAMPLES = {"float": FLOATS, "int": INTEGERS, "bool": [False, True]}


def holes_of(pattern: Pattern) -> set[str]:
    if isinstance(pattern, Hole):
        return {pattern.name}
    return set().union(*map(holes_of, pattern.operands)) if isinstance(pattern, Apply) else set()


def written(g: Builder, pattern: Pattern, holes: dict[str, Value], number: DType) -> Value:
    """A side of a rule as nodes; its numbers have the dtype given, unless they are bools."""
    if isinstance(pattern, Hole):
        return holes[pattern.name]
    if isinstance(pattern, Number):
        return g.constant(pattern.value, BOOL if isinstance(pattern.value, bool) else number)
    operands = [written(g, part, holes, number) for part in pattern.operands]
    return g.emit(OPS[pattern.op](**dict(pattern.facts)), *operands)


def typings(rule: Rule) -> Iterator[dict[str, DType]]:
    """Dtypes for the holes with which the left side is a legal graph and the conditions hold."""
    names = sorted(holes_of(rule.left))
    for dtypes in itertools.product([F64, F32, I64, I32, BOOL], repeat=len(names)):
        chosen = dict(zip(names, dtypes, strict=True))
        kinds = {"integer": "int", "float": "float"}
        if any(c.kind in kinds and chosen[c.hole].kind != kinds[c.kind] for c in rule.conditions):
            continue
        try:
            sides(rule, chosen, {})
        except InvalidGraph:
            continue
        yield chosen


def sides(rule: Rule, dtypes: dict[str, DType], constants: dict[str, float]) -> tuple[Rewriter, Region, Region]:
    """The builder of the left side, and both sides; some holes are constants."""
    number = next((dtype for dtype in dtypes.values() if dtype is not BOOL), BOOL)

    def side(g: Builder, pattern: Pattern, dtype: DType) -> Region:
        holes = {}
        for name in sorted(dtypes):
            given = g.input(Array(dtypes[name]), name)
            holes[name] = g.constant(constants[name], dtypes[name]) if name in constants else given
        return g.close([written(g, pattern, holes, dtype)])

    builder = Rewriter((), lambda _g, _node: None)
    left = side(builder, rule.left, number)
    kind = left.outputs[0].type
    assert isinstance(kind, Array)
    return builder, left, side(Builder(), rule.right, kind.dtype)


def price(region: Region) -> int:
    """The weight of a region, what is known before it runs left out."""
    region = remove_dead_code(rewrite(region, fold))
    return sum(node.op.weight for node in region.nodes if isinstance(node.op, Elementwise))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
def test_both_sides_are_equal(rule: Rule):
    constant = [condition.hole for condition in rule.conditions if condition.kind in ("constant", "invertible")]
    invertible = [condition.hole for condition in rule.conditions if condition.kind == "invertible"]
    tried = 0
    for dtypes in typings(rule):
        names = sorted(dtypes)
        more = MORE if rule.within else []
        for values in itertools.product(*(SAMPLES[dtypes[name].kind] + more for name in names)):
            at = dict(zip(names, values, strict=True))
            if any(at[name] not in (1.0, -1.0, 0.5, 2.0**-60) for name in invertible):
                continue
            if tried % 3 == 0 or len(names) < 3:
                compare(rule, dtypes, at, constant)
            tried += 1
    assert tried


def compare(rule: Rule, dtypes: dict[str, DType], at: dict[str, float], constant: list[str]) -> None:
    builder, left, right = sides(rule, dtypes, {name: at[name] for name in constant})
    with np.errstate(all="ignore"):
        arguments = [np.asarray(at[name]).astype(dtypes[name].numpy)[()] for name in sorted(dtypes)]
    (one,), (other,) = (Interpreter({}).run(region, arguments) for region in (left, right))
    assert one.dtype == other.dtype
    if rule.within:
        assert_close(rule, at, one, other)
    else:
        assert is_same([one], [other]), at
        assert np.isnan(one) or np.signbit(one) == np.signbit(other) if one.dtype.kind == "f" else True, at
    assert rule.apply(builder, left.nodes[-1]) is not None, at
    assert price(right) <= price(left) * (1.1 if rule.within else 1)


def assert_close(rule: Rule, at: dict[str, float], left, right) -> None:
    """The right side is near the left side where that is finite, and near the truth, in rounding at the size of 1."""
    if any(np.isnan(value) for value in at.values()):
        assert np.isnan(right), at
        return
    rounding = rule.within * float(np.finfo(left.dtype).eps)
    if np.isfinite(left):
        assert abs(float(left) - float(right)) <= rounding * max(1.0, abs(float(left))), at
    with np.errstate(over="ignore"):
        given = {name: np.longdouble(np.asarray(value).astype(left.dtype)[()]) for name, value in at.items()}
    wide = truth(rule.left, given)
    if np.isfinite(right):
        assert np.isnan(wide) or abs(wide - np.longdouble(right)) <= rounding * max(1.0, abs(float(wide))), at
    else:
        # Numbers beyond the largest of the dtype are infinite; what is NaN in wide arithmetic too has no value.
        assert np.isnan(right) == np.isnan(wide), at
        assert np.isnan(right) or abs(wide) > np.finfo(left.dtype).max, at


WIDE = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "pow": np.power,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def truth(pattern: Pattern, at) -> np.longdouble:
    """A side in 80 bits: with a range in which none of these forms overflows."""
    if isinstance(pattern, Hole):
        return at[pattern.name]
    if isinstance(pattern, Number):
        return np.longdouble(pattern.value)
    with np.errstate(all="ignore"):
        return WIDE[pattern.op](*(truth(part, at) for part in pattern.operands))


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no wide float to know the truth by")
def test_the_wide_arithmetic_is_wide():
    assert truth(RULES[-1].left, {"x": np.longdouble(2)}) != np.sqrt(2.0)


N = variable("n")


def function_of(pattern: Pattern, dtypes: dict[str, DType], constants: dict[str, float], number: DType) -> Graph:
    """A side of a rule as a function of arrays."""
    g = Builder()
    formals, holes = [], {}
    for name, dtype in sorted(dtypes.items()):
        if name in constants:
            holes[name] = g.full(constants[name], Array(dtype, (N,)))
        else:
            holes[name] = g.input(Array(dtype, (N,)), name)
            formals.append(Formal(name, Array(dtype, (N,))))

    def build(part: Pattern) -> Value:
        if isinstance(part, Hole):
            return holes[part.name]
        if isinstance(part, Number):
            return g.full(part.value, Array(BOOL if isinstance(part.value, bool) else number, (N,)))
        return g.emit(OPS[part.op](**dict(part.facts)), *map(build, part.operands))

    region = g.close([build(pattern)])
    return Graph("f", ("n",), tuple(formals), region.outputs[0].type, region)


def first_typing(rule: Rule) -> tuple[dict[str, DType], dict[str, float], DType]:
    dtypes = next(typings(rule))
    constants = {c.hole: 2.0 for c in rule.conditions if c.kind in ("constant", "invertible")}
    constants = {name: value if dtypes[name].is_float else 3 for name, value in constants.items()}
    return dtypes, constants, next((dtype for dtype in dtypes.values() if dtype is not BOOL), BOOL)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
@pytest.mark.parametrize("n", [0, 3])
def test_rules_hold_for_arrays(rule: Rule, n: int):
    dtypes, constants, number = first_typing(rule)
    graph = function_of(rule.left, dtypes, constants, number)
    after = run_passes(graph, ["stable_forms" if rule.within else "simplify", "dead_code"], verify=True)
    assert [node.op for node in after.region.nodes] != [node.op for node in graph.region.nodes]
    rng = np.random.default_rng(n)
    arguments = [np.abs(rng.normal(size=n) * 3).astype(v.type.dtype.numpy) for v in graph.region.inputs]
    one, other = evaluate(graph, arguments), evaluate(after, arguments)
    assert one[0].shape == other[0].shape == (n,)
    assert is_same(one, other) if not rule.within else np.allclose(one, other, rtol=1e-14, atol=1e-14, equal_nan=True)


def slope_of(graph: Graph) -> Graph:
    """The sum of a function of float arrays, and its gradient."""
    f = Builder()
    inputs = [f.input(v.type, v.name) for v in graph.region.inputs]
    body = f.close([f.reduce_sum(f.inline(graph.region, inputs, ())[0], axes=(0,))])
    g = Builder()
    own = [g.input(v.type, v.name) for v in graph.region.inputs]
    op = OPS["vjp"](function="f", wrt=(True,) * len(own), seeded=(True,))
    region = g.close(g.apply(op, *own, g.constant(1.0, F64), regions=[body]))
    result = Tuple(tuple(value.type for value in region.outputs))
    return expand(Graph("f", graph.sizes, graph.formals, result, region))


def is_differentiable(rule: Rule) -> bool:
    try:
        dtypes = next(d for d in typings(rule) if all(dtype is F64 for dtype in d.values()))
    except StopIteration:
        return False
    _, left, _ = sides(rule, dtypes, {c.hole: 2.0 for c in rule.conditions if c.kind in ("constant", "invertible")})
    return left.outputs[0].type == Array(F64)


@pytest.mark.parametrize("rule", [r for r in RULES if is_differentiable(r)], ids=lambda rule: rule.text)
def test_rules_commute_with_derivatives(rule: Rule):
    """The slope of the right side is that of the left side, and that of the left side after the rules."""
    _, constants, _ = first_typing(rule)
    names = holes_of(rule.left)
    left, right = (function_of(side, dict.fromkeys(names, F64), constants, F64) for side in (rule.left, rule.right))
    rules_of = "stable_forms" if rule.within else "simplify"
    points = np.array([-2.3, -0.7, -0.01, 0.3, 0.9, 1.7, 4.1])
    arguments = [points + 0.05 * at for at in range(len(left.region.inputs))]
    first, then = slope_of(left), run_passes(slope_of(left), [rules_of, "simplify"], verify=True)
    expected = evaluate(slope_of(right), arguments)
    for graph in (first, then):
        for one, other in zip(evaluate(graph, arguments), expected, strict=True):
            assert np.allclose(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_a_stable_form_has_a_slope_where_the_written_one_has_none():
    """log(1 + exp(x)) at 1000, where exp overflows."""
    rule = next(rule for rule in RULES if rule.text.startswith("log1p(exp(x))"))
    graph = function_of(rule.left, {"x": F64}, {}, F64)
    x = [np.array([1000.0, -1000.0])]
    assert np.isinf(evaluate(graph, x)[0]).any()
    after = run_passes(graph, ["stable_forms"])
    (value,), (_, slope) = evaluate(after, x), evaluate(slope_of(after), x)
    assert np.array_equal(value, [1000.0, 0.0])
    assert np.array_equal(slope, [1.0, 0.0])


def test_a_rule_says_what_it_may_say():
    for text in ["x => x\n", "nosuch(x) => x\n", "x + y => x when odd(x)\n", "powi(x, exponent=y) => x\n"]:
        with pytest.raises(InvalidGraph):
            read_rules(text, "rules")
    with pytest.raises(ParseError):
        read_rules("x + => x\n", "rules")


def test_rules_that_undo_each_other_are_found():
    def undo(g: Rewriter, node):
        return (g.neg(*node.operands),) if node.op.name in ("sin", "neg") else None

    g = Builder()
    x = g.input(Array(F64))
    with pytest.raises(InvalidGraph, match="does not end"):
        rewrite(g.close([g.sin(x)]), undo)


def test_simplification_of_long_chains_is_linear():
    """Ten thousand nodes in a chain: no recursion over the graph, no quadratic walk."""
    from random_arrays import graph_of

    def build(g, x):
        for _ in range(5000):
            x = g.neg(g.sin(x))
        return [x]

    graph = graph_of([("x", Array(F64))], build)
    assert len(simplify(graph).region.nodes) == 10000


@pytest.mark.parametrize(
    "wrong",
    [
        "x + 0 => x",
        "x / 3 => x * 0.3333333333333333",
        "log(1 + x) => x when float(x) and within(2)",
        "x * 0 => 0",
        "x - x => 0",
        "x == x => True",
        "x / y => y / x",
    ],
)
def test_a_wrong_rule_is_found(wrong: str):
    (rule,) = read_rules(f"{wrong}\n", "rules")
    with pytest.raises(AssertionError):
        test_both_sides_are_equal(rule)


def test_a_dear_rule_is_found():
    (rule,) = read_rules("x * 1 => -(-x)\n", "rules")
    with pytest.raises(AssertionError):
        test_both_sides_are_equal(rule)


@pytest.mark.parametrize("name", [EXACT, STABLE])
def test_the_data_are_those_of_the_text(golden, name):
    golden(f"../../dgraph/passes/{name}.json", rules_as_data(name))
    assert {rule for group in rules(name).values() for rule in group} == set(written_rules(name))
