"""The language on one page: a module of `.dg` as frozen dataclasses, every node with its span.

Nodes compare and hash by identity, so that analyses may keep facts about a node in a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, cast, dataclass_transform

from dgraph.classes import dataclass
from dgraph.errors import Span


@dataclass_transform(frozen_default=True, eq_default=False)
class _Frozen:
    """Makes every subclass a frozen dataclass."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, eq=False)(cls)


class Node(_Frozen):
    """Anything a reader wrote."""

    span: Span


class Word(Node):
    """A name where it is introduced: a formal of a lambda, a loop variable, an imported name."""

    name: str


class Words(Node):
    """Names in brackets where they are introduced: `(a, b)` after `for`."""

    items: tuple[Word | Words, ...]


# ---- Expressions ----------------------------------------------------------------------------------------------------


class Expression(Node):
    """Something with a value."""


class Name(Expression):
    """`x`."""

    name: str


class Number(Expression):
    """`3`, `0.5`."""

    value: int | float


class Boolean(Expression):
    """`True`, `False`."""

    value: bool


class String(Expression):
    """`"forward"`."""

    value: str


class Tuple(Expression):
    """`a, b`."""

    items: tuple[Expression, ...]


class Array(Expression):
    """`[a, b]`."""

    items: tuple[Expression, ...]


class Over(Node):
    """One index of a generator: `for i in range(n)`, or `for i` with the range to be inferred."""

    name: str
    iterable: Expression | None


class Generator(Node):
    """`for i in range(n) for j if i < j`."""

    indices: tuple[Over, ...]
    guard: Expression | None


class Comprehension(Expression):
    """`[f(i) for i in range(n)]`."""

    body: Expression
    generator: Generator


class Reduce(Expression):
    """`sum(x[i] for i)`."""

    reducer: Expression
    body: Expression
    generator: Generator


class Keyword(Node):
    """`axis=1` in a call or an annotation."""

    name: str
    value: Expression


class Call(Expression):
    """`f(x, axis=1)`."""

    function: Expression
    arguments: tuple[Expression, ...]
    keywords: tuple[Keyword, ...]


class Slice(Expression):
    """`1:-1`, `::2`; only inside a subscript."""

    start: Expression | None
    stop: Expression | None
    step: Expression | None


class Rest(Expression):
    """`...`; only inside a subscript."""


class Index(Expression):
    """`x[i, 1:-1]`."""

    base: Expression
    subscripts: tuple[Expression, ...]


class Member(Expression):
    """`p.w`."""

    base: Expression
    name: str


class Choose(Expression):
    """`a if c else b`."""

    condition: Expression
    then: Expression
    otherwise: Expression


class Lambda(Expression):
    """`lambda t, z: f(t, z)`."""

    formals: tuple[Word, ...]
    body: Expression


class Logical(Expression):
    """`a and b and c`, `a or b`."""

    operator: str
    operands: tuple[Expression, ...]


class Not(Expression):
    """`not a`."""

    operand: Expression


class Compare(Expression):
    """`0 <= i < n`: one operator fewer than operands."""

    operands: tuple[Expression, ...]
    operators: tuple[str, ...]


class Link(Node):
    """`+ b` in the chain `a + b - c`."""

    operator: str
    operand: Expression


class Chain(Expression):
    """`a + b - c` or `a * b / c`: operators of one precedence, applied from the left; flat, however long."""

    first: Expression
    links: tuple[Link, ...]


class Negate(Expression):
    """`-x`."""

    operand: Expression


class Power(Expression):
    """`x ** n`."""

    base: Expression
    exponent: Expression


# ---- Types ----------------------------------------------------------------------------------------------------------


class TypeExpression(Node):
    """A type as written."""


class Splice(Node):
    """`*s` among dimensions: any number of axes."""

    name: str


class TypeName(TypeExpression):
    """`f32[n, 3]`, `Dense[i, o]`, and with outer axes `Lstm[h, h][depth]`."""

    path: tuple[str, ...]
    dims: tuple[Expression | Splice, ...] | None
    outer: tuple[Expression | Splice, ...] | None


class TypeTuple(TypeExpression):
    """`(f32, f32[n])`."""

    items: tuple[TypeExpression, ...]


class TypeFunction(TypeExpression):
    """`fn(f64, f64[n]) -> f64[n]`."""

    formals: tuple[TypeExpression, ...]
    result: TypeExpression


# ---- Statements -----------------------------------------------------------------------------------------------------


class Annotation(Node):
    """`@checkpoint(every=16)`."""

    name: str
    arguments: tuple[Expression, ...]
    keywords: tuple[Keyword, ...]


