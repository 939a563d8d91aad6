"""States of checkpointed loops on disk, for compiled code: a file without a name for each call that needs one.

Compiled code calls the functions of `addresses`, on the thread of the call. The file is opened at the first state, in
the folder for temporary files, and has no name there: no other program can open or remove it, and the system frees its
room when the call ends, however it ends. Writing copies into the memory of the system, which brings it to disk while
the program goes on, if there is need to; what is read next is asked for beforehand. Places of states that are not read
any more are used again.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import itertools
import os
import tempfile
import threading
from collections.abc import Callable
from typing import Any

SYMBOL_PREFIX = "dgraph_disk_"
"""What the names of the functions begin with in object code."""

ROUTINES = {"write": 3, "read": 5, "drop": 1, "distance": 2, "advance": 4, "worth": 4}
"""The functions with how many numbers each takes. All of them give a number, a negative one being a fault.

write(ticket, address, bytes)                      the ticket, a new one instead of 0, after so many bytes more
read(ticket, part, address, bytes, is_last)        the ticket, after a part of its state; given back with the last part
drop(ticket)                                       the ticket, which is given back; 0 is none
distance(slots, disk), advance(...), worth(...)    what the ops of these names give
"""

Part = tuple[int, int]
"""Where an array lies in the file, and its bytes."""

_local = threading.local()
_numbers = itertools.count(1)
_faults: dict[int, tuple[str, str]] = {}


class Lost(Exception):
    """A state is not in the file any more: so many bytes are missing."""


class Store:
    """The states of one call."""

    def __init__(self) -> None:
        self.folder = os.environ.get("TMPDIR") or tempfile.gettempdir()
        self.raised: BaseException | None = None
        self._file: Any = None
        self._states: dict[int, list[Part]] = {}
        self._free: dict[int, list[int]] = {}
        self._end = 0
        self._tickets = 0

    def write(self, ticket: int, address: int, count: int) -> int:
        """Put bytes behind those of a ticket, 0 for a new one. Returns the ticket."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115
        if not ticket:
            ticket = self._tickets = self._tickets + 1
            self._states[ticket] = []
        offset = self._place(count)
        self._states[ticket].append((offset, count))
        memory = _memory(address, count)
        self._file.seek(offset)
        done = 0
        while done < count:
            done += self._file.write(memory[done:])
        return ticket

    def _place(self, count: int) -> int:
        places = self._free.get(count)
        if places:
            return places.pop()
        self._end += count
        return self._end - count

    def read(self, ticket: int, part: int, address: int, count: int, is_last: int) -> int:
        """Read a part of the state of a ticket, which is given back with the last part of a last read."""
        parts = self._states[ticket]
        offset, _ = parts[part]
        memory = _memory(address, count)
        self._file.seek(offset)
        done = 0
        while done < count:
            found = self._file.readinto(memory[done:])
            if not found:
                raise Lost(count - done)
            done += found
        if part == len(parts) - 1:
            if is_last:
                self.drop(ticket)
            self._ask_for_next(ticket)
        return ticket

    def drop(self, ticket: int) -> int:
        """Use the places of a ticket again, if it is one."""
        for offset, size in self._states.pop(ticket, ()):
            self._free.setdefault(size, []).append(offset)
        return ticket

    def _ask_for_next(self, ticket: int) -> None:
        """Let the system read the state below a ticket: that will be wanted next."""
        below = next((other for other in reversed(self._states) if other != ticket), None)
        if below is not None and hasattr(os, "posix_fadvise"):
            for offset, count in self._states[below]:
                os.posix_fadvise(self._file.fileno(), offset, count, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Free the room."""
        if self._file is not None:
            self._file.close()

    def explain(self, raised: BaseException, action: str, count: int) -> tuple[str, str]:
        """What to tell about a fault: a title and a note."""
        elsewhere = "set the environment variable TMPDIR to a folder with room"
        if isinstance(raised, Lost):
            missing = raised.args[0]
            title = f"a state of the loop that was kept on disk is lost: {missing:,} of {count:,} bytes are missing"
            return title, f"the temporary file in {self.folder} was cut short by another program; run again"
        if isinstance(raised, OSError) and raised.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            title = f"no room on disk for a state of {count:,} bytes: {self._end:,} are in use in {self.folder}"
            return title, f"{elsewhere}, or keep fewer states on disk, as in `@checkpoint(slots=8, disk=10)`"
        reason = raised.strerror if isinstance(raised, OSError) and raised.strerror else str(raised)
        if self._file is None:
            return f"no file can be made in {self.folder}: {reason}", elsewhere
        return f"a state of {count:,} bytes could not be {action} in {self.folder}: {reason}", elsewhere


def _memory(address: int, count: int) -> memoryview:
    return memoryview((ctypes.c_char * count).from_address(address)).cast("B")


def _session() -> Store:
    store: Store = _local.store
    return store


def _guarded(function: Callable[..., int], action: str = "", at: int = 0) -> Callable[..., int]:
    """A function for compiled code: a fault is a negative number, and one that came before is handed on. `at` is where
    the bytes stand among the operands."""

    def run(first: int, *rest: int) -> int:
        if first < 0:
            return first
        store = _session()
        try:
            return function(store, first, *rest)
        except (OSError, Lost) as raised:
            number = next(_numbers)
            _faults[number] = store.explain(raised, action, rest[at])
            return -number
        except BaseException as raised:
            # An interrupt, for example: nothing may pass through compiled code, so the session raises it behind.
            store.raised = raised
            return -next(_numbers)

    return run


def fault(number: int) -> tuple[str, str]:
    """The title and the note of a fault that compiled code met."""
    return _faults.pop(-number)


@functools.cache
def _functions() -> dict[str, Any]:
    # Only code that keeps states on disk needs the ops; a start from the cache loads none.
    from dgraph.ops.disk import advance, distance, worth

    bodies: dict[str, Callable[..., int]] = {
        "write": _guarded(Store.write, "written", 1),
        "read": _guarded(Store.read, "read", 2),
        "drop": _guarded(Store.drop),
        "distance": _guarded(lambda _, *numbers: distance(*numbers)),
        "advance": _guarded(lambda _, *numbers: advance(*numbers)),
        "worth": _guarded(lambda _, *numbers: worth(*numbers)),
    }
    return {
        name: ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * count)(bodies[name])
        for name, count in ROUTINES.items()
    }


def addresses() -> dict[str, int]:
    """The addresses of the functions, for as long as the process lives."""
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in _functions().items()}


def in_a_session(entry: Callable[[int], int]) -> Callable[[int], int]:
    """An entry of compiled code with a store of its own for each call."""

    def call(table: int) -> int:
        outer = getattr(_local, "store", None)
        store = _local.store = Store()
        try:
            status = entry(table)
        finally:
            _local.store = outer
            store.close()
        if store.raised is not None:
            raise store.raised
        return status

    return call
