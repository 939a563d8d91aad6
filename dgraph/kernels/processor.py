"""What code of our own for vectors must know of a processor: how long its vector registers are, and how many."""

from __future__ import annotations

import functools

import llvmlite.binding as llvm

from dgraph.classes import dataclass

_WIDTHS = {"f32": 4, "f64": 8}


@dataclass(frozen=True)
class Processor:
    """The vector registers of a processor: bytes of each, and their number."""

    vector_bytes: int
    registers: int

    def lanes(self, type_name: str) -> int:
        """Entries in one register."""
        return self.vector_bytes // _WIDTHS[type_name]


@functools.cache
def this_processor() -> Processor:
    """The processor that this process runs on."""
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        return Processor(16, 32)
    features = llvm.get_host_cpu_features()
    if features.get("avx512f", False):
        return Processor(64, 32)
    return Processor(32 if features.get("avx2", False) else 16, 16)
