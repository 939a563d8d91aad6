"""Memory for results: small ones are new each time, large ones are used again once nobody holds them.

A large new array costs a page fault for every 4 kB that is written to it; on a training step that was more than half
of the step. So the memory of large results is kept, and used again when no array refers to it any more.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

SMALLEST = 1 << 15
LARGEST = 1 << 26
"""Bytes between which memory is kept; beyond, what is kept would outweigh what is saved."""
KEPT = 4
"""Arrays kept for one result."""

_FREE = 2
"""References to an array that only the variable and the call that counts hold."""


def result_maker(shape: tuple[int, ...], dtype: Any) -> Callable[[], np.ndarray[Any, Any]]:
    """A function that gives memory for one result: an array that nobody else refers to, of any content."""
    entries = int(np.prod(shape, dtype=object))
    counts_are_exact = getattr(sys, "_is_gil_enabled", lambda: True)()
    if SMALLEST <= entries * np.dtype(dtype).itemsize <= LARGEST and counts_are_exact:
        return _Kept(shape, dtype).take
    return partial(np.empty, shape, dtype)


class _Kept:
    """Arrays of one shape. A result is a view, so it holds a reference to the array below it."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype
        # Taking from one end and putting back at the other is atomic: no two threads see the same array.
        self.arrays: deque[np.ndarray[Any, Any]] = deque()

    def take(self) -> np.ndarray[Any, Any]:
        """A free array, or a new one."""
        for _ in range(len(self.arrays)):
            try:
                array = self.arrays.popleft()
            except IndexError:
                break
            if sys.getrefcount(array) == _FREE:
                view = array.view()
                self.arrays.append(array)
                return view
            self.arrays.append(array)
        array = np.empty(self.shape, self.dtype)
        view = array.view()
        if len(self.arrays) < KEPT:
            self.arrays.append(array)
        return view
