"""Where the BLAS and LAPACK of this process lie: NumPy's own OpenBLAS, which is loaded already, else SciPy's
`cython_blas` and `cython_lapack`."""

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

THREAD_ROUTINES = {"get_threads": "openblas_get_num_threads64_", "set_threads": "openblas_set_num_threads64_"}
"""How many threads OpenBLAS uses: `int get()` and `void set(int)`."""

SYMBOL_PREFIX = "dgraph_blas_"
"""What the names of routines begin with in object code."""

BLAS_ROUTINES = ("gemm", "trsm", "trsv")
LAPACK_ROUTINES = ("potrf", "getrf", "gelqf", "orglq", "syevd", "gesdd")

ROUTINES = (*(kind + name for name in (*BLAS_ROUTINES, *LAPACK_ROUTINES) for kind in "sd"), *THREAD_ROUTINES)


@functools.cache
def address(routine: str) -> int:
    """The address of a Fortran routine such as `sgemm`, whose integers may be 32 or 64 bits wide, or of one that reads
    or sets the number of threads."""
    if routine in THREAD_ROUTINES:
        return _symbol_of_numpy(f"scipy_{THREAD_ROUTINES[routine]}") or _one_thread(routine)
    return _from_numpy(routine) or _from_scipy(routine)


def _from_numpy(routine: str) -> int | None:
    return _symbol_of_numpy(f"scipy_{routine}_64_")


def _symbol_of_numpy(name: str) -> int | None:
    libraries = Path(np.__file__).parent.parent / "numpy.libs"
    for path in sorted(libraries.glob("*openblas*")):
        function = getattr(ctypes.CDLL(str(path)), name, None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value
    return None


@functools.cache
def _stand_ins() -> dict[str, Any]:
    return {
        "get_threads": ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1),
        "set_threads": ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _count: None),
    }


def _one_thread(routine: str) -> int:
    """What stands for the thread routines where the BLAS is not NumPy's: one thread, which is left as it is."""
    found = ctypes.cast(_stand_ins()[routine], ctypes.c_void_p).value
    assert found is not None
    return found


def _from_scipy(routine: str) -> int:
    module = "cython_lapack" if routine[1:] in LAPACK_ROUTINES else "cython_blas"
    capsule = _cython_module(module).__pyx_capi__[routine]
    api: Any = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer: int = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return pointer


@functools.cache
def _cython_module(stem: str) -> Any:
    """The extension module alone: importing its package would take a tenth of a second."""
    name = f"scipy.linalg.{stem}"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("scipy")
    places = package.submodule_search_locations if package is not None else None
    for place in places or ():
        for suffix in EXTENSION_SUFFIXES:
            path = Path(place) / "linalg" / f"{stem}{suffix}"
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
