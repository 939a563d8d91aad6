"""How each region op is drawn: where the inputs of its regions come from, and from where its results leave.

The carry of a loop is a node at its top with a dashed edge back to it; collected results, tapes and yields are nodes at
the bottom, with the shape that they have outside; captures are edges straight from their producers.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.graph import Node, Value
from dgraph.ops.control import For, Space, While
from dgraph.types import Array, Tape
from dgraph.view.scene import Edge
from dgraph.view.walk import Known, Origin, Rule, Walk, facing_of


def draw_for(walk: Walk, node: Node, known: Known) -> None:
    """Index, carries and walked entries at the top; the final carries leave from where they are computed."""
    op, body = node.op, node.regions[0]
    assert isinstance(op, For)
    index, carries = body.inputs[0], body.inputs[1 : 1 + op.carries]
    count = known[node.operands[0]]
    steps = f"0..{count.words or node.operands[0].name or 'count'}"
    header = f"for {_name(index)} in {f'reversed({steps})' if op.reverse else steps}{_listed(', carry', carries)}"
    with walk.region("for", header, node=node):
        first = _index(walk, node, index, index in body.used or not count.words)
        if not count.words:
            walk.join(count, first, node.operands[0], "control")
        start = [_carry(walk, node, known, *pair) for pair in zip(carries, node.operands[1:], strict=False)]
        entries = []
        for value, operand in zip(
            body.inputs[1 + op.carries : op.leading_inputs(0)], node.operands[1 + op.carries :], strict=False
        ):
            entries.append(_entry(walk, node, known, value, operand))
        outputs = walk.read_inside(node, body, [first, *start, *entries], known)
        for origin, carry, value in zip(outputs, start, body.outputs, strict=False):
            walk.join(origin, carry, value, "carry")
        known.update(zip(node.results, outputs[: op.carries], strict=False))
        _exits(walk, node, known, outputs[op.carries :], node.results[op.carries :])


def draw_while(walk: Walk, node: Node, known: Known) -> None:
    """Carries at the top, from which the results leave; the test and the body as two clusters."""
    op, (test, body) = node.op, node.regions
    assert isinstance(op, While)
    with walk.region("while", f"while{_listed(', carry', body.inputs[: op.carries])}", node=node):
        start = [
            _carry(walk, node, known, *pair) for pair in zip(test.inputs[: op.carries], node.operands, strict=False)
        ]
        with walk.region("branch", "test", node=node):
            (verdict,) = walk.read_inside(node, test, start, known)
            asked = walk.add_exit(
                verdict, test.outputs[0], "continue?", "test", "control", direction=facing_of(node), inside=node
            )
        with walk.region("branch", "body", node=node) as inner:
            walk.edges.append(Edge(asked.node, inner, "control", "bool"))
            outputs = walk.read_inside(node, body, start, known)
            for origin, carry, value in zip(outputs, start, body.outputs, strict=False):
                walk.join(origin, carry, value, "carry")
            known.update(zip(node.results, start, strict=False))
            _exits(walk, node, known, outputs[op.carries :], node.results[op.carries : -1])
        trips = node.results[-1]
        if trips in walk.wanted:
            known[trips] = walk.add_exit(asked, trips, "trips", "trips", "index", direction=facing_of(node))


def draw_if(walk: Walk, node: Node, known: Known) -> None:
    """A diamond that asks, both sides, and for each result a diamond where they meet."""
    facing = facing_of(node)
    with walk.region("if", "if", node=node):
        asked = walk.add([], "?", "if", "control", direction=facing, diamond=True)
        walk.join(known[node.operands[0]], asked, node.operands[0])
        sides = []
        for header, side in zip(("then", "else"), node.regions, strict=True):
            with walk.region("branch", header, node=node) as inner:
                walk.edges.append(Edge(asked.node, inner, "control", header))
                outputs = walk.read_inside(node, side, [], known)
                sides.append([_own(walk, node, inner, *pair) for pair in zip(outputs, side.outputs, strict=True)])
        for result, *origins in zip(node.results, *sides, strict=True):
            if result in walk.wanted:
                name = result.name or "result"
                known[result] = walk.add([result], name, "if", "control", direction=facing, diamond=True)
                for origin in origins:
                    walk.join(origin, known[result], result)


def _own(walk: Walk, node: Node, branch: str, origin: Origin, value: Value) -> Origin:
    """The output of a branch as a node of the branch, though it be a constant or a value from outside."""
    if origin.node and walk.stands_in(origin.node, branch):
        return origin
    if origin.words:
        return walk.add([value], origin.words, "constant", "constant", direction=facing_of(node), inside=node)
    return walk.add_exit(
        origin, value, value.name or "as it is", "pass", "shape", direction=facing_of(node), inside=node
    )


def draw_call(walk: Walk, node: Node, known: Known) -> None:
    """The function's cluster; its results leave from where they are computed."""
    with walk.region("function", str(getattr(node.op, "function", "")) or "call", node=node):
        known.update(zip(node.results, walk.read_inside(node, node.regions[0], [], known), strict=True))


