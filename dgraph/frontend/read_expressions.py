"""Expressions: from the parser's tree to `tree.py`. Sums and products are flat in both, however long; anything that
nests deeper than `DEEPEST` is refused with its place."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, cast

from lark import Token, Tree

from dgraph.errors import ParseError, Source, Span
from dgraph.frontend import tree as t

DEEPEST = 200
CHAINS = ("terms", "factors")
LOGICAL = {"logical_or": "or", "logical_and": "and"}
Branch = Tree[Token]


class ExpressionReader:
    """Converts the expressions of one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.depth = 0

    # ---- places and words ---------------------------------------------------------------------------------------

    def span(self, branch: Branch | Token) -> Span:
        """The source text of a tree or token."""
        # The reader sees one line feed more than the text of the source has.
        size = len(self.source.text)
        if isinstance(branch, Token):
            return Span(self.source, min(branch.start_pos or 0, size), min(branch.end_pos or 0, size))
        if branch.meta.empty:
            return Span(self.source, 0, 0)
        return Span(self.source, min(branch.meta.start_pos, size), min(branch.meta.end_pos, size))

    def to(self, start: Span, branch: Branch | Token) -> Span:
        """From a place to the end of a tree."""
        return start.to(self.span(branch))

    def tokens(self, branch: Branch, kind: str = "NAME") -> list[Token]:
        """The direct tokens of one kind."""
        return [child for child in branch.children if isinstance(child, Token) and child.type == kind]

    # ---- expressions --------------------------------------------------------------------------------------------

    def expression(self, held: Any) -> t.Expression:
        """Any expression."""
        if isinstance(held, Token):
            return self.atom(held)
        branch = cast(Branch, held)
        kind = str(branch.data)
        if kind in CHAINS:
            return self.chain(branch)
        if kind in LOGICAL:
            return self.logical(branch, kind)
        with self.deeper(branch):
            read = cast("Callable[[Branch], t.Expression]", getattr(self, f"_{kind}"))
            return read(branch)

    def chain(self, branch: Branch) -> t.Chain:
        """A sum or product: operands and operators in turn."""
        with self.deeper(branch):
            first, *rest = branch.children
            links = []
            for operator, held in zip(rest[::2], rest[1::2], strict=True):
                operand = self.expression(held)
                links.append(t.Link(self.span(cast(Token, operator)).to(operand.span), str(operator), operand))
            return t.Chain(self.span(branch), self.expression(first), tuple(links))

    def logical(self, branch: Branch, kind: str) -> t.Logical:
        """`a and b and c`."""
        with self.deeper(branch):
            operands = self.items(branch)
        if len(operands) > DEEPEST:
            title = f"more than {DEEPEST} conditions joined by `{LOGICAL[kind]}`"
            raise ParseError.at(self.span(branch), title, note="hold them in an array: `any(c[i] for i)`")
        return t.Logical(self.span(branch), LOGICAL[kind], operands)

    def atom(self, token: Token) -> t.Expression:
        """A word or number that the grammar left bare."""
        if token.type == "NAME":
            return t.Name(self.span(token), str(token))
        return self.number(token, self.span(token))

    def number(self, token: Token, span: Span) -> t.Number:
        """A literal number."""
        text = str(token).replace("_", "")
        if token.type == "FLOAT":
            return t.Number(span, float(text))
        if len(text) > 20 or int(text) >= 2**63:
            note = "write a float: `1e20`"
            raise ParseError.at(span, "this integer does not fit in 64 bits", "too large", note=note)
        return t.Number(span, int(text))

    def text(self, token: Any) -> str:
        """The characters of a string literal."""
        try:
            return str(ast.literal_eval(str(token)))
        except (ValueError, SyntaxError):
            note = 'a backslash begins an escape, such as `\\n` or `\\"`; write `\\\\` for a backslash'
            raise ParseError.at(self.span(token), "this string has a broken escape", "in here", note=note) from None

    def _name(self, branch: Branch) -> t.Name:
        return t.Name(self.span(branch), str(branch.children[0]))

    def _int(self, branch: Branch) -> t.Number:
        return self.number(cast(Token, branch.children[0]), self.span(branch))

    _float = _int

    def _string(self, branch: Branch) -> t.String:
        return t.String(self.span(branch), self.text(branch.children[0]))

    def _true(self, branch: Branch) -> t.Boolean:
        return t.Boolean(self.span(branch), True)

    def _false(self, branch: Branch) -> t.Boolean:
        return t.Boolean(self.span(branch), False)

    def items(self, branch: Branch) -> tuple[t.Expression, ...]:
        """The expressions directly inside."""
        return tuple(self.expression(child) for child in branch.children if child is not None)

    def _tuple(self, branch: Branch) -> t.Tuple:
        return t.Tuple(self.span(branch), self.items(branch))

    def _array(self, branch: Branch) -> t.Array:
        return t.Array(self.span(branch), self.items(branch))

    def _comprehension(self, branch: Branch) -> t.Comprehension:
        body, indices = branch.children
        return t.Comprehension(self.span(branch), self.expression(body), cast(t.Generator, self.indices(indices)))

    def _choose(self, branch: Branch) -> t.Choose:
        then, condition, otherwise = self.items(branch)
        return t.Choose(self.span(branch), condition, then, otherwise)

    def _anonymous(self, branch: Branch) -> t.Lambda:
        names, body = branch.children
        words = () if names is None else cast(Branch, names).children
        formals = tuple(t.Word(self.span(cast(Token, word)), str(word)) for word in words)
        return t.Lambda(self.span(branch), formals, self.expression(body))

    def _logical_not(self, branch: Branch) -> t.Not:
        return t.Not(self.span(branch), self.items(branch)[0])

    def _compare(self, branch: Branch) -> t.Compare:
        operators = tuple(map(str, self.tokens(branch, "COMPARE")))
        operands = tuple(
            self.expression(child)
            for child in branch.children
            if not (isinstance(child, Token) and child.type == "COMPARE")
        )
        if len(operands) > DEEPEST:
            title = f"more than {DEEPEST} comparisons in one chain"
            raise ParseError.at(self.span(branch), title, note="hold the numbers in an array")
        return t.Compare(self.span(branch), operands, operators)

    def _neg(self, branch: Branch) -> t.Expression:
        return t.Negate(self.span(branch), self.items(branch)[0])

    def _pow(self, branch: Branch) -> t.Power:
        base, exponent = self.items(branch)
        return t.Power(self.span(branch), base, exponent)

    def _call(self, branch: Branch) -> t.Call:
        function, held = branch.children
        arguments, keywords = self.arguments(cast("Branch | None", held))
        return t.Call(self.span(branch), self.expression(function), arguments, keywords)

    def arguments(self, branch: Branch | None) -> tuple[tuple[t.Expression, ...], tuple[t.Keyword, ...]]:
        """Positional arguments, then keywords."""
        positional: list[t.Expression] = []
        keywords: dict[str, t.Keyword] = {}
        for child in () if branch is None else branch.children:
            if isinstance(child, Tree) and child.data == "keyword":
                name, value = child.children
                if str(name) in keywords:
                    also = [(keywords[str(name)].span, "first here")]
                    raise ParseError.at(self.span(child), f"`{name}` is given twice", "again here", also=also)
                keywords[str(name)] = t.Keyword(self.span(child), str(name), self.expression(value))
            elif keywords:
                raise ParseError.at(
                    self.span(child),
                    "a positional argument after a keyword argument",
                    "has no name",
                    note="give the positional arguments first",
                )
            else:
                positional.append(self.expression(child))
        return tuple(positional), tuple(keywords.values())

    def _reduce(self, branch: Branch) -> t.Reduce:
        reducer, body, indices = branch.children
        generator = cast(t.Generator, self.indices(indices))
        return t.Reduce(self.span(branch), self.expression(reducer), self.expression(body), generator)

    def _index(self, branch: Branch) -> t.Index:
        base, held = branch.children
        return t.Index(self.span(branch), self.expression(base), self.subscripts(cast(Branch, held)))

    def subscripts(self, branch: Branch) -> tuple[t.Expression, ...]:
        """`i, 1:-1, ...`."""
        return tuple(self.expression(child) for child in branch.children)

    def _slice(self, branch: Branch) -> t.Slice:
        parts = [None if child is None else self.expression(child) for child in branch.children]
        start, stop, step = [*parts, None, None, None][:3]
        return t.Slice(self.span(branch), start, stop, step)

    def _ellipsis(self, branch: Branch) -> t.Rest:
        return t.Rest(self.span(branch))

    def _member(self, branch: Branch) -> t.Member:
        base, name = branch.children
        return t.Member(self.span(branch), self.expression(base), str(name))

    def indices(self, held: Any) -> t.Generator | None:
        """`for i in range(n) for j, k if i < j`, or nothing."""
        if held is None:
            return None
        branch = cast(Branch, held)
        overs: list[t.Over] = []
        guard: t.Expression | None = None
        for child in cast("list[Branch | None]", branch.children):
            if child is None:
                continue
            if child.data == "over_range":
                name, iterable = child.children
                overs.append(t.Over(self.span(cast(Token, name)), str(name), self.expression(iterable)))
            elif child.data == "over_inferred":
                overs.extend(t.Over(self.span(word), str(word), None) for word in self.tokens(child))
            else:
                guard = self.expression(child.children[0])
        return t.Generator(self.span(branch), tuple(overs), guard)

    # ---- nesting ------------------------------------------------------------------------------------------------

    def deeper(self, branch: Branch) -> Deeper:
        """Counts one level of nesting while its block runs."""
        if self.depth >= DEEPEST:
            raise ParseError.at(
                self.span(branch),
                "this is nested too deeply",
                note=f"at most {DEEPEST} levels: bind a part to a name first",
            )
        return Deeper(self)


class Deeper:
    """One level of nesting."""

    def __init__(self, reader: ExpressionReader) -> None:
        self.reader = reader

    def __enter__(self) -> None:
        self.reader.depth += 1

    def __exit__(self, *_: object) -> None:
        self.reader.depth -= 1
