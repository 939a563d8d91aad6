"""When two kernels do the same: their structure with every name replaced by its place."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from dgraph.errors import Span
from dgraph.kernels.nests import Buffer, Extent, Kernel, Local, Note

Shape = tuple[Any, ...]
"""The structure of a kernel: equal exactly for kernels that print the same but for names and comments."""

_WORDS = ("note", "span", "name")


def shape_of(kernel: Kernel) -> Shape:
    """The structure of a kernel."""
    return _Shaper().kernel(kernel)


def same_kernel(one: Kernel, other: Kernel) -> bool:
    """Whether the parameters of two kernels of one structure correspond in number and type."""
    buffers = [buffer.type for buffer in one.buffers] == [buffer.type for buffer in other.buffers]
    scalars = [local.type for local in one.scalars] == [local.type for local in other.scalars]
    return buffers and scalars and one.sizes == other.sizes


class _Shaper:
    def __init__(self) -> None:
        self.places: dict[Buffer | Local, int] = {}

    def kernel(self, kernel: Kernel) -> Shape:
        parameters = tuple(self.part(part) for part in (*kernel.buffers, *kernel.scalars, *kernel.own))
        results = tuple(self.part(local) for local in kernel.results)
        return parameters, kernel.sizes, results, self.part(kernel.body)

    def part(self, part: Any) -> Any:
        if isinstance(part, Buffer | Local):
            place = self.places.setdefault(part, len(self.places))
            return type(part).__name__, place, part.type
        if isinstance(part, tuple):
            return tuple(self.part(item) for item in part)
        if isinstance(part, Span | Note):
            return ()
        if isinstance(part, Extent):
            return "Extent", part.size
        if (
            hasattr(part, "__dataclass_fields__")
            and not isinstance(part, type)
            and type(part).__module__ == Kernel.__module__
        ):
            inner = (self.part(getattr(part, field.name)) for field in fields(part) if field.name not in _WORDS)
            return type(part).__name__, *inner
        return type(part).__name__, repr(part) if isinstance(part, float) else part
