"""Forms of index spaces that are known to `spectral`: vectors made entry by entry, sums of such, diagonal matrices, and
products of three, with a vector between vectors of a matrix."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.control import If, Space
from dgraph.ops.elementwise import Elementwise, array_type
from dgraph.ops.index import Accumulate, Index
from dgraph.ops.linalg import Dot
from dgraph.ops.linalg_orthogonal import Eigh, Svd
from dgraph.ops.values import Constant, SizeValue
from dgraph.types import Accumulator

DIAGONAL = ("add", "equal", "index", "select", "size", "sub")
"""What stands in the body of `diag(x)`."""


def is_diagonal(node: Node) -> bool:
    """Whether a space makes the matrix that has a vector on its diagonal."""
    op = node.op
    if not isinstance(op, Space) or len(node.operands) != 1 or op.accumulators or op.buffers:
        return False
    vector = array_type(node.operands[0])
    if vector.rank != 1 or op.extents != (*vector.shape, *vector.shape):
        return False
    (body,) = node.regions
    offsets = {str(inner.op.value) for inner in body.nodes if isinstance(inner.op, SizeValue)}
    return all(inner.op.name in DIAGONAL for inner in body.nodes) and offsets <= {"0", "-1"}


def is_map(node: Node, vectors: Container[Value]) -> bool:
    """Whether a space makes a vector, each entry from those of some vectors at its place and from numbers."""
    op = node.op
    if not isinstance(op, Space) or len(op.extents) != 1 or op.accumulators or op.buffers or len(node.results) != 1:
        return False
    (body,) = node.regions
    inside = dict(zip(body.inputs[1:], node.operands, strict=True))
    marked = {inner for inner, outer in inside.items() if outer in vectors}
    if any(array_type(inner).shape for inner in inside if inner not in marked) or array_type(node.result).rank != 1:
        return False
    return _is_of_entries(body, body.inputs[:1], marked)


def _is_of_entries(body: Region, places: Sequence[Value], vectors: Container[Value]) -> bool:
    """Whether all that a region reads of vectors is at a place."""
    for node in body.nodes:
        op = node.op
        if isinstance(op, If):
            for side in node.regions:
                pairs = list(zip(side.inputs, node.operands[1:], strict=True))
                here = [inner for inner, outer in pairs if outer in places]
                if not _is_of_entries(side, here, {inner for inner, outer in pairs if outer in vectors}):
                    return False
        elif isinstance(op, Index):
            if node.operands[0] not in vectors or len(node.operands) != 2 or node.operands[1] not in places:
                return False
        elif not isinstance(op, Elementwise | Constant) or not set(places).isdisjoint(node.operands):
            return False
    return True


# ---- sums ------------------------------------------------------------------------------------------------------------


def split_sums(region: Region) -> Region:
    """The region with sums over one index as vectors that are summed afterwards, and sums of three factors as products
    of matrices, where a decomposition is among what is read."""
    made = {result for node in region.nodes if isinstance(node.op, Eigh | Svd) for result in node.results}
    g = Builder()
    known = {value: g.input(value.type, value.name) for value in region.inputs}
    for node in region.nodes:
        operands = [known[operand] for operand in node.operands]
        reads = not made.isdisjoint(node.operands)
        with g.at(span=node.span, scope=node.scope, derived=node.derived):
            results: Sequence[Value] | None = None
            if reads and isinstance(node.op, Space):
                results = _summed(g, node, operands) or _product(g, node, operands)
            elif isinstance(node.op, Dot) and made.issuperset(node.operands) and not array_type(node.result).shape:
                results = [g.reduce_sum(g.mul(*operands), axes=(0,))]
            if results is None:
                results = g.copy(node, operands)
        if reads:
            made.update(node.results)
        known.update(zip(node.results, results, strict=True))
    return g.close([known[output] for output in region.outputs])


def _sum_of(node: Node) -> tuple[Region, Value] | None:
    """The body of a space over one index that adds to one number, without that, and what is added."""
    op = node.op
    if not isinstance(op, Space) or len(op.extents) != 1 or op.accumulators or len(op.buffers) != 1:
        return None
    (body,) = node.regions
    (buffer,), last = op.buffers, body.nodes[-1]
    if buffer != Accumulator(buffer.dtype) or not isinstance(last.op, Accumulate) or len(body.outputs) != 1:
        return None
    if last.operands[0] is not body.inputs[1] or len(last.operands) != 2 or last.results != body.outputs:
        return None
    return Region((body.inputs[0], *body.inputs[2:]), body.nodes[:-1], (last.operands[1],)), last.operands[1]


def _summed(g: Builder, node: Node, operands: Sequence[Value]) -> Sequence[Value] | None:
    """A sum over one index as a vector and its sum."""
    found = _sum_of(node)
    if found is None:
        return None
    op = node.op
    assert isinstance(op, Space)
    (vector,) = g.apply(Space(extents=op.extents), *operands, regions=[found[0]])
    return [g.reduce_sum(vector, axes=(0,))]


def _product(g: Builder, node: Node, operands: Sequence[Value]) -> Sequence[Value] | None:
    """The sum over k of a[i, k] * f[k] * b[j, k], with f from vectors at k and numbers, as a product of matrices."""
    op = node.op
    if not isinstance(op, Space) or len(op.extents) != 2 or op.accumulators or op.buffers or len(node.results) != 1:
        return None
    (body,) = node.regions
    if len(body.nodes) != 1 or body.outputs != body.nodes[0].results:
        return None
    inner = body.nodes[0]
    found = _sum_of(inner)
    if found is None:
        return None
    region, total = found
    outside = dict(zip(body.inputs, (None, None, *operands), strict=True))
    inside = dict(zip(region.inputs[1:], inner.operands, strict=True))
    makers = {result: made for made in region.nodes for result in made.results}
    k = region.inputs[0]
    rows: list[Value | None] = [None, None]
    rest: list[tuple[Value, bool]] = []
    for factor, is_below in _factors(total, makers):
        maker = makers.get(factor)
        at = None if is_below else _row(maker, k, inside, body.inputs[:2])
        if at is None:
            rest.append((factor, is_below))
            continue
        side, is_turned, array = at
        matrix = outside[inside[array]]
        if rows[side] is not None or matrix is None:
            return None
        rows[side] = g.transpose(matrix) if is_turned else matrix
    left, right = rows
    extents = op.extents
    if left is None or right is None or array_type(left).shape[0] != extents[0]:
        return None
    if array_type(right).shape[0] != extents[1]:
        return None
    if rest:
        scale = _entries(g, inner, region, rest, [outside[value] for value in inner.operands])
        if scale is None:
            return None
        left = g.mul(left, g.broadcast(scale, shape=array_type(left).shape))
    return [g.dot(left, right, transpose_b=True)]


def _factors(value: Value, makers: dict[Value, Node]) -> Iterator[tuple[Value, bool]]:
    """The factors of a product, each with whether it is divided by."""
    maker = makers.get(value)
    if maker is not None and maker.op.name in ("mul", "div"):
        one, other = maker.operands
        yield from _factors(one, makers)
        if maker.op.name == "mul":
            yield from _factors(other, makers)
        else:
            yield other, True
    else:
        yield value, False


def _row(
    maker: Node | None, k: Value, inside: dict[Value, Value], places: Sequence[Value]
) -> tuple[int, bool, Value] | None:
    """Which of the two outer indices an entry of a matrix has beside k, whether k comes first, and the matrix."""
    if maker is None or not isinstance(maker.op, Index) or len(maker.operands) != 3:
        return None
    array, *at = maker.operands
    for is_turned in (False, True):
        here, beside = at if is_turned else reversed(at)
        place = inside.get(beside)
        if here is k and place is not None and place in places:
            return list(places).index(place), is_turned, array
    return None


def _entries(
    g: Builder,
    inner: Node,
    region: Region,
    factors: Sequence[tuple[Value, bool]],
    operands: Sequence[Value | None],
) -> Value | None:
    """The product of some factors at each k as a vector; None if one reads an outer index."""
    needed = {factor for factor, _ in factors}
    nodes = []
    for node in reversed(region.nodes):
        if not needed.isdisjoint(node.results):
            nodes.append(node)
            needed.update(node.operands)
    used = [at for at, value in enumerate(region.inputs[1:]) if value in needed]
    given = [operands[at] for at in used]
    present = [value for value in given if value is not None]
    if len(present) < len(given):
        return None
    h = Builder()
    inputs = [h.input(region.inputs[0].type), *(h.input(region.inputs[1 + at].type) for at in used)]
    known = dict(zip((region.inputs[0], *(region.inputs[1 + at] for at in used)), inputs, strict=True))
    for node in reversed(nodes):
        known.update(zip(node.results, h.copy(node, [known[value] for value in node.operands]), strict=True))
    total = h.constant(1.0, array_type(factors[0][0]).dtype)
    for factor, is_below in factors:
        total = (h.div if is_below else h.mul)(total, known[factor])
    op = inner.op
    assert isinstance(op, Space)
    (vector,) = g.apply(Space(extents=op.extents), *present, regions=[h.close([total])])
    return vector
