"""One test of each kind over the whole table of ops."""

import inspect

import numpy as np
import pytest
from op_samples import BINDINGS, CASES, ELSEWHERE, Case

from dgraph.ad import jvp, vjp
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.graph import Formal, Graph, Region
from dgraph.ir.op import OPS, Op
from dgraph.ir.text import parse_graph, print_graph
from dgraph.ops.elementwise import Elementwise, Unary
from dgraph.ops.linalg import Dot
from dgraph.ops.linalg_systems import Determinant
from dgraph.ops.random import Normal
from dgraph.ops.reduce import LogSumExp
from dgraph.ops.scan import Running
from dgraph.types import BOOL, F64, Array, Tuple

STEP = 1e-6
LINEAR_TOGETHER = {"cast": (0,), "add": (0, 1), "sub": (0, 1), "select": (1, 2), "set_at": (0, 2)}
"""Ops that are linear in several operands at once; concat is, in all of them."""


def ids(cases):
    return {"argvalues": cases, "ids": [case.id for case in cases]}


def results_of(case: Case, operands, binding):
    with np.errstate(all="ignore"):
        found = case.op.evaluate(lambda extent: extent.evaluate(binding.__getitem__), *operands)
    return found if isinstance(found, tuple) else (found,)


def bindings(case: Case):
    return [BINDINGS[at] for at in case.bindings]


def run(region: Region, arrays, binding):
    return Interpreter(binding).run(region, [np.asarray(array)[()] for array in arrays])


def of_float(cases):
    """Cases in f64 whose op has a derivative."""
    return [
        case
        for case in cases
        if any(type_.dtype == F64 for type_ in case.types)
        and [type_.dtype for type_ in case.op.infer(case.types, ())] == [F64]
        and moves(case)
    ]


def smooth(cases):
    """Those whose operands are where differences tell the derivative."""
    return [case for case in cases if case.smooth]


def test_every_op_has_a_case_and_a_docstring():
    assert {case.op.name for case in CASES} == OPS.keys() - ELSEWHERE
    for name, kind in OPS.items():
        assert kind.__doc__ and kind.__doc__ is not Op.__doc__ and "(" + name not in kind.__doc__[:1], name
        assert not kind.__doc__.startswith(kind.__name__ + "("), f"{name} has only the docstring of a dataclass"


def test_every_op_of_this_package_has_an_index_space_form():
    lacking = {name for name in OPS.keys() - ELSEWHERE if OPS[name].expand is Op.expand}
    factorisations = {"triangular_solve", "cholesky", "lu", "lu_solve", "qr", "eigh", "svd"}
    assert lacking == {"index", "set_at"} | factorisations


@pytest.mark.parametrize("case", **ids(CASES))
def test_evaluate_gives_the_inferred_type(case):
    for binding in bindings(case):
        results = results_of(case, case.operands(binding), binding)
        types = case.op.infer(case.types, ())
        assert len(results) == len(types)
        for result, type_ in zip(results, types, strict=True):
            assert isinstance(result, np.ndarray if type_.shape else np.generic)
            assert result.dtype == type_.dtype.numpy
            assert result.shape == tuple(extent.evaluate(binding.__getitem__) for extent in type_.shape)


@pytest.mark.parametrize("case", **ids(CASES))
def test_evaluate_leaves_operands_alone(case):
    operands = case.operands(BINDINGS[0])
    before = [np.array(operand) for operand in operands]
    for operand in operands:
        if isinstance(operand, np.ndarray):
            operand.flags.writeable = False
    results_of(case, operands, BINDINGS[0])
    for operand, copy in zip(operands, before, strict=True):
        np.testing.assert_array_equal(operand, copy)


@pytest.mark.parametrize("case", **ids(CASES))
def test_cost_is_a_number(case):
    cost = case.op.cost(case.types)
    for binding in bindings(case):
        assert cost.operations.evaluate(binding.__getitem__) >= 0
        assert cost.bytes.evaluate(binding.__getitem__) >= 0


@pytest.mark.parametrize("case", **ids(CASES))
def test_an_op_with_all_its_facts_is_read_back_from_text(case):
    g = Builder()
    inputs = [g.input(type_, f"x{at}") for at, type_ in enumerate(case.types)]
    results = g.apply(case.op, *inputs)
    formals = tuple(Formal(value.name, value.type) for value in inputs)
    graph = Graph("f", ("n", "m", "k"), formals, Tuple(tuple(value.type for value in results)), g.close(results))
    text = print_graph(graph)
    found = parse_graph(text)
    assert found.region.nodes[0].op == case.op
    assert print_graph(found) == text


# ---- the index-space form -----------------------------------------------------------------------------------------

ROUNDED = (Unary, Dot, Determinant, LogSumExp, Running, Normal)
"""Ops whose index-space form may round otherwise than NumPy; the sums and products of reductions too."""


