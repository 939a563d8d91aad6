"""Steering a schedule by hand, for experiments: what is otherwise chosen by cost can be forced or forbidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic

ALLOWED = {
    "lanes": ("auto", "on", "off"),
    "products": ("auto", "off"),
    "blocks": ("auto", "off"),
    "threads": ("auto", "on", "off"),
}
"""What each choice can be steered to."""


@dataclass(frozen=True)
class Steering:
    """Which choices are made by hand.

    lanes     points several at a time in vectors: "on" wherever they can go, "off" nowhere
    products  "off": matrix products are nests like all others
    blocks    "off": nests over the same points stay apart, with whole arrays between them
    threads   shared loops are cut into parts: "on" wherever they can be, however small, "off" nowhere
    """

    lanes: str = "auto"
    products: str = "auto"
    blocks: str = "auto"
    threads: str = "auto"

    @classmethod
    def of(cls, asked: Any) -> Steering:
        """The steering that is asked for by a mapping, or None. Raises `ArgumentError` if it cannot be."""
        wanted = {} if asked is None else asked
        if not isinstance(wanted, Mapping):
            note = 'as in schedule={"lanes": "off"}'
            raise ArgumentError(Diagnostic(f"a schedule is steered by a mapping, not by {wanted!r}", (), note))
        for name, value in wanted.items():
            if name not in ALLOWED:
                listed = ", ".join(field.name for field in fields(cls))
                raise ArgumentError(Diagnostic(f"a schedule has no `{name}` that could be steered, only {listed}"))
            if value not in ALLOWED[name]:
                listed = ", ".join(map(repr, ALLOWED[name]))
                raise ArgumentError(Diagnostic(f"schedule {name}={value!r} is not one of {listed}"))
        return cls(**wanted)
