"""The second form of a compiled graph, whose loops are cut into parts that threads share.

It does what the first does, and is compiled when a call has sizes for which parts pay: small problems, and those who
start with them, have less to compile and to call.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dgraph.kernels.interface import Interface, split_from_json, split_to_json

if TYPE_CHECKING:
    from dgraph.kernels.compile import CompiledGraph
    from dgraph.kernels.split import Split


class Parted:
    """The form, as long as nobody needs it as plain data."""

    def __init__(self, splits: tuple[Split, ...], interface: dict[str, Any], source: str) -> None:
        self.splits = splits
        self.interface = interface
        self.source = source
        self.threads = 1

    @classmethod
    def of(cls, interface: Interface, source: str) -> Parted:
        """The form with this interface and source."""
        return cls(interface.splits, interface.to_json(), source)

    def is_wanted(self, known: Mapping[Any, int], threads: int) -> bool:
        """Whether this form is to run for numbers of the size variables: there are threads, and parts for them, or the
        number of parts decides how sums are rounded."""
        parts = [(split.has_arrays, split.parts(known.__getitem__)) for split in self.splits]
        return any(count > 1 and (threads > 1 or has_arrays) for has_arrays, count in parts)

    @cached_property
    def form(self) -> CompiledGraph:
        """The form itself, compiled."""
        from dgraph.kernels.compile import CompiledGraph, object_code

        made = CompiledGraph(Interface.from_json(self.interface), self.source, {}, object_code(self.source))
        made.allow(self.threads)
        return made

    def allow(self, threads: int) -> None:
        """Let calls use so many threads."""
        self.threads = threads
        if "form" in vars(self):
            self.form.allow(threads)

    @property
    def held_bytes(self) -> int:
        """The bytes of arenas and tapes that are kept for later calls."""
        return self.form.held_bytes if "form" in vars(self) else 0

    def to_json(self) -> list[Any]:
        """It as plain data."""
        return [[split_to_json(split) for split in self.splits], self.interface, self.source]

    @classmethod
    def from_json(cls, data: list[Any]) -> Parted:
        """What `to_json` wrote."""
        splits, interface, source = data
        return cls(tuple(map(split_from_json, splits)), interface, source)
