"""What the steps of loops may keep, for `explain`: each loop's curve of bytes against time, and the point taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dgraph.passes.body_curves import BodyCurve


def step_curves(bodies: Sequence[BodyCurve]) -> dict[str, list[dict[str, Any]]]:
    """By the places of loops, what a step can keep, the fastest first: the price of a byte in seconds from which on it
    is taken, its bytes, and the seconds that all steps take more than with the first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for place in dict.fromkeys(body.place for body in bodies):
        here = [body for body in bodies if body.place == place]
        rows: list[dict[str, Any]] = []
        for price in sorted({point.price for body in here for point in body.points}):
            taken = [(body, body.at(price)) for body in here]
            seconds = sum((point.seconds - body.points[0].seconds) * body.runs for body, point in taken)
            rows.append({"price": price, "bytes": sum(point.bytes for _, point in taken), "seconds": seconds})
        found[place] = rows
    return found


def add_curves(
    loops: Sequence[dict[str, Any]], bodies: Sequence[BodyCurve], prices: Mapping[str, float] | None
) -> None:
    """Give each loop its curve, where it has a choice. At given prices of a byte the point is known; without, it is the
    one with the bytes that are kept."""
    curves = step_curves(bodies)
    for loop in loops:
        place = f"{loop['file']}:{loop['line']}"
        rows = curves.get(place, []) if loop["kept"] and loop["checkpoint"] is None else []
        kept = sum(row["bytes"]["number"] or 0 for row in loop["kept"])
        last = None
        if prices is not None and place in prices:
            last = [row for row in rows if row["price"] <= prices[place]][-1:]
        loop["curve"] = [
            {**row, "chosen": row in last if last is not None else row["bytes"] == kept}
            for row in (rows if len(rows) > 1 else [])
        ]
