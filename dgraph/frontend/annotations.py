"""Annotations: which exist, where they may stand, and their arguments as Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dgraph.errors import NotSupported, ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.modules import unknown
from dgraph.frontend.values import Annotated

KNOWN = ("entry", "metric", "train", "checkpoint", "bound", "implicit", "unroll", "derivative")
LATER = ("implicit", "unroll", "derivative")


def check_annotations(
    annotations: Sequence[t.Annotation], what: str, allowed: Mapping[str, tuple[str, ...] | None]
) -> dict[str, Annotated]:
    """The annotations of one thing by name. `allowed` gives the keywords of each that may stand here (None: any)."""
    found: dict[str, Annotated] = {}
    places: dict[str, Span] = {}
    for annotation in annotations:
        name = annotation.name
        if name not in KNOWN:
            raise unknown(annotation.span, f"there is no annotation `@{name}`", name, list(KNOWN))
        if name in LATER:
            raise NotSupported.at(annotation.span, f"`@{name}` is not supported yet", note="leave it out")
        if name not in allowed:
            raise ScopeError.at(annotation.span, f"`@{name}` does not belong on {what}")
        if name in found:
            raise ScopeError.at(annotation.span, f"`@{name}` stands here twice", also=[(places[name], "first here")])
        keywords = allowed[name]
        for keyword in annotation.keywords:
            if keywords is not None and keyword.name not in keywords:
                title = f"`@{name}` has no option `{keyword.name}`"
                raise unknown(keyword.span, title, keyword.name, list(keywords))
        found[name] = Annotated(
            name,
            tuple(fact(argument) for argument in annotation.arguments),
            {keyword.name: fact(keyword.value) for keyword in annotation.keywords},
        )
        places[name] = annotation.span
    return found


def fact(node: t.Expression) -> Any:
    """An argument of an annotation: a number, a string, a truth value, a name, a tuple, or a call such as
    `adam(rate=1e-3)`."""
    if isinstance(node, t.Number | t.Boolean | t.String):
        return node.value
    if isinstance(node, t.Negate) and isinstance(node.operand, t.Number):
        return -node.operand.value
    if isinstance(node, t.Name):
        return Annotated(node.name)
    if isinstance(node, t.Tuple | t.Array):
        return tuple(fact(item) for item in node.items)
    if isinstance(node, t.Call) and isinstance(node.function, t.Name):
        keywords = {keyword.name: fact(keyword.value) for keyword in node.keywords}
        return Annotated(node.function.name, tuple(fact(argument) for argument in node.arguments), keywords)
    raise TypeMismatch.at(node.span, "an annotation takes literals, names and calls of literals")


def loop_facts(annotations: Sequence[t.Annotation], what: str) -> dict[str, Any]:
    """The wishes of `@checkpoint` and `@bound` as facts of a loop."""
    allowed: dict[str, tuple[str, ...] | None] = {"checkpoint": ("every", "slots", "budget")}
    if what == "a `while` loop":
        allowed["bound"] = ()
    found = check_annotations(annotations, what, allowed)
    facts: dict[str, Any] = {}
    for annotation in annotations:
        held = found[annotation.name]
        if annotation.name == "checkpoint" and what == "a `while` loop" and not _keeps_nothing(held):
            raise NotSupported.at(annotation.span, "`@checkpoint` on `while` is not supported yet", note="leave it out")
        if annotation.name == "bound":
            if len(held.arguments) != 1 or not _is_count(held.arguments[0]):
                raise TypeMismatch.at(annotation.span, "`@bound` takes one positive integer", note="`@bound(50)`")
            facts["bound"] = held.arguments[0]
            continue
        facts.update(_checkpoint(annotation, held))
    return facts


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _keeps_nothing(held: Annotated) -> bool:
    """`@checkpoint(none)`."""
    return held.arguments == (Annotated("none"),) and not held.keywords


def _checkpoint(annotation: t.Annotation, held: Annotated) -> dict[str, Any]:
    if _keeps_nothing(held):
        return {}
    if held.arguments or len(held.keywords) != 1:
        note = '`@checkpoint(every=16)`, `@checkpoint(slots=8)`, `@checkpoint(budget="200MB")` or `@checkpoint(none)`'
        raise TypeMismatch.at(annotation.span, "`@checkpoint` takes one option", note=note)
    ((name, value),) = held.keywords.items()
    if name == "budget" and not isinstance(value, str):
        raise TypeMismatch.at(annotation.span, "a budget is a string", note='`@checkpoint(budget="200MB")`')
    if name != "budget" and not _is_count(value):
        raise TypeMismatch.at(annotation.span, f"`{name}` is a positive integer")
    return dict(held.keywords)
