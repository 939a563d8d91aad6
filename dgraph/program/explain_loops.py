"""What loops keep, compute again and read for nothing, and what was fused: the parts of `explain` that read graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from dgraph.errors import Span
from dgraph.ir.graph import Graph, Node, Region, walk
from dgraph.ops.control import For, If, Space, While
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.linalg import Dot
from dgraph.ops.reduce import Reduction
from dgraph.passes.costs import Costs
from dgraph.passes.kept_values import Kept, kept_by
from dgraph.program.explain_amounts import Amounts, Words
from dgraph.program.explain_checkpoints import Checkpoints, wish_of
from dgraph.sizes import Atom, Size, variable
from dgraph.types import Array, Tape

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


# ---- loops ----------------------------------------------------------------------------------------------------------


def loops_of(
    before: Graph, kernels: Graph, sizes: Mapping[Atom, int], at_most: Mapping[Atom, int], is_known: bool
) -> list[dict[str, Any]]:
    """Each loop of the program: what it keeps for its reverse, what that computes again, and what it reads for nothing.

    `before` is the graph before `@checkpoint` is obeyed, `kernels` the one that becomes code; `at_most` are numbers of
    steps that a `while` does not exceed.
    """
    wished = list(_pairs(before, sizes, at_most, is_known, only_wished=True))
    others = list(_pairs(kernels, sizes, at_most, is_known, only_wished=False))
    told = {(loop["file"], loop["line"]) for loop in wished}
    found = wished + [loop for loop in others if (loop["file"], loop["line"]) not in told]
    return sorted(found, key=lambda loop: (loop["file"] or "", loop["line"] or 0))


def _pairs(
    graph: Graph, sizes: Mapping[Atom, int], at_most: Mapping[Atom, int], is_known: bool, *, only_wished: bool
) -> Iterator[dict[str, Any]]:
    costs = Costs(sizes)
    costs.region(graph.region)
    amounts = Amounts(costs, Words(graph), is_known)
    checkpoints = Checkpoints(graph, amounts, at_most)
    seen: set[tuple[Any, ...]] = set()
    for region in _blocks(graph.region):
        for node in region.nodes:
            if not isinstance(node.op, For | While) or node.derived == "adjoint":
                continue
            if only_wished and wish_of(node.op) is None:
                continue
            loop = _loop(region, node, amounts, checkpoints)
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


def _loop(region: Region, node: Node, amounts: Amounts, checkpoints: Checkpoints) -> dict[str, Any]:
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
        "checkpoint": checkpoints.of(node, trips),
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
    elif node.op.name in ("dot", "contract"):
        kernel["kind"] = "matrix product"
    kernel["lines"] = sorted({inner.span.line for inner in (node, *inside) if inner.span.source.text})
    kernel["ops"] = dict(Counter(inner.op.name for inner in inside if inner.op.name not in UNSHOWN))
    return kernel
