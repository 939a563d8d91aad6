"""What loops keep, compute again and read for nothing, and what was fused: the parts of `explain` that read graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dgraph.errors import Span
from dgraph.ir.graph import Graph, Node, Region, Value, walk
from dgraph.ops.binomial import fewest, most_runs
from dgraph.ops.control import For, If, Space, While
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.linalg import Dot
from dgraph.ops.reduce import Reduction
from dgraph.passes.costs import Costs
from dgraph.passes.kept_values import Kept, kept_by
from dgraph.passes.online_slots import OnlineSlots
from dgraph.passes.rerun import kept_carries
from dgraph.passes.slots import Slots
from dgraph.sizes import Atom, Size, bytes_in, size, variable
from dgraph.types import I64, Array, Tape

UNSHOWN = ("constant", "size", "cast", "index", "iota", "after", "select", "stop_gradient")
"""Ops that are not worth a word where it is said what is computed."""
UNBUILT = (
    "broadcast",
    "reshape",
    "slice",
    "transpose",
    "freeze",
    "fresh",
    "set_at",
    "accumulate",
    "undefined",
    *UNSHOWN,
)
"""Ops on arrays that are no kernels: views, memory, and updates in place."""


def place(span: Span) -> dict[str, Any]:
    """A place in the source, with its line."""
    if not span.source.text:
        return {"file": None, "line": None, "text": ""}
    return {"file": span.source.path, "line": span.line, "text": span.source.line(span.line).strip()}


class Words:
    """Formulas for people: numbers that only the run decides are named after their loop."""

    def __init__(self, graph: Graph) -> None:
        self.names: dict[Atom, Size | int] = {}
        for node in walk(graph.region):
            if isinstance(node.op, While):
                self.names[node.results[-1]] = variable(f"trips{node.span.line}")

    def formula(self, count: Size) -> str:
        """A count as text."""
        named = dict(self.names)
        for atom in count.atoms():
            if isinstance(atom, Value) and atom not in named and not atom.name:
                named[atom] = variable("count")
        return str(count.substitute(named))


@dataclass
class Amounts:
    """Counts as formulas, and as numbers where all sizes are known."""

    costs: Costs
    words: Words
    is_known: bool

    def of(self, count: Size) -> dict[str, Any]:
        """One count."""
        has_number = self.is_known and not self.assumed(count)
        return {"formula": self.words.formula(count), "number": self.costs.number(count) if has_number else None}

    def assumed(self, count: Size) -> list[str]:
        """The numbers in a count that only the run decides."""
        values = [atom for atom in count.atoms() if isinstance(atom, Value) and atom not in self.costs.sizes]
        return sorted({self.words.formula(variable(value)) for value in values})


# ---- loops ----------------------------------------------------------------------------------------------------------


def loops_of(before: Graph, kernels: Graph, sizes: Mapping[Atom, int], is_known: bool) -> list[dict[str, Any]]:
    """Each loop of the program: what it keeps for its reverse, what that computes again, and what it reads for nothing.

    `before` is the graph before `@checkpoint` is obeyed, `kernels` the one that becomes code.
    """
    wished = list(_pairs(before, sizes, is_known, only_wished=True))
    others = list(_pairs(kernels, sizes, is_known, only_wished=False))
    told = {(loop["file"], loop["line"]) for loop in wished}
    found = wished + [loop for loop in others if (loop["file"], loop["line"]) not in told]
    return sorted(found, key=lambda loop: (loop["file"] or "", loop["line"] or 0))


def _pairs(graph: Graph, sizes: Mapping[Atom, int], is_known: bool, *, only_wished: bool) -> Iterator[dict[str, Any]]:
    costs = Costs(sizes)
    costs.region(graph.region)
    amounts = Amounts(costs, Words(graph), is_known)
    seen: set[tuple[Any, ...]] = set()
    for region in _blocks(graph.region):
        for node in region.nodes:
            if not isinstance(node.op, For | While) or node.derived == "adjoint":
                continue
            if only_wished and _wish(node.op) is None:
                continue
            loop = _loop(region, node, amounts)
            key = loop["file"], loop["line"]
            if loop["file"] is not None and (loop["kept"] or key not in seen):
                seen.add(key)
                yield loop


def _blocks(region: Region) -> Iterator[Region]:
    yield region
    for node in region.nodes:
        if isinstance(node.op, For | While | If):
            for inner in node.regions:
                yield from _blocks(inner)


def _loop(region: Region, node: Node, amounts: Amounts) -> dict[str, Any]:
    kept = kept_by(region, node)
    trips = _trips(node, amounts.costs)
    return {
        **place(node.span),
        "kind": node.op.name,
        "steps": amounts.of(trips),
        "carried": _carried(node),
        "kept": [] if kept is None else _kept(kept, amounts),
        "again": [] if kept is None else _again(kept),
        "free": [] if kept is None else _free(kept),
        "checkpoint": _checkpoint(node, trips, amounts),
    }


def _trips(node: Node, costs: Costs) -> Size:
    return costs.count(node.operands[0]) if isinstance(node.op, For) else variable(node.results[-1])


def _carried(node: Node) -> list[str]:
    """The names of what goes from step to step."""
    first = int(isinstance(node.op, For))
    results, body = node.results, node.regions[-1]
    count = node.op.carries  # type: ignore[attr-defined]
    names = (results[at].name or body.inputs[first + at].name for at in range(count))
    return list(dict.fromkeys(filter(None, names)))


def _kept(kept: Kept, amounts: Amounts) -> list[dict[str, Any]]:
    """What is kept at every step."""
    body = kept.writer.regions[-1]
    found = []
    for value in dict.fromkeys(kept.walked.values()):
        maker = body.producers.get(value)
        if maker is not None and isinstance(maker.op, Space):
            # What a point computes last has the name and the place.
            inner = maker.regions[0]
            maker = inner.producers.get(inner.outputs[maker.results.index(value)], maker)
        at = maker.span if maker is not None and maker.span.source.text else kept.writer.span
        name = value.name or (maker.op.name if maker is not None else "")
        row = {**place(at), "name": name, "bytes": amounts.of(amounts.costs.size_bytes(value))}
        row["what"] = "carried" if maker is None else "tape" if isinstance(value.type, Tape) else "computed"
        found.append(row)
    return found


def _again(kept: Kept) -> list[dict[str, Any]]:
    """What the loops that walk what is kept compute again."""
    found: dict[tuple[Any, ...], Counter[str]] = {}
    for reader in kept.readers:
        for node in walk(reader.regions[0]):
            if node.derived == "adjoint" or not _is_work(node) or not node.span.source.text:
                continue
            found.setdefault(tuple(place(node.span).items()), Counter())[node.op.name] += 1
    return [{**dict(at), "ops": dict(ops)} for at, ops in found.items()]


def _is_work(node: Node) -> bool:
    """Whether a node does arithmetic on floats."""
    is_float = any(isinstance(value.type, Array) and value.type.dtype.is_float for value in node.results)
    return is_float and isinstance(node.op, Elementwise | Reduction | Dot) and node.op.name not in UNSHOWN


def _free(kept: Kept) -> list[str]:
    """What the loops that walk what is kept read without its being kept: walked arrays and captures by name."""
    names: dict[str, None] = {}
    walked = set(kept.walked)
    for reader in kept.readers:
        op = reader.op
        assert isinstance(op, For)
        body = reader.regions[0]
        pairs = list(zip(reader.operands[1 + op.carries :], body.inputs[1 + op.carries :], strict=True))
        for outside, inside in pairs:
            name = outside.name or inside.name
            if outside not in walked and inside in body.used and name:
                names[name] = None
    return list(names)


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def has_wish(graph: Graph) -> bool:
    """Whether a loop of a graph is to keep less than all."""
    return any(
        isinstance(node.op, For | While) and (_wish(node.op) or ("every", 0))[1] != 0 for node in walk(graph.region)
    )


def _wish(op: Any) -> tuple[str, Any] | None:
    """The option of `@checkpoint` that a loop has, and its value."""
    found = ((name, getattr(op, name, None)) for name in ("every", "slots", "budget"))
    return next(((name, value) for name, value in found if value is not None), None)


def _checkpoint(node: Node, trips: Size, amounts: Amounts) -> dict[str, Any] | None:
    """What `@checkpoint` asks of a loop, and what that takes."""
    wish = _wish(node.op)
    if wish is None:
        return None
    option, value = wish
    found: dict[str, Any] = {"option": option, "value": value}
    if option == "every" and value == 0:
        return found
    state = size(0)
    found["again"] = None
    first = 1 if isinstance(node.op, For) else 0
    for at in kept_carries(node):
        state = state + amounts.costs.size_bytes(node.operands[first + at])
    found["state"] = amounts.of(state)
    steps = amounts.costs.number(trips) if amounts.is_known and isinstance(node.op, For) else None
    bytes_ = amounts.costs.number(state)
    if option == "every":
        if steps is not None:
            found |= {"states": -(-steps // value), "advances": steps, "again": _again_seconds(node, steps, amounts)}
        return found
    if option == "slots":
        slots: int | None = value
    else:
        numbers = Slots.numbers if isinstance(node.op, For) else OnlineSlots.numbers
        room = (bytes_in(value) or 0) // (bytes_ + numbers * I64.bytes)
        slots = max(room - 1, 1) if amounts.is_known else None
    found["states"] = slots
    if steps is not None and slots is not None:
        forwards = fewest(steps, slots)
        found |= {"repetitions": most_runs(steps, slots), "advances": forwards}
        # The first run of all steps but the last is what the function does anyway.
        found["again"] = _again_seconds(node, max(forwards - steps + 1, 0), amounts)
    return found


def _again_seconds(node: Node, steps: int, amounts: Amounts) -> float:
    """The seconds of so many steps of a loop that are run again."""
    return steps * amounts.costs.region(node.regions[-1]).seconds


# ---- kernels --------------------------------------------------------------------------------------------------------


def kernels_of(graph: Graph, amounts: Amounts) -> list[dict[str, Any]]:
    """What becomes code of its own: fused loop nests with the lines and ops in them, matrix products, library calls."""
    found = []
    for region in _blocks(graph.region):
        for node in region.nodes:
            kernel = _kernel(node)
            if kernel is not None:
                work = amounts.costs.node(node)
                kernel["operations"] = amounts.of(work.operations + work.products)
                found.append(kernel)
    return found


def _kernel(node: Node) -> dict[str, Any] | None:
    if isinstance(node.op, For | While | If):
        return None
    has_arrays = any(isinstance(v.type, Array) and v.type.shape for v in (*node.operands, *node.results))
    if not has_arrays or node.op.name in UNBUILT:
        return None
    kernel: dict[str, Any] = {"kind": node.op.name, "over": [], "derived": node.derived}
    inside = [node]
    if isinstance(node.op, Space):
        kernel["kind"] = "nest"
        kernel["over"] = [str(extent) for extent in node.op.extents]
        inside = [inner for inner in walk(node.regions[0]) if isinstance(inner.op, Elementwise | Space)]
    elif node.op.name == "dot":
        kernel["kind"] = "matrix product"
    kernel["lines"] = sorted({inner.span.line for inner in (node, *inside) if inner.span.source.text})
    kernel["ops"] = dict(Counter(inner.op.name for inner in inside if inner.op.name not in UNSHOWN))
    return kernel
