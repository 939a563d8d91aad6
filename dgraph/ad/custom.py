"""Rules of the program: the tangents of a `custom` node are what its rule says.

A rule is linear in the tangents, so it is its own derivative along them: it is differentiated in these inputs only, at
zero, which leaves out what comes from structural zeros and marks what is linear. The node itself stays, so that the
next transform finds the rule again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from dgraph.ad.expand import without_transforms
from dgraph.ad.jvp import JVP, Jvp, Tangents
from dgraph.ad.linearity import require_linear
from dgraph.errors import InvalidGraph, ScopeError
from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.inline import inline_calls
from dgraph.ops.transform import Rule
from dgraph.types import tangent_type

_expanded: WeakKeyDictionary[Rule, Region] = WeakKeyDictionary()
_open: ContextVar[tuple[Rule, ...]] = ContextVar("_open", default=())


def region_of(rule: Rule | str) -> Region:
    """The region of a rule with ordinary nodes only, known to be linear in the tangents."""
    if isinstance(rule, str) or rule.region is None:
        raise InvalidGraph(f"the rule `{rule if isinstance(rule, str) else rule.name}` is not part of this graph")
    found = _expanded.get(rule)
    if found is not None:
        return found
    opened = _open.get()
    if rule in opened:
        title = f"the rule `{rule.name}` needs the derivative that it gives"
        note = "it may apply its function, but not differentiate it"
        raise ScopeError.at(rule.span, title, "differentiates its own function", note=note)
    token = _open.set((*opened, rule))
    try:
        region = without_transforms(inline_calls(rule.region))
    finally:
        _open.reset(token)
    require_linear(rule, region)
    return _expanded.setdefault(rule, region)


def _jvp_custom(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[list[Value], Tangents]:
    op: Any = node.op
    rule = region_of(op.rule)
    around = g.scope[: len(g.scope) - len(node.scope)]
    with g.at(derived=""):
        results = list(g.copy(node, operands, around))
    floats = [tangent_type(operand.type) is not None for operand in operands]
    with g.at(derived="tangent"):
        nothing = [g.zeros(operand.type) for operand, flag in zip(operands, floats, strict=True) if flag]
    given = [tangent for tangent, flag in zip(tangents, floats, strict=True) if flag]
    scope = (*g.scope, op.function)
    _, found = run.run(g, rule, [*operands, *nothing], [*(None for _ in operands), *given], scope)
    rest = iter(found)
    return results, [next(rest) if tangent_type(result.type) is not None else None for result in results]


JVP["custom"] = _jvp_custom
