"""Running generated CUDA source: on a device, or in Numba's simulator, which runs every thread as Python.

The simulator is chosen by `NUMBA_ENABLE_CUDASIM=1` before Numba is imported; it is for tiny arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from math import erf, inf, lgamma, nan, pi
from types import SimpleNamespace
from typing import Any

import numpy as np

from dgraph.ir.graph import Graph
from dgraph.kernels.cuda_nests import cuda_program
from dgraph.kernels.cuda_ptx import loaded
from dgraph.kernels.cuda_source import BLOCKS, FAULT_WORDS, THREADS, print_cuda
from dgraph.kernels.interface import Interface, Port


def run_cuda(
    graph: Graph,
    arrays: Sequence[Any],
    extents: Mapping[str, int] | None = None,
    *,
    checks: str = "on",
    threads: int = THREADS,
    blocks: int = BLOCKS,
) -> list[Any]:
    """Run a graph on the leaves of its arguments. Raises `ArgumentError` if they do not fit, `CheckFailed` if a check
    fails, and `NotSupported` for what has no CUDA source yet. `threads` is a power of two."""
    cuda, config = import_module("numba.cuda"), import_module("numba.core.config")
    cut = cuda_program(graph, checks)
    scope = loaded(print_cuda(cut, threads, blocks))
    if config.ENABLE_CUDASIM:
        scope["math"] = _math_of_devices()
    interface = _interface(graph, cut.program.checks)
    leaves = [
        np.ascontiguousarray(array, port.type.dtype.numpy).reshape(np.shape(array))
        for array, port in zip(arrays, interface.inputs, strict=True)
    ]
    sizes = interface.solve([leaf.shape for leaf in leaves], dict(extents or {}), lambda at: int(leaves[at]))
    shapes = [tuple(max(e.evaluate(sizes.__getitem__), 0) for e in port.type.shape) for port in interface.outputs]
    given = [cuda.to_device(_flat(_signed(leaf))) if leaf.ndim else _signed(leaf)[()] for leaf in leaves]
    types = [_signed(np.empty(0, port.type.dtype.numpy)).dtype for port in interface.outputs]
    results = [cuda.device_array(max(int(np.prod(s)), 1), t) for s, t in zip(shapes, types, strict=True)]
    arguments = [*given, *results, *(int(sizes[name]) for name in graph.sizes)]
    faults = [cuda.to_device(np.zeros(FAULT_WORDS, dtype)) for dtype in (np.int64, np.float64)]
    if cut.program.checks:
        arguments += faults
    with np.errstate(all="ignore"):
        scope["run"](*arguments)
    words, floats = (fault.copy_to_host() for fault in faults)
    if words[0]:
        raise interface.failure(int(words[0]), _state(cut.program.checks[words[0] - 1].state_types, words, floats))
    found = []
    for result, shape, port in zip(results, shapes, interface.outputs, strict=True):
        entries = result.copy_to_host()[: int(np.prod(shape))]
        found.append(entries.view(port.type.dtype.numpy).reshape(shape)[()])
    return found


def _interface(graph: Graph, checks: Any) -> Interface:
    """The arguments and results of a graph."""
    inputs, outputs = (
        tuple(Port(name, value.type) for name, value in zip(names, values, strict=True))  # type: ignore[arg-type]
        for names, values in (
            (graph.input_names, graph.region.inputs),
            (graph.output_names, graph.region.outputs),
        )
    )
    told = graph.told_sizes
    return Interface(graph.name, graph.sizes, told, inputs, outputs, checks, 0, graph.span, wishes=graph.wishes)


def _signed(leaf: Any) -> Any:
    """Keys, 64 bits whose sign means nothing, as integers."""
    return leaf.view(np.int64) if leaf.dtype == np.uint64 else leaf


def _flat(leaf: Any) -> Any:
    """The entries in a row, at least one: a device array of none is not allowed everywhere."""
    return leaf.reshape(-1) if leaf.size else np.zeros(1, leaf.dtype)


def _state(types: Sequence[str], words: Any, floats: Any) -> Any:
    """The values of a failed check as `Interface.failure` reads them: each in a word of its own."""
    state = np.zeros(FAULT_WORDS - 1, np.int64)
    for place, type_ in enumerate(types[: FAULT_WORDS - 1]):
        word = state[place : place + 1]
        if type_ in ("f32", "f64"):
            kind = np.float32 if type_ == "f32" else np.float64
            word.view(kind)[0] = floats[place + 1]
        else:
            word[0] = words[place + 1]
    return state


def _math_of_devices() -> SimpleNamespace:
    """The functions that generated source takes from `math`, as devices have them: infinities and NaN where Python's
    raise. The simulator runs the source as Python."""
    names = ["exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "floor", "ceil"]
    shared = {name: getattr(np, name) for name in (*names, "isnan", "isfinite", "fmod")}
    inverse = {f"a{name}": getattr(np, f"arc{name}") for name in ("sin", "cos", "tan", "tan2")}
    special = {function.__name__: partial(_kept, function) for function in (erf, lgamma)}
    return SimpleNamespace(**shared, **inverse, **special, pow=np.power, inf=inf, nan=nan, pi=pi)


def _kept(function: Any, x: Any) -> Any:
    """A function of Python numbers, its result in the type of the operand."""
    try:
        return type(x)(function(x))
    except (OverflowError, ValueError):
        return type(x)(inf)
