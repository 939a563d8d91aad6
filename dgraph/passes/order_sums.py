"""A sum of products of several factors becomes sums of two factors each, in the order that costs least.

`sum(a[i, j] * b[j, k] * c[k, l] for j, k)` at every i and l takes a multiplication for each four indices; as
`sum(sum(a[i, j] * b[j, k] for j) * c[k, l] for k)` it takes two matrix products. A factor is whatever is known from
some of the indices: an entry of an array, a function of one, a number. `factor_orders` finds the order.

This runs before differentiation, so derivatives share the arrays in between. The sums are rounded in another order, as
the passes about products may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.arithmetic import Mul
from dgraph.ops.control import Space
from dgraph.ops.index import Accumulate, Index
from dgraph.passes.base import graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.passes.factor_orders import NOMINAL, Tree, best_order
from dgraph.passes.product_forms import Loop
from dgraph.passes.product_matching import Frame, Path, outside
from dgraph.sizes import Size
from dgraph.types import Array, DType

At = Mapping[Loop, Value]
"""Where something is computed: the numbers of the loop indices."""

Make = Callable[[Builder, At], Value]
"""What computes something there."""


@graph_pass("sums of products of several factors are taken in the cheapest order")
def order_sums(graph: Graph) -> Graph:
    """Split sums in every region outside of points."""
    return graph.with_region(_ordered(graph.region, {}))


def _ordered(region: Region, done: dict[Region, Region]) -> Region:
    found = done.get(region)
    if found is None:
        nodes: list[Node] = []
        known: dict[Value, Value] = {}
        for node in region.nodes:
            node = with_operands(node, known)
            if not isinstance(node.op, Space):
                nodes.append(with_regions(node, [_ordered(inner, done) for inner in node.regions]))
                continue
            g = Builder()
            g.adopt(Region(tuple(dict.fromkeys(node.operands)), (), ()))
            whole = _sum_at((Frame(node),))
            if whole is not None:
                known[node.result] = _emitted(g, whole)
                nodes += g.nodes
            else:
                rest = _with_sums(g, node)
                nodes += [*g.nodes, rest]
        found = done[region] = same_nodes(region, nodes, outputs_of(region, known))
    return found


def _with_sums(g: Builder, space: Node) -> Node:
    """A space whose points read sums that are computed before it."""
    frame = Frame(space)
    captured: dict[Value, Value] = {}
    known: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in frame.body.nodes:
        found = _sum_at((frame, Frame(node))) if isinstance(node.op, Space) else None
        if found is None:
            nodes.append(with_operands(node, known))
            continue
        total = _emitted(g, found)
        inner = captured.setdefault(total, Value(total.type))
        own = [frame.body.inputs[loop.position] for loop in found.written]
        if own:
            made = (node.result,)
            nodes.append(Node(Index("proven"), (inner, *own), made, (), node.span, node.scope, node.derived))
        else:
            known[node.result] = inner
    if not captured:
        return space
    region = Region((*frame.body.inputs, *captured.values()), tuple(nodes), outputs_of(frame.body, known))
    operands = (*space.operands, *captured)
    return Node(space.op, operands, space.results, (region,), space.span, space.scope, space.derived)


# ---- sums ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sum:
    """A sum at the end of a path, of products of `factors`, which is needed at each number of the `written` loops."""

    path: Path
    dtype: DType
    factors: tuple[Value, ...]
    written: tuple[Loop, ...]
    tree: Tree

    def extents(self, loops: Sequence[Loop]) -> list[Size]:
        """How often loops turn."""
        return [self.path[loop.level].extents[loop.position] for loop in loops]


def _sum_at(path: Path) -> _Sum | None:
    """The sum that the last space of a path is, if it is better taken in parts."""
    node, body = path[-1].node, path[-1].body
    op = node.op
    assert isinstance(op, Space)
    extents = [extent for frame in path for extent in frame.extents]
    if len(node.results) != 1 or op.accumulators or len(op.buffers) != 1 or not all(map(_is_known, extents)):
        return None
    buffer = op.buffers[0]
    added = body.producers.get(body.outputs[0])
    if buffer.kind != "add" or buffer.rank or not buffer.dtype.is_float or added is None:
        return None
    if not isinstance(added.op, Accumulate) or added.operands[0] is not body.inputs[len(op.extents)]:
        return None
    factors = _factors(body, added.operands[1])
    loops = [_loops(path, factor) for factor in factors]
    if len(factors) < 2 or any(found is None for found in loops) or any(map(_is_unsafe, body.nodes)):
        return None
    known = [found for found in loops if found is not None]
    written = frozenset(loop for found in known for loop in found if loop.level < len(path) - 1)
    counts = {
        Loop(level, position): max(extent.evaluate(lambda _: NOMINAL), 1)
        for level, frame in enumerate(path)
        for position, extent in enumerate(frame.extents)
    }
    summed = {Loop(len(path) - 1, position) for position in range(len(op.extents))}
    if not summed <= frozenset().union(*known):
        return None
    tree = best_order(known, written, counts)
    return None if tree is None else _Sum(path, buffer.dtype, tuple(factors), tuple(sorted(written)), tree)


def _is_known(extent: Size) -> bool:
    """Whether an extent is known where the outermost space begins."""
    return all(isinstance(atom, str) for atom in extent.atoms())


def _factors(body: Region, value: Value) -> list[Value]:
    """The factors of a product, from left to right."""
    maker = body.producers.get(value)
    if maker is None or not isinstance(maker.op, Mul) or len(body.users[value]) > 1:
        return [value]
    return [factor for operand in maker.operands for factor in _factors(body, operand)]


def _is_unsafe(node: Node) -> bool:
    """Whether a node must run as often as it is written to, or may fail."""
    return node.op.effect != "pure" or bool(node.regions) or (isinstance(node.op, Index) and node.op.policy != "proven")


def _loops(path: Path, value: Value) -> frozenset[Loop] | None:
    """The loop indices on which a number of a point depends; None if it cannot be computed elsewhere."""
    level, origin = outside(path, len(path) - 1, value)
    if level < 0:
        return frozenset()
    body = path[level].body
    own = body.inputs[: len(path[level].extents)]
    if origin in own:
        return frozenset([Loop(level, own.index(origin))])
    maker = body.producers.get(origin)
    kind = origin.type
    if maker is None or _is_unsafe(maker) or not isinstance(kind, Array):
        return None
    if kind.rank and not isinstance(maker.op, Index):
        return None
    found = [_loops(path[: level + 1], operand) for operand in maker.operands]
    if any(loops is None for loops in found):
        return None
    return frozenset(loop for loops in found if loops is not None for loop in loops)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _emitted(g: Builder, total: _Sum) -> Value:
    """A sum as an array over what it is needed for, or a number."""
    node = total.path[-1].node
    with g.at(node.span, total.path[0].node.scope, node.derived):
        if total.tree.summed:
            return _array(g, total, total.tree)
        make = _made(g, total, total.tree)
        if not total.written:
            return make(g, {})
        return g.map(total.extents(total.written), lambda h, *at: make(h, dict(zip(total.written, at, strict=True))))


def _made(g: Builder, total: _Sum, tree: Tree) -> Make:
    """What computes a tree at a point; what it sums is an array of its own, made here."""
    if not tree.summed:
        return _term(g, total, tree)
    array = _array(g, total, tree)
    return lambda h, at: (
        h.emit(Index("proven"), array, *(at[loop] for loop in sorted(tree.kept))) if tree.kept else array
    )


def _term(g: Builder, total: _Sum, tree: Tree) -> Make:
    """What computes the product of a tree, which is not summed."""
    parts = [_made(g, total, part) for part in tree.parts]

    def term(h: Builder, at: At) -> Value:
        if not parts:
            return _copied(h, total.path, total.factors[tree.number], at)
        one, other = (part(h, at) for part in parts)
        return h.mul(one, other)

    return term


def _array(g: Builder, total: _Sum, tree: Tree) -> Value:
    """The sums of a tree, over the loops on which they depend."""
    term = _term(g, total, tree)
    kept, summed = sorted(tree.kept), sorted(tree.summed)

    def point(h: Builder, *numbers: Value) -> Value:
        at = dict(zip(kept, numbers, strict=True))
        extents = total.extents(summed)
        return h.sum_over(extents, total.dtype, lambda q, *own: term(q, at | dict(zip(summed, own, strict=True))))

    return g.map(total.extents(kept), point) if kept else point(g)


def _copied(h: Builder, path: Path, value: Value, at: At) -> Value:
    """A number of a point, computed at other numbers of its loops."""
    level, origin = outside(path, len(path) - 1, value)
    if level < 0:
        return origin
    own = path[level].body.inputs[: len(path[level].extents)]
    if origin in own:
        return at[Loop(level, own.index(origin))]
    maker = path[level].body.producers[origin]
    operands = [_copied(h, path[: level + 1], operand, at) for operand in maker.operands]
    with h.at(maker.span, maker.scope, maker.derived):
        return h.apply(maker.op, *operands)[maker.results.index(origin)]
