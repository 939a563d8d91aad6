"""Threads that compiled code shares its parts among: native ones, started when parts first pay, asleep in between.

A call opens the door of the pool, wakes workers and takes parts itself, the next that nobody has taken, until there are
none left. It waits only for workers that are inside: one that gets no core finds the door closed and sleeps again, so a
busy machine costs nothing but the cores it does not give. A pool that is in use answers a second call by letting it do
all parts itself. Threads and locks are those of the C interface of Python, and none of them needs its global lock.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import weakref
from pathlib import Path
from typing import Any

from dgraph.kernels.cache import Cache, make_key
from dgraph.kernels.load import NativeEntry, load_object, machine_name

VARIABLE = "DGRAPH_THREADS"
"""The environment variable that bounds the threads of a call."""

MOST_THREADS = 256
_WORD = 8
_LINE = 8
_SHARE, _BUSY, _WORKERS, _DONE = 0, 1, 2, 3
_BODY, _CONTEXT, _PARTS, _THREADS = 8, 9, 10, 11
_DOOR, _NEXT, _SLOTS = 16, 24, 32
_RECORDS = 40
"""Words of the pool: what stays, what a call says, what is counted, each in a line of the cache, and the workers."""
_LOCK, _PENDING, _POOL = 0, 1, 2
"""Words of a worker."""
_CLOSED, _AWAITED = 1 << 40, 1 << 41
_GLANCES = 2000
"""Looks at the door before a call sleeps until the last worker has left: some microseconds."""

_TEXT = """
declare void @llvm.{pause}({pause_operand})
declare i32 @PyThread_acquire_lock(ptr, i32)
declare void @PyThread_release_lock(ptr)

define void @share(ptr %pool, ptr %body, ptr %context, i64 %parts, i64 %threads) nounwind {{
entry:
  %busy = getelementptr i64, ptr %pool, i64 {BUSY}
  %door = getelementptr i64, ptr %pool, i64 {DOOR}
  %next = getelementptr i64, ptr %pool, i64 {NEXT}
  %slots = getelementptr i64, ptr %pool, i64 {SLOTS}
  %was_busy = atomicrmw xchg ptr %busy, i64 1 seq_cst
  %is_alone = icmp ne i64 %was_busy, 0
  br i1 %is_alone, label %alone, label %open

alone:
  %turn = phi i64 [ 0, %entry ], [ %turn_after, %alone_turn ]
  %turn_is_one = icmp slt i64 %turn, %parts
  br i1 %turn_is_one, label %alone_turn, label %leave

alone_turn:
  call void %body(ptr %context, i64 %turn, i64 0)
  %turn_after = add i64 %turn, 1
  br label %alone

open:
  %body_place = getelementptr i64, ptr %pool, i64 {BODY}
  store ptr %body, ptr %body_place
  %context_place = getelementptr i64, ptr %pool, i64 {CONTEXT}
  store ptr %context, ptr %context_place
  %parts_place = getelementptr i64, ptr %pool, i64 {PARTS}
  store i64 %parts, ptr %parts_place
  %threads_place = getelementptr i64, ptr %pool, i64 {THREADS}
  store i64 %threads, ptr %threads_place
  store i64 0, ptr %next
  store i64 1, ptr %slots
  store atomic i64 0, ptr %door seq_cst, align 8
  %workers_place = getelementptr i64, ptr %pool, i64 {WORKERS}
  %workers = load i64, ptr %workers_place
  %others = sub i64 %threads, 1
  %fewer = icmp slt i64 %others, %workers
  %useful = select i1 %fewer, i64 %others, i64 %workers
  %rest = sub i64 %parts, 1
  %less = icmp slt i64 %rest, %useful
  %wanted = select i1 %less, i64 %rest, i64 %useful
  br label %wake

wake:
  %worker = phi i64 [ 0, %open ], [ %worker_after, %woken ]
  %is_wanted = icmp slt i64 %worker, %wanted
  br i1 %is_wanted, label %call_one, label %take

call_one:
  %record_start = mul i64 %worker, {LINE}
  %record_word = add i64 %record_start, {RECORDS}
  %record = getelementptr i64, ptr %pool, i64 %record_word
  %pending = getelementptr i64, ptr %record, i64 {PENDING}
  %was_called = atomicrmw xchg ptr %pending, i64 1 seq_cst
  %sleeps = icmp eq i64 %was_called, 0
  br i1 %sleeps, label %release, label %woken

release:
  %lock_place = getelementptr i64, ptr %record, i64 {LOCK}
  %lock = load ptr, ptr %lock_place
  call void @PyThread_release_lock(ptr %lock)
  br label %woken

woken:
  %worker_after = add i64 %worker, 1
  br label %wake

take:
  %ticket = atomicrmw add ptr %next, i64 1 seq_cst
  %is_part = icmp slt i64 %ticket, %parts
  br i1 %is_part, label %one_part, label %glance

one_part:
  call void %body(ptr %context, i64 %ticket, i64 0)
  br label %take

glance:
  %glances = phi i64 [ 0, %take ], [ %glances_after, %glance_again ]
  %closing = cmpxchg ptr %door, i64 0, i64 {CLOSED} seq_cst seq_cst
  %closed = extractvalue {{ i64, i1 }} %closing, 1
  br i1 %closed, label %free, label %glance_again

glance_again:
  call void @llvm.{pause}({pause_value})
  %glances_after = add i64 %glances, 1
  %may_look = icmp slt i64 %glances_after, {GLANCES}
  br i1 %may_look, label %glance, label %await

await:
  %inside = atomicrmw or ptr %door, i64 {CLOSED_AWAITED} seq_cst
  %is_empty = icmp eq i64 %inside, 0
  br i1 %is_empty, label %shut, label %sleep

sleep:
  %done_place = getelementptr i64, ptr %pool, i64 {DONE}
  %done = load ptr, ptr %done_place
  %taken = call i32 @PyThread_acquire_lock(ptr %done, i32 1)
  br label %shut

shut:
  store atomic i64 {CLOSED}, ptr %door seq_cst, align 8
  br label %free

free:
  store atomic i64 0, ptr %busy seq_cst, align 8
  br label %leave

leave:
  ret void
}}

