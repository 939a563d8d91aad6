"""What calls need whose arguments have certain extents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgraph.kernels.compile import CompiledGraph
    from dgraph.kernels.interface import Port

Maker = Callable[[], Any]
Given = Sequence[Any] | None
"""Arrays for the results of a call, None where one is to be made; or None for all."""


class Needs:
    """What a call needs whose arguments have certain extents: the shape of each result and what gives memory for it,
    the words of the table that say where the rooms of the arena are, the numbers of settings and wishes, and for
    threads the address of their pool, how many there are, and the parts of each loop that they share. Another `form`
    finds out for itself."""

    __slots__ = ("form", "makers", "places", "settings", "shapes", "threads")

    def __init__(
        self,
        form: CompiledGraph,
        shapes: list[tuple[int, ...]],
        makers: Sequence[Maker] = (),
        places: Sequence[int] = (),
        settings: Mapping[str, int] = MappingProxyType({}),
        threads: Sequence[int] = (),
    ) -> None:
        self.form = form
        self.shapes = shapes
        self.makers = makers
        self.places = places
        self.settings = settings
        self.threads = threads


def shape_of(port: Port, known: Mapping[Any, int]) -> tuple[int, ...]:
    """The shape of a result."""
    return tuple(max(extent.evaluate(known.__getitem__), 0) for extent in port.type.shape)


def with_given(outputs: Sequence[Any], results: list[Any]) -> list[Any]:
    """The results, those that are written to given arrays as these."""
    return [made if given is None else given for given, made in zip(outputs, results, strict=True)]
