"""The law of `simplify.rules`: both sides have the same bits for all special values; the right side costs no more."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from random_arrays import is_same

import dgraph.ops  # noqa: F401
from dgraph.errors import InvalidGraph, ParseError
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.graph import Region, Value
from dgraph.ir.op import OPS
from dgraph.ops.elementwise import Elementwise
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.passes.rules import TEXT, Apply, Hole, Number, Pattern, Rule, read_rules, rules, rules_as_data
from dgraph.passes.simplify import simplify
from dgraph.types import BOOL, F32, F64, I32, I64, Array, DType

RULES = read_rules(TEXT.read_text(encoding="utf-8"), TEXT.name)
FLOATS = [0.0, -0.0, 1.0, -1.0, 2.5, -3.75, 1e-310, 1e200, -1e200, np.inf, -np.inf, np.nan, 0.1, 7.0]
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
    return sum(node.op.weight for node in region.nodes if isinstance(node.op, Elementwise))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
def test_both_sides_are_equal(rule: Rule):
    constant = [condition.hole for condition in rule.conditions if condition.kind == "constant"]
    tried = 0
    for dtypes in typings(rule):
        names = sorted(dtypes)
        for values in itertools.product(*(SAMPLES[dtypes[name].kind] for name in names)):
            at = dict(zip(names, values, strict=True))
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
    assert is_same([one], [other]), at
    assert np.isnan(one) or np.signbit(one) == np.signbit(other) if one.dtype.kind == "f" else True, at
    assert rule.apply(builder, left.nodes[-1]) is not None, at
    assert price(right) <= price(left)


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


@pytest.mark.parametrize("wrong", ["x + 0 => x", "x * 0 => 0", "x - x => 0", "x == x => True", "x / y => y / x"])
def test_a_wrong_rule_is_found(wrong: str):
    (rule,) = read_rules(f"{wrong}\n", "rules")
    with pytest.raises(AssertionError):
        test_both_sides_are_equal(rule)


def test_a_dear_rule_is_found():
    (rule,) = read_rules("x * 1 => -(-x)\n", "rules")
    with pytest.raises(AssertionError):
        test_both_sides_are_equal(rule)


def test_the_data_are_those_of_the_text(golden):
    golden("../../dgraph/passes/simplify.json", rules_as_data())
    assert {rule for group in rules().values() for rule in group} == set(RULES)
