"""Params: initialise them from their initialisers and a seed, save them, load them.

Three streams of keys come out of a seed, so that no draw of one repeats a draw of another: each param's and state's own
under its name, and the numbered keys of the steps of a training run.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.errors import DataError, Diagnostic
from dgraph.ir.evaluate import evaluate
from dgraph.ops.random import Fold
from dgraph.reader.files import write_whole
from dgraph.types import Type, dtype_of_numpy, leaves

if TYPE_CHECKING:
    from dgraph.frontend.modules import Module

STEPS = 1 << 32
"""The number of the stream of steps; those of names are smaller."""


def initial_leaves(module: Module, name: str, seed: int) -> tuple[Type, list[Any]]:
    """The type of a param or state and its initial leaves. Equal seeds give equal bits on every machine."""
    from dgraph.frontend import lower_initialiser

    graph = lower_initialiser(module, name)
    key = _folded(np.uint64(seed), zlib.crc32(name.encode()))
    return graph.result, [np.asarray(leaf) for leaf in evaluate(graph, [key] * len(graph.region.inputs))]


def numbered_key(seed: int, number: int) -> Any:
    """The key of a numbered step under a seed."""
    return _folded(_folded(np.uint64(seed), STEPS), number)


def _folded(key: Any, number: int) -> Any:
    """`fold` of the language."""
    return Fold().evaluate(lambda extent: extent.constant or 0, key, np.int64(number))


def save(path: Path, values: Mapping[str, np.ndarray[Any, Any]], facts: Mapping[str, Any]) -> None:
    """Write leaves by qualified name with some facts as one safetensors file, whole or not at all."""
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in values.items()}
    write_whole(path, to_bytes(arrays, metadata={"dgraph": json.dumps(dict(facts))}))


def load(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Leaves by qualified name and facts. Raises `DataError` for a missing or damaged file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(Diagnostic(f"there is no parameter file {path}"))
    try:
        with safe_open(path, framework="numpy") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = json.loads((file.metadata() or {}).get("dgraph", "{}"))
    except (SafetensorError, ValueError, OSError) as fault:
        raise DataError(Diagnostic(f"{path} is damaged or no parameter file", (), str(fault))) from None
    return values, facts


def fit_leaves(name: str, type_: Type, values: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[np.ndarray[Any, Any]]:
    """The leaves of one param out of a loaded file, checked against its type. Raises `DataError`."""
    for label, leaf in leaves(type_, name):
        if label not in values:
            raise DataError(Diagnostic(f"the parameter file has no `{label}`", (), f"it has {', '.join(values)}"))
        found = values[label]
        expected = tuple(extent.constant for extent in leaf.shape)
        fits = len(found.shape) == len(expected) and all(
            want is None or want == have for want, have in zip(expected, found.shape, strict=True)
        )
        if not fits or found.dtype != leaf.dtype.numpy:
            dtype = dtype_of_numpy(found.dtype) or found.dtype
            title = f"`{label}` in the parameter file is {dtype}{list(found.shape)}, the program has {leaf}"
            raise DataError(Diagnostic(title))
        yield found