@pytest.mark.parametrize("case", **ids([case for case in CASES if OPS[case.op.name].expand is not Op.expand]))
def test_the_index_space_form_means_the_same(case):
    g = Builder()
    inputs = [g.input(type_) for type_ in case.types]
    found = case.op.expand(g, inputs)
    assert [value.type for value in found] == list(case.op.infer(case.types, ()))
    region = g.close(found)
    for binding in bindings(case):
        operands = case.operands(binding)
        with np.errstate(all="ignore"):
            results = run(region, operands, binding)
        for one, other in zip(results, results_of(case, operands, binding), strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape
            if isinstance(case.op, ROUNDED) or case.op.name in ("reduce_sum", "reduce_prod", "contract"):
                wide = {"digamma": 500, "polygamma": 500, "contract": 64}.get(case.op.name, 16)
                limit = wide * np.finfo(one.dtype).eps if one.dtype.kind == "f" else 0
                np.testing.assert_allclose(one, other, rtol=limit, atol=limit)
            else:
                np.testing.assert_array_equal(one, other)


# ---- derivatives --------------------------------------------------------------------------------------------------


def jvp_region(case: Case, moved: tuple[int, ...]) -> Region | None:
    """Operands, then tangents of the moved ones, to the tangents of the results; None for a structural zero."""
    g = Builder()
    primals = [g.input(type_) for type_ in case.types]
    tangents = [g.input(type_) if at in moved else None for at, type_ in enumerate(case.types)]
    results = g.apply(case.op, *primals)
    found = case.op.jvp(g, primals, results, tangents)
    assert len(found) == len(results)
    if any(tangent is None for tangent in found):
        return None
    assert [tangent.type for tangent in found] == [result.type for result in results]
    return g.close(found)


def directions(case: Case, moved, binding, seed=1):
    rng = np.random.default_rng(seed)
    shapes = [tuple(extent.evaluate(binding.__getitem__) for extent in case.types[at].shape) for at in moved]
    return [np.asarray(rng.normal(size=shape))[()] for shape in shapes]


def moves(case: Case) -> list[tuple[int, ...]]:
    """Every float operand alone, and all of them together."""
    floats = tuple(at for at, type_ in enumerate(case.types) if type_.dtype.is_float and at not in case.held)
    return [(at,) for at in floats] + ([floats] if len(floats) > 1 else [])


def difference(case: Case, operands, moved, tangents, binding, step=STEP):
    ends = []
    for sign in (1, -1):
        shifted = list(operands)
        for at, tangent in zip(moved, tangents, strict=True):
            shifted[at] = shifted[at] + sign * step * tangent
        ends.append(results_of(case, shifted, binding)[0])
    return (ends[0] - ends[1]) / (2 * step) if ends[0].size and np.isfinite(ends[0]).all() else np.zeros_like(ends[0])


@pytest.mark.parametrize("case", **ids(smooth(of_float(CASES))))
def test_jvp_agrees_with_differences(case):
    for moved in moves(case):
        region = jvp_region(case, moved)
        for binding in bindings(case):
            operands = case.operands(binding)
            tangents = directions(case, moved, binding)
            expected = difference(case, operands, moved, tangents, binding)
            if region is None and case.op.name != "stop_gradient":
                np.testing.assert_array_equal(expected, np.zeros_like(expected))
            if region is None:
                continue
            (found,) = run(region, [*operands, *tangents], binding)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_structural_zeros():
    """A missing tangent gives none; functions that are constant almost everywhere give none at all."""
    for case in of_float(CASES):
        assert jvp_region(case, ()) is None
    zeros = {case.op.name for case in of_float(CASES) if jvp_region(case, moves(case)[-1]) is None}
    assert zeros == {"sign", "floor", "ceil", "round", "floor_divide", "stop_gradient", "powi"}
    assert jvp_region(Case(OPS["powi"](exponent=0), (Array(F64),)), (0,)) is None


def test_a_cast_to_an_integer_stops_tangents():
    case = next(case for case in CASES if case.op.name == "cast" and case.id.startswith("cast(dtype=i64) f64"))
    assert jvp_region(case, (0,)) is None


def linear_sets(op: Op, count: int):
    if op.linear_in is not None:
        return [(at,) for at in op.linear_in]
    if op.name == "contract":
        return [(0,), (1,), (2,), (0, 2), (1, 2)] if count == 3 else [(0,), (1,)]
    together = tuple(range(count)) if op.name == "concat" else LINEAR_TOGETHER[op.name]
    return [(at,) for at in together] + [together]


TRANSPOSED = [case for case in of_float(CASES) if type(case.op).transpose is not Op.transpose]


@pytest.mark.parametrize("case", **ids(TRANSPOSED))
def test_transpose_is_the_transpose_of_the_jvp(case):
    (result,) = case.op.infer(case.types, ())
    sets = [(0,)] if case.op.name == "div" else linear_sets(case.op, len(case.types))
    for moved in sets:
        flags = [at in moved for at in range(len(case.types))]
        g = Builder()
        operands = [g.input(type_) for type_ in case.types]
        cotangent = g.input(result)
        found = case.op.transpose(g, operands, flags, cotangent)
        assert len(found) == len(operands)
        assert all(value is None for value, flag in zip(found, flags, strict=True) if not flag)
        region = g.close([found[at] for at in moved])
        assert [value.type for value in region.outputs] == [case.types[at] for at in moved]
        forward = jvp_region(case, moved)
        for binding in bindings(case):
            arrays = case.operands(binding)
            tangents = directions(case, moved, binding)
            (pushed,) = run(forward, [*arrays, *tangents], binding)
            weight = np.random.default_rng(2).normal(size=pushed.shape)
            hidden = [array * np.nan if flag else array for array, flag in zip(arrays, flags, strict=True)]
            pulled = run(region, [*hidden, weight], binding)
            left = np.sum(pushed * weight)
            right = sum(np.sum(tangent * back) for tangent, back in zip(tangents, pulled, strict=True))
            np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", **ids(of_float(CASES)))
def test_vjp_is_the_transpose_of_jvp(case):
    moved = moves(case)[-1]
    forward = jvp_region(case, moved)
    if forward is None:
        return
    g = Builder()
    region = g.close(g.apply(case.op, *map(g.input, case.types)))
    backward = vjp(region, [at in moved for at in range(len(case.types))], [True])
    for binding in bindings(case):
        arrays = case.operands(binding)
        tangents = directions(case, moved, binding)
        (pushed,) = run(forward, [*arrays, *tangents], binding)
        weight = np.random.default_rng(2).normal(size=pushed.shape)
        _, *pulled = run(backward, [*arrays, weight], binding)
        right = sum(np.sum(tangent * back) for tangent, back in zip(tangents, pulled, strict=True))
        np.testing.assert_allclose(np.sum(pushed * weight), right, rtol=1e-12, atol=1e-12)


# ---- second derivatives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", **ids(smooth(of_float(CASES))))
def test_jvp_of_jvp_agrees_with_differences_of_the_jvp(case):
    moved = moves(case)[-1]
    first = jvp_region(case, moved)
    if first is None:
        return
    floats = [at for at, value in enumerate(first.inputs) if value.type.dtype.is_float and at not in case.held]
    second = jvp(first, [at in floats for at in range(len(first.inputs))])
    binding = BINDINGS[case.bindings[0]]
    arrays = [*case.operands(binding), *directions(case, moved, binding)]
    rng = np.random.default_rng(3)
    tangents = {at: np.asarray(rng.normal(size=np.shape(arrays[at])))[()] for at in floats}
    ends = []
    for sign in (1, -1):
        shifted = [array + sign * STEP * tangents[at] if at in tangents else array for at, array in enumerate(arrays)]
        ends.append(run(first, shifted, binding)[0])
    value, found = run(second, [*arrays, *tangents.values()], binding)
    np.testing.assert_array_equal(value, run(first, arrays, binding)[0])
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * STEP), rtol=2e-6, atol=2e-6)


