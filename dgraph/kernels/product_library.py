"""Object code of matrix products, one piece for each kind and type: made once for a processor, kept in the cache, and
found by generated code under a symbol, as the routines of the BLAS are."""

from __future__ import annotations

import functools

from dgraph.kernels.cache import Cache, make_key
from dgraph.kernels.native import NativeEntry, compile_lightly, load_object, machine_name
from dgraph.kernels.product_symbols import KINDS


def address(kind: str) -> int:
    """The address of a product such as `whole_f64`, compiled if this machine has not seen it yet."""
    return _loaded(kind).address


@functools.cache
def _loaded(kind: str) -> NativeEntry:
    cache = Cache.default()
    key = make_key("product", kind, machine=machine_name())
    code = cache.get(key)
    if code is None:
        code = _compiled(kind)
        cache.put(key, code)
    return load_object(code)


def _compiled(kind: str) -> bytes:
    from dgraph.kernels.product_source import this_product

    triangle, type_name = KINDS[kind]
    return compile_lightly(this_product(triangle, type_name))
