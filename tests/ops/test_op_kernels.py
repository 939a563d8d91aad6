"""Every case of every op through the passes and the kernels, against its evaluation by NumPy."""

import numpy as np
import pytest
from op_samples import BINDINGS, CASES, Case

from dgraph.ir.build import Builder
from dgraph.ir.graph import Formal, Graph
from dgraph.ir.op import OPS
from dgraph.kernels.compile import compile_graph
from dgraph.ops.elementwise import Elementwise, Unary
from dgraph.ops.shape import Move
from dgraph.program.pipeline import stage
from dgraph.sizes import variable
from dgraph.types import BOOL, F32, F64, Array, Extent, Tuple

EXACT = {"argmax", "argmin", "bernoulli", "concat", "reduce_max", "reduce_min", "set_at", "sort", "uniform"}
"""Ops on arrays that round nothing, beside those that move entries."""

ROUNDED = {"div", "fma", "mod", "pow", "powi"}
"""Elementwise ops of floats that round, beside the functions of one number."""

LOOSE = {"digamma": 300, "lgamma": 300, "polygamma": 500}
"""Units in the last place by which the interpreter itself may be off near a zero."""

TOGETHER = 30


def chunks() -> list[list[Case]]:
    """The cases of each op, a few at a time: one graph each."""
    found = []
    for name in OPS:
        cases = [case for case in CASES if case.op.name == name]
        found += [cases[at : at + TOGETHER] for at in range(0, len(cases), TOGETHER)]
    return found


def units(case: Case) -> float:
    """How many units in the last place the kernel may differ by; 0 for bit by bit."""
    op = case.op
    if op.name in LOOSE:
        return LOOSE[op.name]
    if op.name in EXACT or isinstance(op, Move):
        return 0
    if isinstance(op, Elementwise):
        return 8 if isinstance(op, Unary) or op.name in ROUNDED | {"atan2"} else 0
    return 64


def graph_of(cases: list[Case]) -> Graph:
    """All the cases side by side; the sizes are formals."""
    g = Builder()
    outputs, formals = [], []
    for at, case in enumerate(cases):
        inputs = [g.input(type_, f"x{at}_{position}") for position, type_ in enumerate(case.types)]
        formals += [Formal(value.name, value.type) for value in inputs]
        outputs += g.apply(case.op, *inputs)
    sizes = ("n", "m", "k")
    formals += [Formal(name, Extent()) for name in sizes]
    return Graph("f", sizes, tuple(formals), Tuple(tuple(value.type for value in outputs)), g.close(outputs))


@pytest.mark.parametrize("cases", chunks(), ids=lambda cases: f"{cases[0].id} and {len(cases) - 1} more")
def test_kernels_agree_with_the_interpreter(cases):
    kernel = compile_graph(stage(graph_of(cases), "kernels"))
    for number, binding in enumerate(BINDINGS):
        operands = [case.operands(binding) for case in cases if number in case.bindings]
        if len(operands) < len(cases):
            continue
        results = iter(kernel.call([array for arrays in operands for array in arrays], binding))
        for case, arrays in zip(cases, operands, strict=True):
            with np.errstate(all="ignore"):
                wanted = case.op.evaluate(lambda extent: extent.evaluate(binding.__getitem__), *arrays)  # noqa: B023
            for one in wanted if isinstance(wanted, tuple) else (wanted,):
                found = np.asarray(next(results))
                assert found.shape == np.shape(one), case.id
                if one.dtype.kind == "f" and units(case):
                    limit = units(case) * np.finfo(one.dtype).eps
                    np.testing.assert_allclose(found, one, rtol=limit, atol=limit, err_msg=case.id)
                else:
                    np.testing.assert_array_equal(found, one, err_msg=case.id)


EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 5e-324, 1e-30, 1e300, -1e300, np.inf, -np.inf, np.nan]
# A float that no integer can hold becomes any integer, so casts are left out.
SCALARS = list(
    dict.fromkeys(
        case.op
        for case in CASES
        if isinstance(case.op, Elementwise)
        and case.op.name != "cast"
        and {type_.dtype for type_ in case.types} in ({F64}, {F64, BOOL})
    )
)


@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
@pytest.mark.parametrize("at", range(0, len(SCALARS), 16))
def test_kernels_agree_at_the_edges(at, dtype):
    """At 0, -0, the ends of the range, infinities and NaN, in every combination."""
    cases, arguments = [], []
    for op in SCALARS[at : at + 16]:
        kinds = next([type_.dtype for type_ in case.types] for case in CASES if case.op == op)
        cases.append(Case(op, tuple(Array(BOOL if kind == BOOL else dtype, (variable("n"),)) for kind in kinds)))
        with np.errstate(all="ignore"):
            grid = np.meshgrid(*[np.array(EDGES).astype(dtype.numpy)] * len(kinds), indexing="ij")
            arguments.append([axis.ravel().astype(type_.dtype.numpy) for axis, type_ in zip(grid, cases[-1].types)])  # noqa: B905
    for case, arrays in zip(cases, arguments, strict=True):
        kernel = compile_graph(stage(graph_of([case]), "kernels"))
        (found,) = kernel.call(arrays, {"n": arrays[0].size, "m": 1, "k": 1})
        with np.errstate(all="ignore"):
            wanted = case.op.evaluate(lambda _: 0, *arrays)
        if wanted.dtype.kind != "f":
            np.testing.assert_array_equal(found, wanted, err_msg=case.id)
            continue
        limit = max(units(case), 4) * np.finfo(wanted.dtype).eps
        tiny = float(np.finfo(wanted.dtype).tiny)
        np.testing.assert_allclose(found, wanted, rtol=limit, atol=tiny, err_msg=case.id)
        # NumPy leaves open which zero is the larger one.
        zeros = (wanted == 0) & (case.op.name not in ("maximum", "minimum", "largest", "smallest"))
        np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(wanted[zeros]), err_msg=case.id)
