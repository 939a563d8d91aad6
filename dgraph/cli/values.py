"""Values on the command line: `--arg` in, text and JSON out."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.errors import ArgumentError, DataError, Diagnostic
from dgraph.program.arguments import read_arrays
from dgraph.types import dtype_of_numpy

NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def read_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Values by name from texts such as `x=[1, 2]`, `w=@w.npy`, `w=@data.npz:key`. Raises `ArgumentError`."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ArgumentError(Diagnostic(f"--arg {text} has no value", (), "write --arg name=value"))
        if name in values:
            raise ArgumentError(Diagnostic(f"--arg {name} is given twice"))
        values[name] = _read_file(value[1:]) if value.startswith("@") else _read_json(name, value)
    return values


def _read_json(name: str, text: str) -> Any:
    if text.strip() in NUMBERS:
        return NUMBERS[text.strip()]
    try:
        return _numbers(json.loads(text))
    except (ValueError, RecursionError):
        note = 'as in 2.5, [1, 2], {"a": 1.0}, true, @file.npy or @file.npz:key'
        raise ArgumentError(Diagnostic(f"the value of --arg {name} is not JSON: {text[:60]}", (), note)) from None


def _numbers(value: Any) -> Any:
    """JSON with the words for non-finite numbers turned into numbers."""
    if isinstance(value, str) and value in NUMBERS:
        return NUMBERS[value]
    if isinstance(value, list):
        return [_numbers(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _numbers(entry) for key, entry in value.items()}
    return value


def _read_file(text: str) -> Any:
    path, _, key = text.partition(":") if ".npz:" in text else (text, "", "")
    if not path:
        raise DataError(Diagnostic("there is no file name after @", (), "as in --arg x=@file.npy or @file.npz:key"))
    loaded = read_arrays(Path(path))
    if isinstance(loaded, np.ndarray):
        return loaded
    keys = ", ".join(loaded) or "none"
    if not key:
        raise DataError(Diagnostic(f"{path} holds several arrays", (), f"say which: @{path}:KEY with KEY of {keys}"))
    if key not in loaded:
        raise DataError(Diagnostic(f"{path} has no array `{key}`", (), f"it has {keys}"))
    return loaded[key]


def to_json(value: Any) -> Any:
    """A value as plain data: numbers, nested lists, objects for records, lists for tuples; non-finite numbers as the
    strings "inf", "-inf", "nan"."""
    if isinstance(value, Mapping):
        # A field may be called `items`.
        return {key: to_json(value[key]) for key in value}
    if isinstance(value, tuple | list):
        return [to_json(entry) for entry in value]
    if isinstance(value, np.ndarray):
        # A number of f32 is written with the digits that tell it from its neighbours, not with those of f64.
        rows = value.tolist() if value.dtype != np.float32 or not value.ndim else list(value)
        return to_json(rows if value.ndim else value[()])
    if isinstance(value, np.floating) and value.dtype == np.float32:
        value = float(str(value))
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def holds_finite(value: Any) -> bool:
    """Whether no float anywhere in a value is nan or infinite."""
    if isinstance(value, Mapping):
        return all(holds_finite(value[key]) for key in value)
    if isinstance(value, tuple | list):
        return all(map(holds_finite, value))
    entries = np.asarray(value)
    return entries.dtype.kind != "f" or bool(np.isfinite(entries).all())


def print_json(value: Mapping[str, Any]) -> None:
    """One object on standard output."""
    sys.stdout.write(json.dumps(to_json(value), ensure_ascii=False) + "\n")


def show_value(name: str, value: Any) -> str:
    """A value for a person to read: one line per leaf."""
    if isinstance(value, Mapping):
        return "\n".join(show_value(f"{name}.{key}", value[key]) for key in value)
    if isinstance(value, tuple | list):
        return "\n".join(show_value(f"{name}.{at}", entry) for at, entry in enumerate(value))
    if isinstance(value, np.ndarray) and value.ndim:
        shape = ", ".join(map(str, value.shape))
        dtype = dtype_of_numpy(value.dtype) or value.dtype
        text = np.array2string(value, threshold=200, edgeitems=4, max_line_width=110)
        return f"{name}: {dtype}[{shape}] =\n{text}"
    # Not through a format, which would show a number of f32 with the digits of f64.
    return f"{name} = {value!s}"
