"""Calling native code fast: the table of addresses and sizes that a compiled entry reads, filled from Python arguments.

`Checker` compares arguments with their specifications and writes the table in one native call that reads the fields of
the array objects; asking NumPy for one address from Python costs more than the whole call. Where the layout of those
objects is not the one expected, which is found out before the first call, plain Python does the same, slowly.
"""

from __future__ import annotations

import array
import ctypes
import functools
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.kernels.bind import ALIGNMENT
from dgraph.kernels.fill_code import native_fill

NUMPY_NAMES = {"f32": "f4", "f64": "f8", "i32": "i4", "i64": "i8", "u8": "u1", "bool": "?", "key": "u8"}
_WORD = 8
FITS = -1
_SCALAR_CODES = {"f64": 1, "f32": 2}


@dataclass(frozen=True)
class ArraySpec:
    """What an argument must be: a dtype of the language and a rank; rank 0 is a number, passed by value."""

    dtype: str
    rank: int

    @functools.cached_property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype."""
        return np.dtype(NUMPY_NAMES[self.dtype])

    @property
    def slots(self) -> int:
        """Words of the table that the argument takes: an address and each size, or the value."""
        return 1 + self.rank


class Workspace:
    """What one running call owns: a table of 64-bit words, and the memory it has grown.

    The state is a second row of words that is kept from call to call; it starts with so many rows of tape memory, the
    first being the arena, which is given back with the workspace. `needs` says for which sizes the table is filled.
    """

    def __init__(self, slots: int, state_words: int = 0, tape_rows: int = 0) -> None:
        self.words = array.array("q", bytes(_WORD * slots))
        self.address: int = self.words.buffer_info()[0]
        self._bytes = memoryview(self.words).cast("B")
        self.floats = self._bytes.cast("d")
        self.halves = self._bytes.cast("i")
        self.single_floats = self._bytes.cast("f")
        self.state = array.array("q", bytes(_WORD * state_words))
        self.state_address: int = self.state.buffer_info()[0]
        self._tape_rows = tape_rows
        self.plans: dict[Checker, Plan] = {}
        self.needs: object = None

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that it has grown so far."""
        rows = (self.state[4 * row : 4 * row + 4] for row in range(self._tape_rows))
        return sum(capacity + ALIGNMENT for _, capacity, _, raw in rows if raw)

    def release(self) -> None:
        """Give the memory back that it has grown."""
        for row in range(self._tape_rows):
            if raw := self.state[4 * row + 3]:
                self.state[4 * row : 4 * row + 4] = array.array("q", bytes(4 * _WORD))
                _free(raw)

    def write(self, slot: int, spec: ArraySpec, value: Any) -> None:
        """Write the value of a number into its slot."""
        self.words[slot] = 0
        if spec.dtype == "f64":
            self.floats[slot] = value
        elif spec.dtype == "f32":
            self.single_floats[2 * slot] = value
        elif spec.dtype == "key":
            self.words[slot] = int(np.uint64(value).view(np.int64))
        elif spec.dtype == "i32":
            self.halves[2 * slot] = value
        else:
            self.words[slot] = int(value)

    def __del__(self) -> None:
        for row in range(self._tape_rows):
            if raw := self.state[4 * row + 3]:
                _free(raw)


def _free(address: int) -> None:
    ctypes.pythonapi.PyMem_RawFree(ctypes.c_void_p(address))


class Pool:
    """Workspaces of one compiled function: each running call takes one, so that threads never share."""

    def __init__(self, make: Callable[[], Workspace]) -> None:
        self._make = make
        self._idle: deque[Workspace] = deque()

    def take(self) -> Workspace:
        """A workspace that nobody else uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that idle workspaces keep."""
        return sum(workspace.held_bytes for workspace in list(self._idle))

    def release(self) -> None:
        """Give back the memory of idle workspaces. None is taken for a call meanwhile."""
        mine: list[Workspace] = []
        with suppress(IndexError):
            while True:
                mine.append(self._idle.pop())
        for workspace in mine:
            workspace.release()
        self._idle.extend(mine)

    def give(self, workspace: Workspace) -> None:
        """Hand a workspace back for later calls."""
        self._idle.append(workspace)