class At(Node):
    """`[i, 1:-1]` in a place."""

    subscripts: tuple[Expression, ...]


class FieldOf(Node):
    """`.lower` in a place."""

    name: str


class Place(Node):
    """What a binding binds or updates: `x`, `x[i]`, `m.lower`."""

    name: str
    parts: tuple[At | FieldOf, ...]


class Targets(Node):
    """`(value, h)` on the left of a binding."""

    items: tuple[Place | Targets, ...]


class Statement(Node):
    """One step of a body."""


class Suite(Node):
    """The statements of a block."""

    statements: tuple[Statement, ...]


class Bind(Statement):
    """`x = e`, `a, b = b, a`, `z[i, j] = e for i in range(n) for j`."""

    target: Place | Targets
    value: Expression
    generator: Generator | None


class TypedBind(Statement):
    """`x: f32[n] = zeros()`."""

    name: str
    type: TypeExpression
    value: Expression


class Rebind(Statement):
    """`x[i] += e`."""

    place: Place
    operator: str
    value: Expression
    generator: Generator | None


class Return(Statement):
    """`return e`."""

    value: Expression


class Assert(Statement):
    """`assert c, "message"`."""

    condition: Expression
    message: str


class Arm(Node):
    """`if c:` or `elif c:` with its block."""

    condition: Expression
    body: Suite


class If(Statement):
    """`if / elif / else`."""

    arms: tuple[Arm, ...]
    otherwise: Suite | None


class For(Statement):
    """`for t, (a, b) in enumerate(zip(x, y)):`."""

    annotations: tuple[Annotation, ...]
    names: tuple[Word | Words, ...]
    iterable: Expression
    body: Suite


class While(Statement):
    """`while c:`."""

    annotations: tuple[Annotation, ...]
    condition: Expression
    body: Suite


class Scope(Statement):
    """`scope layer1:`: groups nodes for reading and drawing."""

    annotations: tuple[Annotation, ...]
    name: str
    body: Suite


# ---- Declarations ---------------------------------------------------------------------------------------------------


class Generic(Node):
    """A binder: `n` (kind "size"), `*s` ("shape"), `T: float` ("float", "int", "number", "record")."""

    name: str
    kind: str


class Formal(Node):
    """`x: f32[n] = 0.0` in a signature."""

    name: str
    type: TypeExpression
    default: Expression | None


class Function(Statement):
    """`def f[n](x: f32[n]) -> f32:` with a block, or `= e`."""

    annotations: tuple[Annotation, ...]
    name: str
    name_span: Span
    generics: tuple[Generic, ...]
    formals: tuple[Formal, ...]
    result: TypeExpression | None
    doc: str
    body: Suite | Expression


class ImportModule(Node):
    """`import nn.layers as layers`."""

    path: tuple[str, ...]
    alias: str | None


class Imported(Node):
    """`glorot as g` in `from nn.init import glorot as g`."""

    name: str
    alias: str | None


class ImportNames(Node):
    """`from nn.init import glorot, zeros`."""

    path: tuple[str, ...]
    names: tuple[Imported, ...]


class TypeAlias(Node):
    """`type Field[n] = fn(f64, f64[n]) -> f64[n]`."""

    name: str
    generics: tuple[Generic, ...]
    type: TypeExpression


class Field(Node):
    """`w: f32[i, o] = glorot()` in a record."""

    name: str
    type: TypeExpression
    default: Expression | None


class Record(Node):
    """`record Dense[i, o]:`."""

    name: str
    generics: tuple[Generic, ...]
    doc: str
    fields: tuple[Field, ...]


class Stored(Node):
    """`param model: Mlp[784]` or `state running: Running[100]` (kind "param" or "state")."""

    kind: str
    name: str
    type: TypeExpression
    default: Expression | None


class Constant(Node):
    """`hidden = 128`."""

    name: str
    type: TypeExpression | None
    value: Expression


Declaration = ImportModule | ImportNames | TypeAlias | Record | Stored | Constant | Function


class ModuleTree(Node):
    """A whole file."""

    doc: str
    items: tuple[Declaration, ...]


def children(node: Node) -> Iterator[Node]:
    """The nodes directly inside a node, in the order of the fields."""
    for field in fields(cast(Any, node)):
        held = getattr(node, field.name)
        if isinstance(held, Node):
            yield held
        elif isinstance(held, tuple):
            yield from (item for item in held if isinstance(item, Node))


def walk(node: Node) -> Iterator[Node]:
    """A node and everything inside it, outside first, without recursion."""
    stack = [node]
    while stack:
        here = stack.pop()
        yield here
        stack.extend(reversed(list(children(here))))
