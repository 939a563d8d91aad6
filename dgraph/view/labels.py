"""What a node of the picture is called: its op with what is fixed about it, in the notation of the language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgraph.ir.graph import Node
from dgraph.sizes import Size, size
from dgraph.types import Array

_SILENT_FACTS = {"shape", "dtype", "type", "policy", "value", "function"}


def label_of(node: Node, operands: Sequence[str]) -> str:
    """The label of a node; `operands` are words for its operands, or nothing if each has an edge of its own."""
    op: Any = node.op
    if op.name == "check":
        return f"check{f' {operands[0]}' if operands else ''}: {op.message}"
    arguments = f"({', '.join(operands)})" if operands else ""
    if op.name == "powi":
        return f"** {op.exponent}"
    if op.name in ("slice", "unslice"):
        inner, outer = (node.result, node.operands[0]) if op.name == "slice" else (node.operands[0], node.result)
        where = [
            _piece(start, step, extent, whole)
            for start, step, extent, whole in zip(op.starts, op.steps, _shape(inner), _shape(outer), strict=True)
        ]
        return f"{op.name}{arguments} [{', '.join(where)}]"
    facts = [f"{name}={_words(fact)}" for name, fact in op.facts.items() if name not in _SILENT_FACTS]
    return " ".join([f"{op.name}{arguments}", *facts])


def _shape(value: Any) -> Sequence[Size]:
    assert isinstance(value.type, Array)
    return value.type.shape


def _piece(start: Size, step: int, extent: Size, whole: Size) -> str:
    """One axis of a slice as it is written: what may be left out is."""
    if step < 0:
        return f"::{step}" if (start, extent) == (whole - 1, whole) else f"{start}, {extent} entries, step {step}"
    end = start + extent * step
    return f"{start if start != size(0) else ''}:{end if end != whole else ''}{f':{step}' if step > 1 else ''}"


def _words(fact: object) -> str:
    return f"[{', '.join(map(_words, fact))}]" if isinstance(fact, tuple) else str(fact)
