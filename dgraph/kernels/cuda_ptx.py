"""PTX of generated CUDA source, without a device or a driver: NVIDIA's NVVM compiler alone is enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from dgraph.errors import Diagnostic, KernelError
from dgraph.ir.graph import Graph
from dgraph.kernels.cuda_nests import cuda_program
from dgraph.kernels.cuda_source import NUMPY, KernelPrinter, gathering_name, gatherings, print_cuda

CAPABILITY = (9, 0)
"""The compute capability that PTX is written for."""

Parameters = list[tuple[str, str]]


def ptx_of_kernels(graph: Graph, capability: tuple[int, int] = CAPABILITY) -> dict[str, str]:
    """The PTX of each kernel of a graph by name. Raises `KernelError` where NVVM is missing or refuses the source."""
    cut = cuda_program(graph)
    kernels: dict[str, Parameters] = {}
    for op, type_ in gatherings(cut.program):
        kernels[f"gather_{gathering_name(op, type_)}"] = [("array", type_), ("number", "i64"), ("array", type_)]
    for kernel in cut.program.kernels:
        kernels[kernel.name] = KernelPrinter(cut, kernel).parameters()
    scope = loaded(print_cuda(cut))
    return {name: _compile(scope[name], parameters, capability) for name, parameters in kernels.items()}


def loaded(source: str) -> dict[str, Any]:
    """The names that a text defines. Nothing is compiled before it is called."""
    scope: dict[str, Any] = {"__name__": "<dgraph cuda>"}
    exec(compile(source, "<dgraph cuda>", "exec"), scope)
    return scope


def _compile(function: Any, parameters: Parameters, capability: tuple[int, int]) -> str:
    cuda, types = import_module("numba.cuda"), import_module("numba.types")
    names = [("boolean" if type_ == "bool" else NUMPY[type_], kind) for kind, type_ in parameters]
    operands = [getattr(types, name)[::1] if kind == "array" else getattr(types, name) for name, kind in names]
    try:
        with _as_if_on(capability):
            text, _ = cuda.compile_ptx(function.py_func, types.void(*operands), cc=capability)
    except Exception as fault:
        words = " ".join(str(fault).split())[:300]
        note = "PTX needs NVIDIA's NVVM: install a CUDA 13.0 toolkit, or the wheels with `pip install 'dgraph[cuda]'`"
        raise KernelError(Diagnostic(f"no PTX for {function.py_func.__name__}: {words}", (), note)) from fault
    return str(text)


@contextmanager
def _as_if_on(capability: tuple[int, int]) -> Iterator[None]:
    """Numba asks the current device for its capability when a kernel calls a device function; here there is none."""
    dispatcher: Any = import_module("numba.cuda.dispatcher")
    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked
