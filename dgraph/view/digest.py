"""Values in a few words: scalars and short vectors in full, other arrays as what summarises them."""

from __future__ import annotations

import numpy as np

NOT_RUN = "not run"
"""What stands where a value was never computed; never 0."""

_FULL = 4


def digest(value: object) -> str:
    """The words for a value: a scalar in full, an array by its range, mean and norm, `not run` for None."""
    if value is None:
        return NOT_RUN
    array = np.asarray(value)
    if array.dtype == object:
        return type(value).__name__
    if array.ndim == 0:
        return _scalar(array[()])
    if array.size == 0:
        return f"[{_shape(array)}] empty"
    if array.ndim == 1 and array.size <= _FULL:
        return f"[{', '.join(_short(entry) for entry in array)}]"
    return f"[{_shape(array)}] {_summary(array)}"


def _shape(array: np.ndarray) -> str:
    return ", ".join(str(extent) for extent in array.shape)


def _scalar(entry: object) -> str:
    """The shortest text that reads back as the same number."""
    if isinstance(entry, np.bool_):
        return "true" if entry else "false"
    return str(entry)


def _short(entry: object) -> str:
    return f"{entry:.6g}" if isinstance(entry, np.floating) else _scalar(entry)


def _summary(array: np.ndarray) -> str:
    if array.dtype == np.bool_:
        return f"true {int(array.sum())} of {array.size}"
    if array.dtype.kind not in "iuf":
        return str(array.dtype)
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    words = []
    if finite.size:
        with np.errstate(over="ignore"):
            norm = float(np.linalg.norm(finite))
        words = [f"min {finite.min():.3g}", f"mean {finite.mean():.3g}", f"max {finite.max():.3g}", f"norm {norm:.3g}"]
    for name, count in (("nan", int(np.isnan(wide).sum())), ("inf", int(np.isinf(wide).sum()))):
        if count:
            words.insert(0, f"{name} {count} of {array.size}")
    return " ".join(words)