# ---- edges --------------------------------------------------------------------------------------------------------

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 5e-324, 1e300, -1e300, np.inf, -np.inf, np.nan]
SCALARS = [
    case
    for case in CASES
    if isinstance(case.op, Elementwise)
    and all(type_.dtype in (F64, BOOL) and not type_.shape for type_ in case.types)
    and F64 in {type_.dtype for type_ in case.types}
]


@pytest.mark.parametrize("case", **ids(SCALARS))
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_an_array_op_is_its_scalar_op_at_the_edges(case, kind):
    """At 0, -0, the ends of the range, infinities and NaN, in every combination, and nothing fails there."""
    grid = np.meshgrid(*[np.array(EDGES)] * len(case.types), indexing="ij")
    with np.errstate(all="ignore"):
        operands = [
            axis.ravel().astype(bool if type_.dtype == BOOL else kind)
            for axis, type_ in zip(grid, case.types, strict=True)
        ]
    (together,) = results_of(case, operands, {})
    for row, entry in zip(zip(*operands, strict=True), together, strict=True):
        (alone,) = results_of(case, list(row), {})
        assert alone.dtype == entry.dtype
        if np.isfinite(alone) and entry.dtype.kind == "f" and alone != 0:
            np.testing.assert_allclose(alone, entry, rtol=4 * np.finfo(kind).eps)
        else:
            np.testing.assert_array_equal(alone, entry)
            assert np.signbit(alone) == np.signbit(entry) or np.isnan(alone)


def test_jvp_is_documented_for_each_rule():
    for name, kind in OPS.items():
        for member in ("infer", "evaluate", "jvp", "transpose", "expand", "cost"):
            function = getattr(kind, member)
            assert inspect.getdoc(function), f"{name}.{member}"
