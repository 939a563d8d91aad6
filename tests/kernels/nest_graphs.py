"""Small graphs for the tests of lowering, and comparison of generated code with the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nest_emulator import emulate

import dgraph.ops  # noqa: F401
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Formal, Graph, Value
from dgraph.kernels.compile import compile_graph
from dgraph.sizes import Size, variable
from dgraph.types import Array, DType, Extent, Tuple

N, M, K = variable("n"), variable("m"), variable("k")
SIZES = {"n": N, "m": M, "k": K}


def make_graph(
    inputs: Sequence[tuple[str, Array]],
    build: Callable[..., Sequence[Value]],
    size_formals: Sequence[str] = (),
    name: str = "f",
) -> Graph:
    """The graph of `build(g, *inputs)`."""
    g = Builder()
    values = [g.input(type_, label) for label, type_ in inputs]
    outputs = build(g, *values)
    region = g.close(outputs)
    formals = [Formal(label, type_) for label, type_ in inputs] + [Formal(label, Extent()) for label in size_formals]
    atoms = dict.fromkeys(size_formals)
    for _, type_ in inputs:
        for extent in type_.shape:
            atoms.update(dict.fromkeys(atom for atom in extent.atoms() if isinstance(atom, str)))
    return Graph(name, tuple(atoms), tuple(formals), Tuple(tuple(value.type for value in outputs)), region)


def arguments_for(graph: Graph, sizes: dict[str, int], seed: int = 0) -> list[Any]:
    """Random leaves for given sizes."""
    random = np.random.default_rng(seed)
    found = []
    for value in graph.region.inputs:
        shape = tuple(extent.evaluate(sizes.__getitem__) for extent in value.type.shape)
        dtype: DType = value.type.dtype
        if dtype.is_float:
            found.append(random.normal(size=shape).astype(dtype.numpy))
        elif dtype.kind == "bool":
            found.append(random.integers(0, 2, shape).astype(bool))
        else:
            found.append(random.integers(0, 5, shape).astype(dtype.numpy))
    return found


def check(
    graph: Graph,
    *sizes: dict[str, int],
    compiled: bool = True,
    arguments: Sequence[Any] | None = None,
    ulp: float = 0,
    formals: Sequence[str] = (),
    copies: int = 1,
) -> Any:
    """Compare generated source, run as Python and as machine code, with the interpreter at several sizes."""
    machine = compile_graph(graph) if compiled else None
    for round_, at in enumerate(sizes or ({},)):
        leaves = list(arguments) if arguments is not None else arguments_for(graph, at, round_)
        extents = {name: at[name] for name in formals}
        before = [np.array(leaf) for leaf in leaves]
        wanted = evaluate(graph, leaves, extents)
        compare(emulate(graph, leaves, extents), wanted, ulp)
        for _ in range(copies if machine else 0):
            compare(machine.call(leaves, extents), wanted, ulp)
        for leaf, old in zip(leaves, before, strict=True):
            np.testing.assert_array_equal(leaf, old)
    return machine


def compare(found: Sequence[Any], wanted: Sequence[Any], ulp: float = 0) -> None:
    """Equal shapes, dtypes and numbers; `ulp` allows so many units in the last place of the largest entry."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert np.shape(one) == np.shape(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        if ulp and np.asarray(other).dtype.kind == "f" and np.size(other):
            finite = np.abs(np.where(np.isfinite(other), other, 0))
            room = ulp * np.finfo(np.asarray(other).dtype).eps * np.max(finite, initial=0)
            np.testing.assert_allclose(one, other, rtol=0, atol=room)
        else:
            np.testing.assert_array_equal(one, other)


def size_of(text: str) -> Size:
    """A size variable."""
    return SIZES[text]