class Plan:
    """One checker's view of one workspace: the block of words that the native code reads."""

    __slots__ = ("address", "words")

    def __init__(self, words: array.array[int]) -> None:
        self.words = words
        self.address: int = words.buffer_info()[0]


class Checker:
    """Compares arguments with their specifications and writes them to consecutive slots of a table."""

    def __init__(self, specs: Sequence[ArraySpec], first_slot: int = 0) -> None:
        self.specs = tuple(specs)
        slots = [first_slot]
        for spec in self.specs:
            slots.append(slots[-1] + spec.slots)
        self.slots = tuple(slots[:-1])
        self.end = slots[-1]
        self._filler = native_fill()

    def _make_plan(self, workspace: Workspace) -> Plan:
        words = array.array("q", [workspace.address, 0, len(self.specs)])
        for spec, slot in zip(self.specs, self.slots, strict=True):
            words.extend((id(spec.numpy), spec.rank, slot, _SCALAR_CODES.get(spec.dtype, 0)))
        plan = workspace.plans[self] = Plan(words)
        return plan

    def fill(self, workspace: Workspace, arguments: tuple[Any, ...]) -> int:
        """Write the arguments to the workspace's table; `FITS`, or the position of the first that does not fit."""
        if len(arguments) != len(self.specs):
            raise ValueError(f"{len(self.specs)} arguments are expected, not {len(arguments)}")
        filler = self._filler
        if filler is None:
            return self._fill_slowly(workspace, arguments)
        plan = workspace.plans.get(self) or self._make_plan(workspace)
        stopped: int = filler.call(arguments, plan.address)
        while stopped != FITS and self.fill_one(workspace, stopped, arguments[stopped]):
            # The native code knows only exact types: go on behind the argument that plain Python could place.
            plan.words[1] = stopped + 1
            stopped = filler.call(arguments, plan.address)
            plan.words[1] = 0
        return stopped

    def _fill_slowly(self, workspace: Workspace, arguments: tuple[Any, ...]) -> int:
        for position, argument in enumerate(arguments):
            if not self.fill_one(workspace, position, argument):
                return position
        return FITS

    def fill_one(self, workspace: Workspace, position: int, argument: Any) -> bool:
        """Write one argument by plain Python; False if it does not fit."""
        spec, slot = self.specs[position], self.slots[position]
        if spec.rank == 0:
            if not is_scalar_of(spec, argument):
                return False
            workspace.write(slot, spec, argument)
            return True
        if not is_array_of(spec, argument):
            return False
        words = workspace.words
        words[slot] = argument.__array_interface__["data"][0]
        for axis, size in enumerate(argument.shape):
            words[slot + 1 + axis] = size
        return True


def is_masked(value: object) -> bool:
    """Whether this is a masked array; there is none before NumPy's module for them is loaded."""
    module = sys.modules.get("numpy.ma")
    return module is not None and isinstance(value, module.MaskedArray)


def is_array_of(spec: ArraySpec, argument: Any) -> bool:
    """Whether an argument can be read in place: an aligned array of that dtype and rank in row-major order."""
    return (
        isinstance(argument, np.ndarray)
        and not is_masked(argument)
        and argument.ndim == spec.rank
        and argument.dtype == spec.numpy
        and argument.flags.c_contiguous
        and argument.flags.aligned
    )


SINGLE_END = 2.0**128 - 2.0**103
"""The least number that rounds to the infinity of f32."""
_INTEGER_RANGES = {"i32": (-(2**31), 2**31), "i64": (-(2**63), 2**63), "u8": (0, 2**8), "key": (0, 2**64)}


def is_scalar_of(spec: ArraySpec, argument: Any) -> bool:
    """Whether an argument is a number of that dtype: a Python number, or a NumPy number of the very dtype."""
    if isinstance(argument, np.ndarray | np.generic):
        return argument.ndim == 0 and argument.dtype == spec.numpy
    if spec.dtype == "bool":
        return isinstance(argument, bool)
    if isinstance(argument, bool) or not isinstance(argument, int | float):
        return False
    if spec.dtype in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[spec.dtype]
        return isinstance(argument, int) and low <= argument < high
    return spec.dtype != "f32" or not SINGLE_END <= abs(argument) < math.inf
