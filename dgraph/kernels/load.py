"""Machine code to something callable, without the compiler: `elf` puts it into memory, else LLVM does."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from dgraph.classes import dataclass
from dgraph.kernels import blas, disk_store
from dgraph.kernels.elf import image_of
from dgraph.kernels.product_symbols import SYMBOL_PREFIX, product_symbol

ENTRY = "entry"
_FEATURES = Path("/sys/devices/system/cpu/modalias")


@functools.cache
def machine_name() -> str:
    """What object code depends on: platform, processor and its features."""
    if sys.platform == "linux":
        try:
            return f"{sys.platform} {os.uname().machine} {_FEATURES.read_text(encoding='ascii').strip()}"
        except (OSError, ValueError):
            pass
    from dgraph.kernels.native import host_name

    return host_name()


@dataclass(frozen=True)
class NativeEntry:
    """A loaded program. It stays loaded for as long as this object or its `call` lives."""

    address: int
    engine: Any = field(repr=False)

    @functools.cached_property
    def call(self) -> Any:
        """Call with the address of a table; other Python threads run meanwhile."""
        function: Any = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.address)
        function.engine = self.engine
        return function


def load_object(
    object_code: bytes,
    products: Mapping[str, bytes] | None = None,
    name: str = ENTRY,
    known: Mapping[str, int] | None = None,
) -> NativeEntry:
    """Load object code that `compile_source` returned, in this process or another, with the products that it calls.
    `known` are addresses of more that it refers to."""
    named = {**(known or {}), **dict(_outside(object_code, products))}

    def address_of(symbol: str) -> int | None:
        return named.get(symbol) or _of_process(symbol)

    image = image_of(object_code, address_of)
    if image is not None:
        return NativeEntry(image.addresses[name], image)
    from dgraph.kernels.native import engine_of

    engine = engine_of(object_code, address_of, named)
    return NativeEntry(engine.get_function_address(name), engine)


def _of_process(symbol: str) -> int | None:
    """The address of a function of the C library or of Python."""
    function = getattr(ctypes.CDLL(None), symbol, None)
    return None if function is None else ctypes.cast(function, ctypes.c_void_p).value


def _outside(object_code: bytes, products: Mapping[str, bytes] | None) -> Iterator[tuple[str, int]]:
    """What object code calls outside, by the names that it uses."""
    if blas.SYMBOL_PREFIX.encode() in object_code:
        for routine in blas.ROUTINES:
            symbol = blas.SYMBOL_PREFIX + routine
            if symbol.encode() in object_code:
                yield symbol, blas.address(routine)
    if uses_disk(object_code):
        for routine, address in disk_store.addresses().items():
            yield disk_store.SYMBOL_PREFIX + routine, address
    if SYMBOL_PREFIX.encode() in object_code:
        from dgraph.kernels import product_library

        for kind, code in (products or product_library.called_by(object_code)).items():
            yield product_symbol(kind), product_library.loaded(code).address


def uses_disk(object_code: bytes) -> bool:
    """Whether a program keeps states on disk."""
    return disk_store.SYMBOL_PREFIX.encode() in object_code