define void @work(ptr %record) nounwind {{
entry:
  %pool_place = getelementptr i64, ptr %record, i64 {POOL}
  %pool = load ptr, ptr %pool_place
  %door = getelementptr i64, ptr %pool, i64 {DOOR}
  %next = getelementptr i64, ptr %pool, i64 {NEXT}
  %slots = getelementptr i64, ptr %pool, i64 {SLOTS}
  %pending = getelementptr i64, ptr %record, i64 {PENDING}
  %lock_place = getelementptr i64, ptr %record, i64 {LOCK}
  %lock = load ptr, ptr %lock_place
  br label %sleep

sleep:
  %taken = call i32 @PyThread_acquire_lock(ptr %lock, i32 1)
  store atomic i64 0, ptr %pending seq_cst, align 8
  br label %look

look:
  %seen = load atomic i64, ptr %door seq_cst, align 8
  %is_closed = icmp uge i64 %seen, {CLOSED}
  br i1 %is_closed, label %sleep, label %enter

enter:
  %more = add i64 %seen, 1
  %entering = cmpxchg ptr %door, i64 %seen, i64 %more seq_cst seq_cst
  %entered = extractvalue {{ i64, i1 }} %entering, 1
  br i1 %entered, label %inside, label %look

inside:
  %body_place = getelementptr i64, ptr %pool, i64 {BODY}
  %body = load ptr, ptr %body_place
  %context_place = getelementptr i64, ptr %pool, i64 {CONTEXT}
  %context = load ptr, ptr %context_place
  %parts_place = getelementptr i64, ptr %pool, i64 {PARTS}
  %parts = load i64, ptr %parts_place
  %threads_place = getelementptr i64, ptr %pool, i64 {THREADS}
  %threads = load i64, ptr %threads_place
  %slot = atomicrmw add ptr %slots, i64 1 seq_cst
  %is_thread = icmp slt i64 %slot, %threads
  %is_useful = icmp slt i64 %slot, %parts
  %may_work = and i1 %is_thread, %is_useful
  br i1 %may_work, label %take, label %leave

take:
  %ticket = atomicrmw add ptr %next, i64 1 seq_cst
  %is_part = icmp slt i64 %ticket, %parts
  br i1 %is_part, label %one_part, label %leave

one_part:
  call void %body(ptr %context, i64 %ticket, i64 %slot)
  br label %take

leave:
  %before = atomicrmw sub ptr %door, i64 1 seq_cst
  %is_last = icmp eq i64 %before, {LAST_AWAITED}
  br i1 %is_last, label %tell, label %sleep

tell:
  %done_place = getelementptr i64, ptr %pool, i64 {DONE}
  %done = load ptr, ptr %done_place
  call void @PyThread_release_lock(ptr %done)
  br label %sleep
}}
"""


def available() -> int:
    """The threads that a call may use: the cores that this process may use, unless the environment says fewer or
    more."""
    told = os.environ.get(VARIABLE, "")
    if told.isdecimal() and int(told) > 0:
        return min(int(told), MOST_THREADS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota(), MOST_THREADS)


def _quota() -> int:
    """The cores that a control group gives its processes, rounded up."""
    try:
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(-(-int(allowed) // int(period)), 1)
    except (OSError, ValueError):
        return MOST_THREADS


class Pool:
    """The threads of this process. Its memory stays: workers that sleep at the end of the process look at it."""

    def __init__(self) -> None:
        words = _RECORDS + _LINE * MOST_THREADS
        block = ctypes.create_string_buffer(_WORD * (words + _LINE))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(block))
        self.address = (ctypes.addressof(block) + 63) // 64 * 64
        self.words = (ctypes.c_int64 * words).from_address(self.address)
        self.users = weakref.WeakSet[Any]()
        self.code: dict[str, NativeEntry] = {}

    def start(self, threads: int) -> int:
        """The address of the pool, which has workers for so many threads of a call."""
        wanted = min(threads, MOST_THREADS) - 1
        if not self.code:
            self.code = _native()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.code))
            self.words[_DOOR] = _CLOSED
            self.words[_DONE] = _new_lock()
            self.words[_SHARE] = self.code["share"].address
        while self.words[_WORKERS] < wanted and self._start_one(self.code["work"].address):
            pass
        return self.address

    def _start_one(self, work: int) -> bool:
        """One worker more; False if the system gives none."""
        worker: int = self.words[_WORKERS]
        record = _RECORDS + _LINE * worker
        self.words[record + _LOCK] = _new_lock()
        self.words[record + _PENDING] = 0
        self.words[record + _POOL] = self.address
        start = ctypes.pythonapi.PyThread_start_new_thread
        start.argtypes, start.restype = (ctypes.c_void_p, ctypes.c_void_p), ctypes.c_ulong
        failed = ctypes.c_ulong(-1).value
        if start(work, self.address + _WORD * record) == failed:
            return False
        self.words[_WORKERS] = worker + 1
        return True

    def begin_again(self) -> None:
        """In a process that was forked: there are no workers, and nobody is inside. Calls that find out anew what they
        need start others."""
        if self.code:
            self.words[_BUSY] = self.words[_WORKERS] = 0
            self.words[_DOOR] = _CLOSED
            self.words[_DONE] = _new_lock()
        for user in list(self.users):
            user.forget_needs()


@functools.cache
def the_pool() -> Pool:
    """The pool of this process."""
    pool = Pool()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=pool.begin_again)
    return pool


def _new_lock() -> int:
    """A lock of Python's C interface, held."""
    make, take = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
    make.restype, take.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)
    lock: int = make()
    take(lock, 0)
    return lock


def _native() -> dict[str, NativeEntry]:
    """What calls and workers run."""
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    names = {name[1:]: value for name, value in globals().items() if name[1:].isupper() and isinstance(value, int)}
    text = _TEXT.format(
        **names,
        CLOSED_AWAITED=_CLOSED | _AWAITED,
        LAST_AWAITED=(_CLOSED | _AWAITED) + 1,
        pause="aarch64.hint" if is_arm else "x86.sse2.pause",
        pause_operand="i32" if is_arm else "",
        pause_value="i32 1" if is_arm else "",
    )

    def made() -> bytes:
        from dgraph.kernels.native import compile_text

        return compile_text(text)

    code = Cache.default().got_or_made(make_key("threads", text, machine=machine_name()), made)
    locks = ("PyThread_acquire_lock", "PyThread_release_lock")
    known = {name: _address(getattr(ctypes.pythonapi, name)) for name in locks}
    return {name: load_object(code, name=name, known=known) for name in ("share", "work")}


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


__all__ = ["MOST_THREADS", "VARIABLE", "Pool", "available", "the_pool"]
