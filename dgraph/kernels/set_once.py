"""Names of generated source that are given a value in one place and read only where that has happened: they need no
place in memory, not even one that LLVM has to take away again."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence


def nodes_in(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all inside it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        for name in node._fields:
            part = getattr(node, name, None)
            if isinstance(part, list):
                waiting += part
            elif isinstance(part, ast.AST):
                waiting.append(part)


def names_set_once(function: ast.FunctionDef) -> frozenset[str]:
    """The names of a function that one statement sets, and that are read only behind it in its block and in the blocks
    inside."""
    return _Reader(function).found()


class _Reader:
    def __init__(self, function: ast.FunctionDef) -> None:
        self.times: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.unseen: set[str] = set()
        for argument in function.args.args:
            self.give(argument.arg)
        self.block(function.body)

    def found(self) -> frozenset[str]:
        return frozenset(name for name, times in self.times.items() if times == 1 and name not in self.unseen)

    def give(self, name: str) -> None:
        self.times[name] += 1
        self.seen.add(name)

    def read(self, expression: ast.AST) -> None:
        names = {node.id for node in nodes_in(expression) if isinstance(node, ast.Name)}
        self.unseen |= names - self.seen

    def block(self, body: Sequence[ast.stmt], given: str | None = None) -> None:
        """The statements of a block, of a loop whose index is `given`; what they set is not seen behind it."""
        before = set(self.seen)
        if given is not None:
            self.give(given)
        for statement in body:
            self.statement(statement)
        self.seen = before

    def statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.read(value)
                self.give(name)
            case ast.AugAssign(target=ast.Name(id=name) as target, value=value):
                self.read(value)
                self.read(target)
                self.give(name)
            case ast.If(test=test, body=body, orelse=orelse):
                self.read(test)
                self.block(body)
                self.block(orelse)
            case ast.For(target=ast.Name(id=name), iter=bounds, body=body):
                self.read(bounds)
                self.block(body, name)
            case ast.While(test=test, body=body):
                self.read(test)
                self.block(body)
            case _:
                self.read(statement)
