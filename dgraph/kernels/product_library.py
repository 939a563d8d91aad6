"""Object code of matrix products, one piece for each kind and type: made once for a processor, kept in the cache, and
found by generated code under a symbol, as the routines of the BLAS are."""

from __future__ import annotations

import functools

from dgraph.kernels.cache import Cache, make_key
from dgraph.kernels.load import NativeEntry, load_object, machine_name
from dgraph.kernels.product_symbols import KINDS, SYMBOL_PREFIX, product_symbol


def called_by(object_code: bytes) -> dict[str, bytes]:
    """The object code of the products that a program calls, by kind."""
    if SYMBOL_PREFIX.encode() not in object_code:
        return {}
    return {kind: code_of(kind) for kind in KINDS if product_symbol(kind).encode() in object_code}


@functools.cache
def loaded(code: bytes) -> NativeEntry:
    """A product, loaded once for all programs that bring this code."""
    return load_object(code)


@functools.cache
def code_of(kind: str) -> bytes:
    """The object code of a product such as `whole_f64`, compiled if this machine has not seen it yet."""
    key = make_key("product", kind, machine=machine_name())
    return Cache.default().got_or_made(key, functools.partial(_compiled, kind))


def _compiled(kind: str) -> bytes:
    from dgraph.kernels.native import compile_lightly
    from dgraph.kernels.product_source import this_product

    return compile_lightly(this_product(*KINDS[kind]))
