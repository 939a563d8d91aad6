"""The ways that a nest could be scheduled, with their prices: kept beside its kernel for people to read."""

from __future__ import annotations

from dgraph.classes import dataclass


@dataclass(frozen=True)
class Considered:
    """A way to schedule a nest, with its price in instructions for each point, and whether it was taken."""

    way: str
    cost: float
    is_taken: bool


Choice = tuple[Considered, ...]
"""The ways that were considered for a nest."""
