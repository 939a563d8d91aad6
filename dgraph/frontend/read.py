"""From the parser's tree to the syntax tree of `tree.py`.

Sums and products are flat in both, however long; anything that nests deeper than `DEEPEST` is refused with its place.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, cast

from lark import Token, Tree

from dgraph.errors import ParseError, Source, Span
from dgraph.frontend import tree as t

DEEPEST = 200
CHAINS = ("terms", "factors")
LOGICAL = {"logical_or": "or", "logical_and": "and"}
Branch = Tree[Token]


def read_module(source: Source, parsed: Branch) -> t.ModuleTree:
    """The syntax tree of a parsed module."""
    return _Reader(source).module(parsed)


def read_signature(source: Source, parsed: Branch) -> t.Function:
    """A signature alone, `[n](x: f64[n]) -> f64`, as a function without a body."""
    reader = _Reader(source)
    span = Span(source, 0, len(source.text))
    generics, formals, result = reader.signature(parsed)
    return t.Function(span, (), "", span, generics, formals, result, "", t.Suite(span, ()))


def _trees(branch: Branch, data: str) -> Iterator[Branch]:
    """The direct children of one kind."""
    return (child for child in branch.children if isinstance(child, Tree) and child.data == data)


def _tree(branch: Branch, data: str) -> Branch | None:
    return next(_trees(branch, data), None)


class _Reader:
    """Converts the tree of one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.depth = 0

    # ---- places and words ---------------------------------------------------------------------------------------

    def span(self, branch: Branch | Token) -> Span:
        """The source text of a tree or token."""
        if isinstance(branch, Token):
            return Span(self.source, branch.start_pos or 0, branch.end_pos or 0)
        if branch.meta.empty:
            return Span(self.source, 0, 0)
        return Span(self.source, branch.meta.start_pos, branch.meta.end_pos)

    def to(self, start: Span, branch: Branch | Token) -> Span:
        """From a place to the end of a tree."""
        return start.to(self.span(branch))

    def tokens(self, branch: Branch, kind: str = "NAME") -> list[Token]:
        """The direct tokens of one kind."""
        return [child for child in branch.children if isinstance(child, Token) and child.type == kind]

    def doc(self, branch: Branch) -> str:
        """The docstring directly inside a tree, without its quotes."""
        found = _tree(branch, "docstring")
        if found is None:
            return ""
        lines = str(found.children[0])[3:-3].strip().splitlines()
        return "\n".join(line.strip() for line in lines)

    # ---- declarations -------------------------------------------------------------------------------------------

    def module(self, parsed: Branch) -> t.ModuleTree:
        """A whole file."""
        items: list[t.Declaration] = []
        for child in parsed.children:
            if isinstance(child, Tree) and child.data != "docstring":
                items.append(self.declaration(child))
        return t.ModuleTree(Span(self.source, 0, len(self.source.text)), self.doc(parsed), tuple(items))

    def declaration(self, branch: Branch) -> t.Declaration:
        """One item of a module."""
        read = cast("Callable[[Branch], t.Declaration]", getattr(self, f"_{branch.data}"))
        return read(branch)

    def _import_module(self, branch: Branch) -> t.ImportModule:
        path, alias = branch.children
        return t.ImportModule(self.span(branch), self.path(cast(Branch, path)), None if alias is None else str(alias))

    def _import_names(self, branch: Branch) -> t.ImportNames:
        names = []
        for child in _trees(branch, "imported"):
            name, alias = child.children
            names.append(t.Imported(self.span(child), str(name), None if alias is None else str(alias)))
        return t.ImportNames(self.span(branch), self.path(cast(Branch, _tree(branch, "path"))), tuple(names))

    def path(self, branch: Branch) -> tuple[str, ...]:
        """`nn.init`."""
        return tuple(str(token) for token in branch.children)

    def _type_alias(self, branch: Branch) -> t.TypeAlias:
        (name,) = self.tokens(branch)
        return t.TypeAlias(
            self.span(name), str(name), self.generics(branch), self.type(cast(Branch, branch.children[-1]))
        )

    def _record(self, branch: Branch) -> t.Record:
        (name,) = self.tokens(branch)
        fields = tuple(t.Field(*self.declared(child)) for child in _trees(branch, "field"))
        return t.Record(self.span(name), str(name), self.generics(branch), self.doc(branch), fields)

    def declared(self, branch: Branch) -> tuple[Span, str, t.TypeExpression, t.Expression | None]:
        """`name: type [= default]`, in a field, a formal, a param or a state."""
        name = self.tokens(branch)[0]
        at = branch.children.index(name)
        type_, default = branch.children[at + 1], branch.children[at + 2] if at + 2 < len(branch.children) else None
        value = None if default is None else self.expression(default)
        return self.span(name), str(name), self.type(cast(Branch, type_)), value

    def _param(self, branch: Branch) -> t.Stored:
        span, name, type_, default = self.declared(branch)
        return t.Stored(span, "param", name, type_, default)

    def _state(self, branch: Branch) -> t.Stored:
        span, name, type_, default = self.declared(branch)
        return t.Stored(span, "state", name, type_, default)

    def _constant(self, branch: Branch) -> t.Constant:
        name, type_, value = branch.children
        declared = None if type_ is None else self.type(cast(Branch, type_))
        return t.Constant(self.span(cast(Token, name)), str(name), declared, self.expression(value))

    def _function(self, branch: Branch) -> t.Function:
        annotations, name, signature, body = branch.children
        generics, formals, result = self.signature(cast(Branch, signature))
        suite: t.Suite | t.Expression
        doc = ""
        if isinstance(body, Tree) and body.data == "suite":
            doc, suite = self.doc(body), self.suite(body)
        else:
            suite = self.expression(body)
        word = self.span(cast(Token, name))
        return t.Function(
            self.to(word, cast(Branch, signature)),
            self.annotations(cast(Branch, annotations)),
            str(name),
            word,
            generics,
            formals,
            result,
            doc,
            suite,
        )

    def signature(self, branch: Branch) -> tuple[tuple[t.Generic, ...], tuple[t.Formal, ...], t.TypeExpression | None]:
        """`[n](x: f64[n]) -> f64[n]`."""
        held = _tree(branch, "formals")
        formals = () if held is None else tuple(t.Formal(*self.declared(child)) for child in _trees(held, "formal"))
        last = branch.children[-1]
        is_result = isinstance(last, Tree) and last.data in ("array_type", "tuple_type", "function_type")
        return self.generics(branch), formals, self.type(last) if is_result else None

    def generics(self, branch: Branch) -> tuple[t.Generic, ...]:
        """`[n, *s, T: float]`, if there is one directly inside."""
        held = _tree(branch, "generics")
        out: list[t.Generic] = []
        for child in () if held is None else cast("list[Branch]", held.children):
            words = self.tokens(child)
            kind = str(words[1]) if child.data == "dtype" else str(child.data)
            out.append(t.Generic(self.span(child), str(words[0]), kind))
        return tuple(out)

    def annotations(self, branch: Branch) -> tuple[t.Annotation, ...]:
        """The lines `@name(...)` above a statement."""
        out = []
        for child in _trees(branch, "annotation"):
            name, held = child.children
            arguments, keywords = self.arguments(cast("Branch | None", held))
            out.append(t.Annotation(self.span(child), str(name), arguments, keywords))
        return tuple(out)

    # ---- types --------------------------------------------------------------------------------------------------

    def type(self, branch: Branch) -> t.TypeExpression:
        """A type as written."""
        with self.deeper(branch):
            span = self.span(branch)
            if branch.data == "array_type":
                path, *dims = branch.children
                first, outer = (None if held is None else self.dims(cast(Branch, held)) for held in [*dims, None][:2])
                return t.TypeName(span, self.path(cast(Branch, path)), first, outer)
            items = tuple(self.type(child) for child in branch.children if isinstance(child, Tree))
            if branch.data == "tuple_type":
                return t.TypeTuple(span, items)
            return t.TypeFunction(span, items[:-1], items[-1])

    def dims(self, branch: Branch) -> tuple[t.Expression | t.Splice, ...]:
        """`n, *s, 2 * m + 1`."""
        out: list[t.Expression | t.Splice] = []
        for child in branch.children:
            if isinstance(child, Tree) and child.data == "shape":
                out.append(t.Splice(self.span(child), str(child.children[0])))
            else:
                out.append(self.expression(child))
        return tuple(out)

    # ---- statements ---------------------------------------------------------------------------------------------

    def suite(self, branch: Branch) -> t.Suite:
        """A block."""
        with self.deeper(branch):
            statements = tuple(
                self.statement(child)
                for child in branch.children
                if isinstance(child, Tree) and child.data != "docstring"
            )
            return t.Suite(self.span(branch), statements)

    def statement(self, branch: Branch) -> t.Statement:
        """One statement."""
        read = cast("Callable[[Branch], t.Statement]", getattr(self, f"_{branch.data}"))
        return read(branch)

    def _bind(self, branch: Branch) -> t.Bind:
        *targets, value, indices = branch.children
        read = [self.target(cast(Branch, target)) for target in targets]
        target: t.Place | t.Targets = read[0]
        if len(read) > 1:
            target = t.Targets(read[0].span.to(read[-1].span), tuple(read))
        return t.Bind(self.span(branch), target, self.expression(value), self.indices(indices))

    def target(self, branch: Branch) -> t.Place | t.Targets:
        """One target on the left of `=`."""
        if branch.data == "place":
            return self.place(branch)
        with self.deeper(branch):
            items = tuple(self.target(child) for child in branch.children if isinstance(child, Tree))
            return t.Targets(self.span(branch), items)

    def place(self, branch: Branch) -> t.Place:
        """`x[i].w`."""
        parts: list[t.At | t.FieldOf] = []
        for child in cast("list[Branch]", branch.children[1:]):
            if child.data == "at":
                parts.append(t.At(self.span(child), self.subscripts(cast(Branch, child.children[0]))))
            else:
                parts.append(t.FieldOf(self.span(child), str(child.children[0])))
        return t.Place(self.span(branch), str(branch.children[0]), tuple(parts))

    def _typed_bind(self, branch: Branch) -> t.TypedBind:
        name, type_, value = branch.children
        return t.TypedBind(self.span(branch), str(name), self.type(cast(Branch, type_)), self.expression(value))

    def _rebind(self, branch: Branch) -> t.Rebind:
        place, operator, value, indices = branch.children
        return t.Rebind(
            self.span(branch),
            self.place(cast(Branch, place)),
            str(operator)[:-1],
            self.expression(value),
            self.indices(indices),
        )

    def _result(self, branch: Branch) -> t.Return:
        return t.Return(self.span(branch), self.expression(branch.children[0]))

    def _check(self, branch: Branch) -> t.Assert:
        condition, message = branch.children
        return t.Assert(self.span(branch), self.expression(condition), "" if message is None else self.text(message))

    def _branch(self, branch: Branch) -> t.If:
        condition, body, *rest = branch.children
        arms = [t.Arm(self.span(cast(Branch, condition)), self.expression(condition), self.suite(cast(Branch, body)))]
        otherwise = None
        for child in rest:
            if isinstance(child, Tree) and child.data == "elif":
                test, then = child.children
                arms.append(t.Arm(self.span(cast(Branch, test)), self.expression(test), self.suite(cast(Branch, then))))
            elif isinstance(child, Tree):
                otherwise = self.suite(child)
        if len(arms) > DEEPEST:
            raise ParseError.at(arms[DEEPEST].span, f"more than {DEEPEST} branches", note="look the value up in an array")
        return t.If(self.span(branch), tuple(arms), otherwise)

    def _for_loop(self, branch: Branch) -> t.For:
        annotations, *names, iterable, body = branch.children
        words = tuple(t.Word(self.span(cast(Token, name)), str(name)) for name in names)
        return t.For(
            words[0].span.to(self.span(cast(Branch, iterable))),
            self.annotations(cast(Branch, annotations)),
            words,
            self.expression(iterable),
            self.suite(cast(Branch, body)),
        )

    def _while_loop(self, branch: Branch) -> t.While:
        annotations, condition, body = branch.children
        return t.While(
            self.span(cast(Branch, condition)),
            self.annotations(cast(Branch, annotations)),
            self.expression(condition),
            self.suite(cast(Branch, body)),
        )

    def _scope(self, branch: Branch) -> t.Scope:
        annotations, name, body = branch.children
        return t.Scope(
            self.span(cast(Token, name)),
            self.annotations(cast(Branch, annotations)),
            str(name),
            self.suite(cast(Branch, body)),
        )

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
            raise ParseError.at(self.span(branch), f"more than {DEEPEST} conditions joined by `{LOGICAL[kind]}`")
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
            raise ParseError.at(span, "this integer does not fit in 64 bits")
        return t.Number(span, int(text))

    def text(self, token: Any) -> str:
        """The characters of a string literal."""
        try:
            return str(ast.literal_eval(str(token)))
        except (ValueError, SyntaxError):
            raise ParseError.at(self.span(token), "this string has a broken escape") from None

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
        return t.Comprehension(
            self.span(branch), self.expression(body), cast(t.Generator, self.indices(indices))
        )

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
            raise ParseError.at(self.span(branch), f"more than {DEEPEST} comparisons in one chain")
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
            if child is None:
                continue
            if isinstance(child, Tree) and child.data == "keyword":
                name, value = child.children
                if str(name) in keywords:
                    raise ParseError.at(self.span(child), f"`{name}` is given twice")
                keywords[str(name)] = t.Keyword(self.span(child), str(name), self.expression(value))
            elif keywords:
                raise ParseError.at(
                    self.span(cast(Branch, child)),
                    "a positional argument after a keyword argument",
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

    def deeper(self, branch: Branch) -> _Deeper:
        """Counts one level of nesting while its block runs."""
        if self.depth >= DEEPEST:
            raise ParseError.at(
                self.span(branch),
                "this is nested too deeply",
                note=f"at most {DEEPEST} levels: bind a part to a name first",
            )
        return _Deeper(self)


class _Deeper:
    """One level of nesting."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader

    def __enter__(self) -> None:
        self.reader.depth += 1

    def __exit__(self, *_: object) -> None:
        self.reader.depth -= 1
