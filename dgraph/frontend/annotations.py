"""Annotations: which exist, where they may stand, and their arguments as Python values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dgraph.errors import NotSupported, ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.modules import unknown
from dgraph.frontend.values import Annotated

KNOWN = ("entry", "metric", "train", "checkpoint", "bound", "implicit", "unroll", "derivative")
LATER = ("unroll",)
INSTEAD = {
    "unroll": "leave it out: the loop means the same without it",
}
BEFORE = {
    "entry": "a `def` at the top of the file",
    "metric": "a `def` at the top of the file",
    "train": "a `def` at the top of the file",
    "checkpoint": "a loop",
    "bound": "a `while`",
    "implicit": "a `while`",
    "derivative": "a `def` at the top of the file",
}


TRAIN: Mapping[str, str] = {
    "optimiser": "an optimiser, as in `optimiser=adam(rate=1e-3)`",
    "wrt": "the names of params, as in `wrt=critic`",
    "clip": "a positive number",
    "batch": "a whole number from 1",
    "epochs": "a whole number from 1",
    "validation": "a share of the rows or a count of them",
    "test": "a share of the rows or a count of them",
    "patience": "a whole number from 1",
    "shuffle": "`True` or `False`",
    "data": 'a file name, as in `data="digits.npz"`',
}
"""The options of `@train`, with what each of them takes."""


def train_fault(annotation: t.Annotation) -> tuple[Span, str, str, str] | None:
    """The first option of a `@train` whose value does not fit: its place, a title, a label and a note."""
    if annotation.arguments:
        note = "`@train(optimiser=adam(rate=1e-3), batch=64)`"
        return annotation.arguments[0].span, "`@train` takes its options by name", "without a name", note
    for keyword in annotation.keywords:
        value = fact(keyword.value)
        if not _fits(keyword.name, value):
            title = f"`{keyword.name}` of `@train` is {TRAIN[keyword.name].split(', as in')[0]}"
            return keyword.value.span, title, "something else is given", f"it takes {TRAIN[keyword.name]}"
    return None


def _fits(name: str, value: Any) -> bool:
    if name == "optimiser":
        is_named = isinstance(value, Annotated) and not value.arguments
        return is_named and all(is_number(option) for option in value.keywords.values())
    if name == "wrt":
        names = value if isinstance(value, tuple) else (value,)
        return bool(names) and all(isinstance(item, Annotated) and not item.arguments for item in names)
    if name in ("shuffle", "data"):
        return isinstance(value, bool if name == "shuffle" else str)
    if name in ("batch", "epochs", "patience"):
        return is_count(value)
    return is_number(value) and (value > 0 if name == "clip" else value >= 0)


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: object) -> bool:
    """Whether a value is a whole number from 1."""
    return type(value) is int and value > 0


def check_annotations(
    annotations: Sequence[t.Annotation], what: str, allowed: Mapping[str, tuple[str, ...] | None]
) -> dict[str, Annotated]:
    """The annotations of one thing by name. `allowed` gives the keywords of each that may stand here (None: any)."""
    found: dict[str, Annotated] = {}
    places: dict[str, Span] = {}
    for annotation in annotations:
        name = annotation.name
        if name not in KNOWN:
            known = [f"@{word}" for word in KNOWN]
            raise unknown(annotation.span, f"there is no annotation `@{name}`", f"@{name}", known)
        if name in LATER:
            raise NotSupported.at(annotation.span, f"`@{name}` is not supported yet", note=INSTEAD[name])
        if name not in allowed:
            title = f"`@{name}` does not belong on {what}"
            said = f"stands before {BEFORE[name]}"
            raise ScopeError.at(annotation.span, title, said, note="move it, or leave it out")
        if name in found:
            also = [(places[name], "first here")]
            title = f"`@{name}` stands here twice"
            raise ScopeError.at(annotation.span, title, "again here", also=also, note="leave one out")
        keywords = allowed[name]
        for keyword in annotation.keywords:
            if keywords is not None and keyword.name not in keywords:
                title = f"`@{name}` has no option `{keyword.name}`"
                note = f"it takes {', '.join(f'`{word}`' for word in keywords) or 'no options'}"
                raise unknown(keyword.span, title, keyword.name, list(keywords), note)
        found[name] = Annotated(
            name,
            tuple(fact(argument) for argument in annotation.arguments),
            {keyword.name: _option(name, keyword) for keyword in annotation.keywords},
        )
        if annotation.arguments and name in ("entry", "metric"):
            place = annotation.arguments[0].span
            raise TypeMismatch.at(place, f"`@{name}` takes no arguments", "leave it out", note=f"write `@{name}`")
        if name == "train" and (fault := train_fault(annotation)) is not None:
            place, title, said, note = fault
            raise TypeMismatch.at(place, title, said, note=note)
        if name == "derivative" and (annotation.arguments or not isinstance(found[name].keywords.get("of"), Annotated)):
            title, note = "`@derivative` takes the name of a function", "`@derivative(of=f)`"
            raise TypeMismatch.at(annotation.span, title, "not given here", note=note)
        places[name] = annotation.span
    return found


COMPUTED = {("checkpoint", "slots"), ("checkpoint", "every"), ("checkpoint", "disk")}
"""The options that may be computed, by annotation."""


def _option(annotation: str, keyword: t.Keyword) -> Any:
    """The value of an option; the expression itself where it is computed."""
    value = keyword.value.operand if isinstance(keyword.value, t.Negate) else keyword.value
    is_literal = isinstance(value, t.Number | t.Boolean | t.String)
    return fact(keyword.value) if is_literal or (annotation, keyword.name) not in COMPUTED else keyword.value


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
    note = "write the value itself, as in `@train(optimiser=adam(rate=1e-3))`"
    title = "an annotation takes literals, names and calls of literals"
    raise TypeMismatch.at(node.span, title, "this is computed", note=note)
