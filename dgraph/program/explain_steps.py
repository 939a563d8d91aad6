"""What the steps of loops may keep, for `explain`: each loop's curve of bytes against time, and the point taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgraph.passes.body_curves import BodyCurve, BodyPoint
from dgraph.program.budgets import Way


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


def add_curves(loops: Sequence[dict[str, Any]], bodies: Sequence[BodyCurve], way: Way | None) -> None:
    """Give each loop its curve, where it has a choice. The point that is taken is known of a way with prices; without
    prices it is the one with the bytes that are kept."""
    curves = step_curves(bodies)
    prices, stay = (dict(way.prices), dict(way.stay)) if way is not None else ({}, {})
    for loop in loops:
        place = f"{loop['file']}:{loop['line']}"
        rows = curves.get(place, []) if loop["kept"] and loop["checkpoint"] is None else []
        taken = [row for row in rows if row["bytes"] == sum(row["bytes"]["number"] or 0 for row in loop["kept"])]
        if place in stay:
            taken = [_row(body, point) for body, point in _between(bodies, place) if point.stay == stay[place]]
            rows = sorted([*rows, *taken], key=lambda row: row["seconds"])
        elif place in prices:
            taken = [row for row in rows if row["price"] <= prices[place]][-1:]
        loop["curve"] = [{**row, "chosen": row in taken} for row in (rows if len(rows) > 1 else [])]


def _between(bodies: Sequence[BodyCurve], place: str) -> list[tuple[BodyCurve, BodyPoint]]:
    return [(body, point) for body in bodies if body.place == place for point in body.between]


def _row(body: BodyCurve, point: BodyPoint) -> dict[str, Any]:
    seconds = (point.seconds - body.points[0].seconds) * body.runs
    return {"price": point.price, "bytes": point.bytes, "seconds": seconds}