def draw_space(walk: Walk, node: Node, known: Known) -> None:
    """Indices and own buffers at the top; totals and yields at the bottom."""
    op, body = node.op, node.regions[0]
    assert isinstance(op, Space)
    rank, threads = len(op.extents), op.accumulators
    indices = body.inputs[:rank]
    header = f"each {', '.join(map(_name, indices))} in {' × '.join(map(str, op.extents))}" if rank else "one point"
    with walk.region("space", header, node=node):
        leading = [_index(walk, node, value, value in body.used) for value in indices]
        leading += [known[operand] for operand in node.operands[:threads]]
        for value, buffer in zip(body.inputs[rank + threads :], op.buffers, strict=False):
            leading.append(walk.add([value], f"{buffer.kind} into", "buffer", "index", direction=facing_of(node)))
        outputs = walk.read_inside(node, body, leading, known)
        known.update(zip(node.results, outputs[:threads], strict=False))
        _exits(walk, node, known, outputs[threads:], node.results[threads:], len(op.buffers))


def draw_transform(walk: Walk, node: Node, known: Known) -> None:
    """A derivative that is not expanded yet: the function inside, and one node that takes all and gives all."""
    body = node.regions[0]
    function = str(getattr(node.op, "function", ""))
    with walk.region("function", f"{node.op.name} of {function}" if function else node.op.name, node=node):
        inputs = [known[value] for value in node.operands[: len(body.inputs)]]
        outputs = walk.read_inside(node, body, inputs, known)
        made = walk.add(node.results, node.op.name, node.op.name, "adjoint", span=node.span)
        for origin, value in zip(outputs, body.outputs, strict=True):
            walk.join(origin, made, value)
        for value in node.operands[len(body.inputs) :]:
            walk.join(known[value], made, value)
        known.update((value, made) for value in node.results)


def _index(walk: Walk, node: Node, value: Value, drawn: bool) -> Origin:
    """The node of a loop variable, where anything reads it."""
    if not drawn:
        return Origin(words=_name(value))
    return walk.add([value], _name(value), "index", "input", direction=facing_of(node), inside=node)


def _entry(walk: Walk, node: Node, known: Known, value: Value, operand: Value) -> Origin:
    """The node of the slice or tape entry that a step sees; a forward value stays one in the reverse pass."""
    origin = known[operand]
    whole = operand.name or origin.words or ("tape" if isinstance(operand.type, Tape) else "·")
    label = f"{whole}[{_name(node.regions[0].inputs[0])}]"
    cotangent = bool(origin.node) and walk.faces[origin.node] == "adjoint"
    made = walk.add([value], label, "walk", "index", direction=facing_of(node), inside=node, cotangent=cotangent)
    walk.join(origin, made, operand)
    return made


def _carry(walk: Walk, node: Node, known: Known, value: Value, operand: Value) -> Origin:
    """The node of a carry, which what it starts from leads to; a constant start stands in its label."""
    first = known[operand]
    label = (value.name or "carry") + (f", first {first.words}" if first.words else "")
    made = walk.add([value], label, "carry", "control", direction=facing_of(node), inside=node)
    if first.node:
        walk.join(first, made, operand)
    return made


def _exits(
    walk: Walk, node: Node, known: Known, origins: Sequence[Origin], results: Sequence[Value], totals: int = 0
) -> None:
    """A node for each gathered result that anything reads: stacked or yielded entries, totals, tapes."""
    for at, (origin, result) in enumerate(zip(origins, results, strict=True)):
        if result in walk.wanted:
            word = "total" if at < totals else "gather" if isinstance(result.type, Array) else "tape"
            label = f"{result.name} = {word}" if result.name else word
            known[result] = walk.add_exit(origin, result, label, word, "index", direction=facing_of(node))


def _name(value: Value) -> str:
    return value.name or "i"


def _listed(word: str, values: Sequence[Value]) -> str:
    names = [value.name for value in values if value.name]
    return f"{word} {', '.join(names)}" if names else ""


RULES: dict[str, Rule] = {
    "for": draw_for,
    "while": draw_while,
    "if": draw_if,
    "call": draw_call,
    "custom": draw_call,
    "space": draw_space,
    "jvp": draw_transform,
    "vjp": draw_transform,
    "vjp_tangent": draw_transform,
    "sparse_jacobian": draw_transform,
    "vmap": draw_transform,
    "fixed_point": draw_transform,
    "linear_solve": draw_transform,
    "implicit": draw_transform,
}
"""The rule of every region op; the others are drawn plainly."""
