"""Where the BLAS of this process lies: NumPy's own OpenBLAS, which is loaded already, else SciPy's `cython_blas`."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROUTINES = ("sgemm", "dgemm", "sgemv", "dgemv")


@functools.cache
def address(routine: str) -> int:
    """The address of a Fortran BLAS routine such as `sgemm`; its integers may be 32 or 64 bits wide."""
    return _from_numpy(routine) or _from_scipy(routine)


def _from_numpy(routine: str) -> int | None:
    libraries = Path(np.__file__).parent.parent / "numpy.libs"
    for path in sorted(libraries.glob("*openblas*")):
        function = getattr(ctypes.CDLL(str(path)), f"scipy_{routine}_64_", None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value
    return None


def _from_scipy(routine: str) -> int:
    capsule = _cython_blas().__pyx_capi__[routine]
    api: Any = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer: int = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return pointer


@functools.cache
def _cython_blas() -> Any:
    """The extension module alone: importing its package would take a tenth of a second."""
    name = "scipy.linalg.cython_blas"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("scipy")
    places = package.submodule_search_locations if package is not None else None
    for place in places or ():
        for suffix in EXTENSION_SUFFIXES:
            path = Path(place) / "linalg" / f"cython_blas{suffix}"
            if path.is_file():
                return _load_extension(name, path)
    return importlib.import_module(name)


def _load_extension(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return importlib.import_module(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
