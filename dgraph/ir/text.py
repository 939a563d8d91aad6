"""Graphs as text: printed for people and golden tests, read back by tests of every pass.

Names are kept where they are unique and numbered where not, so equal graphs print equally. A graph's record and tuple
structure is printed as its leaves: a graph that was read back has one formal per leaf.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from dgraph.errors import InvalidGraph
from dgraph.ir.counts import Count, Given, Made
from dgraph.ir.graph import Formal, Graph, Node, Region, Value, Wish
from dgraph.ir.op import OPS
from dgraph.reader import grammar_text
from dgraph.sizes import Size, size, variable
from dgraph.types import DTYPES, Accumulator, Array, DType, Extent, Tape, Tuple, Type, ValueType, leaves

if TYPE_CHECKING:
    from lark import Lark

RESERVED = {"graph", "region", "return", "yield", "size", "array", "acc", "tape", "tangent", "adjoint", "inf", "nan"}


# ---- printing ---------------------------------------------------------------------------------------------------


def print_graph(graph: Graph) -> str:
    """The text of a graph."""
    names = _Names()
    wishes = {wish.name: f"={_count(wish.value, graph.input_names)}" for wish in graph.wishes}
    sizes = f"[{', '.join(name + wishes.get(name, '') for name in graph.sizes)}]" if graph.sizes else ""
    inputs = iter(graph.region.inputs)
    formals = []
    for formal in graph.formals:
        if isinstance(formal.type, Extent):
            formals.append(f"{formal.name}: size")
            continue
        for name, _ in leaves(formal.type, formal.name):
            value = next(inputs)
            formals.append(f"{names.give(value, name)}: {value.type}")
    lines = [f"graph {_word(graph.name)}{sizes}({', '.join(formals)}):"]
    lines += _block(graph.region, names, "    ")
    lines.append(f"    return {', '.join(map(names.of, graph.region.outputs))}".rstrip())
    return "\n".join(lines) + "\n"


def _count(count: Count, inputs: Sequence[str]) -> str:
    if isinstance(count, Size):
        return _literal(count)
    if isinstance(count, Given):
        return inputs[count.position]
    return f"{count.op}({', '.join(_count(part, inputs) for part in count.parts)})"


class _Names:
    """Gives every value of one graph its own name."""

    def __init__(self) -> None:
        self.known: dict[Value, str] = {}
        self.taken: set[str] = set(RESERVED)
        self.count = 0

    def give(self, value: Value, wish: str) -> str:
        name = ".".join(map(_word, wish.split("."))) if wish else ""
        if not name or re.fullmatch(r"v\d+", name):
            name = f"v{self.count}"
            while name in self.taken:
                self.count += 1
                name = f"v{self.count}"
        elif name in self.taken:
            suffix = 2
            while f"{name}_{suffix}" in self.taken:
                suffix += 1
            name = f"{name}_{suffix}"
        self.taken.add(name)
        self.known[value] = name
        return name

    def of(self, value: Value) -> str:
        if value not in self.known:
            raise InvalidGraph(f"{value!r} is read but never defined")
        return self.known[value]


def _word(text: str) -> str:
    """A name that the grammar can read."""
    word = re.sub(r"\W", "_", text) or "_"
    return f"_{word}" if word[0].isdigit() and not word.isdigit() else word


def _block(region: Region, names: _Names, indent: str) -> list[str]:
    lines = []
    for node in region.nodes:
        parts = [*map(names.of, node.operands), *(f"{key}={_literal(fact)}" for key, fact in node.op.facts.items())]
        results = ", ".join(f"{names.give(value, value.name)}: {value.type}" for value in node.results)
        place = f" @ {'/'.join(map(_word, node.scope))}" if node.scope else ""
        derived = f" {node.derived}" if node.derived else ""
        head = f"{indent}{results + ' = ' if results else ''}{node.op.name}({', '.join(parts)}){place}{derived}"
        lines.append(head + (":" if node.regions else ""))
        for inner in node.regions:
            inputs = ", ".join(f"{names.give(value, value.name)}: {value.type}" for value in inner.inputs)
            lines.append(f"{indent}    region({inputs}):")
            lines += _block(inner, names, indent + "        ")
            lines.append(f"{indent}        yield {', '.join(map(names.of, inner.outputs))}".rstrip())
    return lines


def _literal(fact: Any) -> str:
    if isinstance(fact, Size):
        return f"{{{fact}}}"
    if isinstance(fact, tuple):
        return f"[{', '.join(map(_literal, fact))}]"
    if isinstance(fact, Array):
        return f"array<{fact}>"
    if isinstance(fact, str):
        return json.dumps(fact)
    if fact is None or isinstance(fact, bool):
        return str(fact).lower()
    if isinstance(fact, float):
        return repr(fact)
    return str(fact)


# ---- reading ----------------------------------------------------------------------------------------------------


def parse_graphs(text: str) -> list[Graph]:
    """Every graph of a text. Result types are inferred again and must equal those written."""
    return [_graph(tree) for tree in _parser().parse(text + "\n").children]


def parse_graph(text: str) -> Graph:
    """The only graph of a text."""
    (graph,) = parse_graphs(text)
    return graph


@cache
def _parser() -> Lark:
    from lark import Lark
    from lark.indenter import Indenter

    class Blocks(Indenter):
        NL_type = "_NEWLINE"
        OPEN_PAREN_types: list[str] = []  # noqa: RUF012
        CLOSE_PAREN_types: list[str] = []  # noqa: RUF012
        INDENT_type = "_INDENT"
        DEDENT_type = "_DEDENT"
        tab_len = 4

    return Lark(grammar_text("graph.lark"), parser="lalr", postlex=Blocks(), start="graphs", maybe_placeholders=True)


def _graph(tree: Any) -> Graph:
    name, sizes, formals, *nodes, last = tree.children
    known: dict[str, Value] = {}
    inputs, trees = [], []
    for formal in formals.children if formals else ():
        label, written = str(formal.children[0]), formal.children[1]
        if written == "size":
            trees.append(Formal(label, Extent()))
            continue
        type_ = _type(written)
        if not isinstance(type_, Array):
            raise InvalidGraph(f"{label}: a graph takes arrays")
        known[label] = Value(type_, label)
        inputs.append(known[label])
        trees.append(Formal(label, type_))
    body = [_node(node, known) for node in nodes]
    outputs = _yielded(last, known)
    types = [value.type for value in outputs if isinstance(value.type, Array)]
    result: Type = types[0] if len(types) == 1 else Tuple(tuple(types))
    names = tuple(str(size.children[0]) for size in sizes.children) if sizes else ()
    places = {formal.name: at for at, formal in enumerate(tree for tree in trees if not isinstance(tree.type, Extent))}
    wishes = tuple(_wish(size, places) for size in (sizes.children if sizes else ()) if len(size.children) > 1)
    region = Region(tuple(inputs), tuple(body), outputs)
    return Graph(str(name), names, tuple(trees), result, region, wishes=wishes)


def _wish(tree: Any, places: Mapping[str, int]) -> Wish:
    def count(part: Any) -> Count:
        if part.data == "given":
            return Given(places[str(part.children[0])])
        if part.data == "size_fact":
            return _size(part.children[0])
        op, *parts = part.children
        return Made(str(op), tuple(map(count, parts)))

    name, value = tree.children
    return Wish(str(name), str(name).partition("_")[0], count(value))


def _region(tree: Any) -> Region:
    values, *nodes, last = tree.children
    known: dict[str, Value] = {}
    inputs = tuple(_define(known, value) for value in (values.children if values else ()))
    body = tuple(_node(node, known) for node in nodes)
    return Region(inputs, body, _yielded(last, known))


def _yielded(tree: Any, known: dict[str, Value]) -> tuple[Value, ...]:
    (words,) = tree.children
    return tuple(_read(word, known) for word in (words.children if words else ()))


def _read(word: Any, known: dict[str, Value]) -> Value:
    if str(word) not in known:
        raise InvalidGraph(f"{word} is read before it is defined, or outside its region")
    return known[str(word)]


def _define(known: dict[str, Value], tree: Any) -> Value:
    name, written = tree.children
    # A number at the end is how the printer tells equal names apart: it is given anew where it is needed.
    wish = "" if re.fullmatch(r"v\d+", str(name)) else re.sub(r"_\d+$", "", str(name))
    value = known[str(name)] = Value(_type(written), wish)
    return value


def _node(tree: Any, known: dict[str, Value]) -> Node:
    parts = list(tree.children)
    values = parts.pop(0) if tree.data == "node" else None
    name, arguments, place, derived, *regions = parts
    operands: list[Value] = []
    facts: dict[str, Any] = {}
    for argument in arguments.children if arguments else ():
        if argument.data == "operand":
            operands.append(_read(argument.children[0], known))
        else:
            facts[str(argument.children[0])] = _fact(argument.children[1])
    if str(name) not in OPS:
        raise InvalidGraph(f"no op is called {name}")
    op, inner = OPS[str(name)](**facts), tuple(map(_region, regions))
    types = op.infer([value.type for value in operands], inner)
    results = tuple(_define(known, value) for value in values.children) if values else ()
    if types != tuple(value.type for value in results):
        raise InvalidGraph(f"{name} gives {', '.join(map(str, types))}, not {', '.join(str(v.type) for v in results)}")
    scope = tuple(map(str, place.children)) if place else ()
    return Node(op, tuple(operands), results, inner, scope=scope, derived=str(derived) if derived else "")


def _type(tree: Any) -> ValueType:
    if tree.data == "array":
        dtype, *extents = tree.children
        return Array(_dtype(str(dtype)), tuple(_size(extent) for extent in extents if extent is not None))
    if tree.data == "accumulator":
        inner, kind = tree.children
        array = _type(inner)
        assert isinstance(array, Array)
        return Accumulator(array.dtype, array.shape, str(kind) if kind else "add")
    return Tape(_type(tree.children[0]))


def _dtype(name: str) -> DType:
    if name not in DTYPES:
        raise InvalidGraph(f"no dtype is called {name}")
    return DTYPES[name]


def _fact(tree: Any) -> Any:
    if tree.data == "number":
        text = str(tree.children[0])
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    if tree.data == "string":
        return json.loads(str(tree.children[0]))
    if tree.data == "word":
        word = str(tree.children[0])
        constants = {"true": True, "false": False, "none": None, "inf": math.inf, "nan": math.nan, "null": None}
        return constants[word] if word in constants else _dtype(word)
    if tree.data == "size_fact":
        return _size(tree.children[0])
    if tree.data == "list":
        return tuple(_fact(item) for item in tree.children if item is not None)
    return _type(tree.children[-1] if tree.data == "array_type" else tree)


def _size(tree: Any) -> Size:
    kind, parts = tree.data, tree.children
    if kind == "size_name":
        return variable(str(parts[0]))
    if kind == "size_number":
        return size(int(str(parts[0])))
    left = _size(parts[0])
    if kind == "negate":
        return -left
    right = _size(parts[1])
    return {"add": left.__add__, "subtract": left.__sub__, "multiply": left.__mul__, "floor_divide": left.__floordiv__}[
        str(kind)
    ](right)
