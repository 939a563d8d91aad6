"""Ctrl-C while a run trains: it ends between two steps, where a checkpoint can be written."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Takes note of the first Ctrl-C; the second one stops at once. Use as a context manager.

    Only the main thread hears signals; in another one nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._is_listening = False

    def __enter__(self) -> Interrupts:
        # Who has replaced the handler, or started the process deaf to Ctrl-C, means it.
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if threading.current_thread() is threading.main_thread() and usual:
            self._before = signal.signal(signal.SIGINT, self._hear)
            self._is_listening = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_listening:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
