"""Which ops act on scalars, and how each is written in generated source for each machine type."""

from __future__ import annotations

from dgraph.ir.op import Op
from dgraph.kernels.math import MATH

_COMPARISONS = {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_LOGIC = {"logical_and": "and_bool", "logical_or": "or_bool", "logical_not": "not_bool"}
_BY_NAME = {
    "abs": "abs",
    "sign": "sign",
    "floor": "floor",
    "ceil": "ceil",
    "round": "round",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "maximum": "maximum",
    "minimum": "minimum",
    "fma": "fma",
    "pow": "pow",
    "powi": "powi",
    "floor_divide": "floor_div",
    "mod": "mod",
    "isnan": "isnan",
    "isfinite": "isfinite",
}
_OWN = {"neg", "relu", "select", "cast", "stop_gradient"}
_MATH_OPS = {op for op, _ in MATH}
_PRECEDENCE = {"+": 4, "-": 4, "*": 5, "/": 5}
TIGHT = 9
"""The precedence of text that never needs parentheses."""


def is_scalar_op(name: str) -> bool:
    """Whether an op has a scalar form in generated source."""
    return any(name in table for table in (_COMPARISONS, _ARITHMETIC, _LOGIC, _BY_NAME, _OWN, _MATH_OPS))


def scalar_facts(op: Op) -> tuple[int, ...]:
    """The facts of a scalar op that its text needs: the exponent of `powi`."""
    return (int(op.facts.get("exponent", 0)),) if op.name == "powi" else ()


def scalar_text(
    op: str, result: str, types: list[str], operands: list[tuple[str, int]], facts: tuple[int, ...]
) -> tuple[str, int]:
    """The text of a scalar operation and its precedence, from the text and precedence of its operands."""

    def call(name: str, *texts: str) -> tuple[str, int]:
        return f"{name}({', '.join(texts)})", TIGHT

    def at(position: int, level: int) -> str:
        text, precedence = operands[position]
        return text if precedence >= level else f"({text})"

    plain = [text for text, _ in operands]
    type_ = types[0]
    if op in _COMPARISONS:
        if type_ == "bool":
            differs = call("xor_bool", *plain)
            return differs if op == "not_equal" else call("not_bool", differs[0])
        return f"{at(0, 4)} {_COMPARISONS[op]} {at(1, 4)}", 3
    if op in _ARITHMETIC:
        if type_ in ("i32", "u8"):
            return call(f"{op}_{type_}", *plain)
        sign = _ARITHMETIC[op]
        level = _PRECEDENCE[sign]
        return f"{at(0, level)} {sign} {at(1, level + 1)}", level
    if op in _LOGIC:
        return call(_LOGIC[op], *plain)
    if op == "neg":
        return call(f"neg_{type_}", *plain) if type_ in ("i32", "u8") else (f"-{at(0, 6)}", 6)
    if op == "relu":
        return call(f"maximum_{type_}", plain[0], f"{type_}(0)")
    if op == "select":
        return call(f"select_{result}", *plain)
    if op == "cast":
        return operands[0] if type_ == result else call(f"convert_{type_}_{result}", *plain)
    if op == "stop_gradient":
        return operands[0]
    if op == "powi":
        return call(f"powi_{type_}", plain[0], str(facts[0]))
    if op in _BY_NAME:
        return call(f"{_BY_NAME[op]}_{type_}", *plain)
    return call(MATH[(op, type_)], *plain)
