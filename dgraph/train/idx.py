"""The idx format of the MNIST files: a magic number, the extents, and the entries in row-major order."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.errors import DataError, Diagnostic

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray[Any, Any]:
    """The array of an idx file, packed by gzip if its name ends in `.gz`. Raises `DataError`."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as fault:
        why = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        raise DataError(Diagnostic(f"cannot read {path}", (), why)) from None
    axes = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * axes
    if len(content) < start or content[:2] != b"\0\0" or content[2] not in DTYPES:
        note = "it begins with two zero bytes, the kind of its numbers and the number of its axes"
        raise DataError(Diagnostic(f"{path} is no idx file", (), note))
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes))
    dtype = np.dtype(DTYPES[content[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        title = f"{path} has {len(content):,} bytes, and its head of {list(shape)} entries asks for {expected:,}"
        raise DataError(Diagnostic(title, (), "it is damaged or was not copied to its end"))
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
