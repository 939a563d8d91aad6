"""PTX of generated CUDA source, without a device: NVVM alone is enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from dgraph.errors import NotSupported
from dgraph.ir.graph import Graph
from dgraph.kernels.cuda_source import NUMBA_NAMES, cuda_program, parameters, print_cuda

CAPABILITY = (9, 0)


def ptx_text(graph: Graph, capability: tuple[int, int] = CAPABILITY) -> str:
    """The PTX of every kernel of a graph. Raises `NotSupported` for what has no CUDA source, and without NVVM."""
    return "\n".join(f"// {name}\n{text}" for name, text in ptx_of_kernels(graph, capability).items())


def ptx_of_kernels(graph: Graph, capability: tuple[int, int] = CAPABILITY) -> dict[str, str]:
    """The PTX of each kernel by name."""
    program = cuda_program(graph)
    source = print_cuda(program)
    cuda, types, errors = map(import_module, ("numba.cuda", "numba.types", "numba.cuda.cudadrv.error"))

    scope: dict[str, Any] = {}
    exec(compile(source, "<dgraph cuda>", "exec"), scope)
    texts = {}
    for kernel in program.kernels:
        operands = []
        for kind, type_ in parameters(kernel):
            numba_type = getattr(types, NUMBA_NAMES[type_])
            operands.append(numba_type[::1] if kind == "array" else numba_type)
        try:
            with _as_if_on(capability):
                texts[kernel.name], _ = cuda.compile_ptx(scope[kernel.name].py_func, tuple(operands), cc=capability)
        except errors.NvvmSupportError as fault:
            note = "install a CUDA toolkit, or the cuda extra: pip install 'dgraph[cuda]'"
            raise NotSupported.at(graph.span, "PTX needs NVIDIA's NVVM compiler", str(fault), note=note) from None
    return texts


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
