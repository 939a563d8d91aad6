"""From the parser's tree to the syntax tree of `tree.py`: declarations, types and statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from lark import Token, Tree

from dgraph.errors import ParseError, Source, Span
from dgraph.frontend import tree as t
from dgraph.frontend.read_expressions import DEEPEST, Branch, ExpressionReader


def read_module(source: Source, parsed: Branch) -> t.ModuleTree:
    """The syntax tree of a parsed module."""
    return _Reader(source).module(parsed)


def _trees(branch: Branch, data: str) -> Iterator[Branch]:
    """The direct children of one kind."""
    return (child for child in branch.children if isinstance(child, Tree) and child.data == data)


def _tree(branch: Branch, data: str) -> Branch | None:
    return next(_trees(branch, data), None)


class _Reader(ExpressionReader):
    """Converts the tree of one source."""

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
        return self.generics(branch), formals, self.type(cast(Branch, last)) if is_result else None

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
            raise ParseError.at(
                arms[DEEPEST].span, f"more than {DEEPEST} branches", note="look the value up in an array"
            )
        return t.If(self.span(branch), tuple(arms), otherwise)

    def _for_loop(self, branch: Branch) -> t.For:
        annotations, *names, iterable, body = branch.children
        words = tuple(self._words(name) for name in names)
        return t.For(
            words[0].span.to(self.span(cast(Branch, iterable))),
            self.annotations(cast(Branch, annotations)),
            words,
            self.expression(iterable),
            self.suite(cast(Branch, body)),
        )

    def _words(self, name: Branch | Token) -> t.Word | t.Words:
        if isinstance(name, Token):
            return t.Word(self.span(name), str(name))
        return t.Words(self.span(name), tuple(self._words(inner) for inner in name.children))

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
