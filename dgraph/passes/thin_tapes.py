"""What a loop keeps for a loop that runs after it is less, where the later one can cheaply compute it itself.

A value kept at every step (on a tape or a stack) that a little arithmetic makes of other kept values, of walked rows
and of captures is computed again from those, by the same ops and so with the same bits. Of `s = sigmoid(z)` and
`s * (1 - s)`, only s is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass, outputs_of, same_nodes, with_operands
from dgraph.passes.expand_arrays import VIEWS

LITTLE = 4
"""The weight of the dearest op that is done again, in additions."""
MOST = 8
"""How many ops are done again for one kept value."""


@graph_pass("loops keep less for the loops that run after them")
def thin_tapes(graph: Graph) -> Graph:
    """Thin what loops keep, in every region."""
    return each_region(graph, _thinned)


@dataclass(frozen=True)
class _Recipe:
    """How an entry that a loop keeps is computed again: nodes of its body, and what they start from.

    `walked` are region inputs and kept values with the arrays or tapes to walk for them, `captured` inputs with the
    values to capture, `index` is the loop's index.
    """

    value: Value
    nodes: tuple[Node, ...]
    walked: dict[Value, Value]
    captured: dict[Value, Value]
    index: Value


def _thinned(region: Region) -> Region:
    recipes: dict[Value, _Recipe] = {}
    nodes: list[Node] = []
    for node in region.nodes:
        if isinstance(node.op, For):
            for walk in node.operands[1 + node.op.carries : node.op.leading_operands()]:
                if walk in recipes:
                    node = _with_recipe(node, walk, recipes[walk])
            recipes.update(_recipes(region, node))
        nodes.append(node)
    return same_nodes(region, nodes, region.outputs)


# ---- what can be computed again -------------------------------------------------------------------------------------


def _recipes(region: Region, loop: Node) -> dict[Value, _Recipe]:
    """A recipe for each kept array or tape that need not be kept."""
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For)
    kept: dict[Value, list[Value]] = {}
    for output, result in zip(body.outputs[op.carries :], loop.results[op.carries :], strict=True):
        kept.setdefault(output, []).append(result)
    start = _starts(loop)
    stays = dict(start.walked)
    found: dict[Value, _Recipe] = {}
    for value in (*body.inputs, *body.producers):
        results = kept.get(value, [])
        if not results:
            continue
        recipe = _recipe(body, replace(start, value=value, walked=stays))
        if recipe is not None and all(_is_only_walked(region, result) for result in results):
            found.update((result, recipe) for result in results)
        else:
            stays[value] = results[0]
    return found


def _starts(loop: Node) -> _Recipe:
    """What any recipe of a loop may start from."""
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For)
    first, lead = 1 + op.carries, op.leading_operands()
    walked = dict(zip(body.inputs[first:lead], loop.operands[first:lead], strict=True))
    captured = dict(zip(body.inputs[lead:], loop.operands[lead:], strict=True))
    return _Recipe(body.inputs[0], (), walked, captured, body.inputs[0])


def _recipe(body: Region, start: _Recipe) -> _Recipe | None:
    """The recipe of a value from what is walked, captured or kept; None if it is not little."""
    known = {start.index, *start.walked, *start.captured}
    nodes: list[Node] = []
    walked: dict[Value, Value] = {}
    captured: dict[Value, Value] = {}
    for value in _backwards(body, start.value, known, nodes):
        if value in start.walked:
            walked[value] = start.walked[value]
        elif value in start.captured:
            captured[value] = start.captured[value]
        elif value is not start.index:
            return None
    return (
        replace(start, nodes=tuple(reversed(nodes)), walked=walked, captured=captured) if len(nodes) <= MOST else None
    )


def _backwards(body: Region, wanted: Value, known: set[Value], nodes: list[Node]) -> list[Value]:
    """Collect the nodes that compute a value from known ones, last first; returns the values that they start from,
    among them those that nothing little computes."""
    pending = [wanted]
    seen: set[Value] = set()
    starts: list[Value] = []
    makers: set[Node] = set()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        maker = body.producers.get(value)
        if value in known or maker is None or not _is_little(maker):
            starts.append(value)
        elif len(makers) <= MOST:
            makers.add(maker)
            pending += maker.operands
    nodes += [node for node in reversed(body.nodes) if node in makers]
    return starts


def _is_little(node: Node) -> bool:
    if isinstance(node.op, Elementwise):
        return node.op.weight <= LITTLE
    return isinstance(node.op, (Constant, SizeValue, *VIEWS))


def _is_only_walked(region: Region, kept: Value) -> bool:
    """Whether loops walk what is kept and nothing else reads it."""
    if kept in region.outputs:
        return False
    for user in region.users.get(kept, ()):
        if not isinstance(user.op, For):
            return False
        walks = slice(1 + user.op.carries, user.op.leading_operands())
        if kept in (*user.operands[: walks.start], *user.operands[walks.stop :]):
            return False
    return True


# ---- computing it again ---------------------------------------------------------------------------------------------


def _with_recipe(loop: Node, walk: Value, recipe: _Recipe) -> Node:
    """A loop that computes an entry instead of walking it."""
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For)
    first, lead = 1 + op.carries, op.leading_operands()
    renamed: dict[Value, Value] = {}
    walked, captured = (_first_of(loop, body, places, renamed) for places in (slice(first, lead), slice(lead, None)))
    entry = walked.pop(walk)
    known: dict[Value, Value] = {recipe.index: body.inputs[0]}
    for start, outside in recipe.walked.items():
        known[start] = walked.setdefault(outside, Value(start.type, start.name))
    for start, outside in recipe.captured.items():
        known[start] = captured.setdefault(outside, Value(start.type, start.name))
    again = []
    for node in recipe.nodes:
        results = tuple(Value(value.type, value.name) for value in node.results)
        again.append(replace(node, operands=tuple(known[operand] for operand in node.operands), results=results))
        known.update(zip(node.results, results, strict=True))
    renamed = {value: known[recipe.value] if one is entry else one for value, one in renamed.items()}
    renamed[entry] = known[recipe.value]
    nodes = (*again, *(with_operands(node, renamed) for node in body.nodes))
    inner = Region((*body.inputs[:first], *walked.values(), *captured.values()), nodes, outputs_of(body, renamed))
    operands = (*loop.operands[:first], *walked, *captured)
    return replace(loop, op=replace(op, walks=len(walked)), operands=operands, regions=(inner,))


def _first_of(loop: Node, body: Region, places: slice, renamed: dict[Value, Value]) -> dict[Value, Value]:
    """Inputs of a body by the operands that they stand for; `renamed` learns inputs that repeat another one."""
    found: dict[Value, Value] = {}
    for operand, value in zip(loop.operands[places], body.inputs[places], strict=True):
        if found.setdefault(operand, value) is not value:
            renamed[value] = found[operand]
    return found
