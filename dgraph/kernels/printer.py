"""What the printers of loop programs share: names, expressions, and the statements that look alike everywhere.

A printer turns one function into lines of Python. How memory is addressed is left to each of them.
"""

from __future__ import annotations

import keyword
import math
import re
from dataclasses import field

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE
from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
    Extent,
    If,
    Let,
    Literal,
    Load,
    Local,
    Loop,
    Note,
    Program,
    Statement,
    Store,
    Update,
    While,
)
from dgraph.kernels.scalars import TIGHT, scalar_text
from dgraph.kernels.values import LANE_COUNTS
from dgraph.sizes import Quotient, Size

_TURNS = {"threads": "shared", "ordered": "one_by_one"}
"""Words of generated source for the turns of a loop that are not those of a plain `range`."""

RESERVED = {
    *keyword.kwlist,
    *PRIMITIVES,
    *(f"lanes_{count}" for count in LANE_COUNTS),
    *(
        "f32",
        "f64",
        "i32",
        "i64",
        "u8",
        "bool",
        "range",
        *_TURNS.values(),
        "inf_f32",
        "nan_f32",
        "inf_f64",
        "nan_f64",
        "None",
    ),
    *("entry", "table", "state", "arena", "pool", "threads", "status", "random_bits", "cuda", "math", "fault"),
}

Text = tuple[str, int]
"""Text of an expression and its precedence: how tightly it binds."""

BREAK = Note("break")
"""Leave the loop around it."""


class Names:
    """Unique, legal names in one function."""

    def __init__(self) -> None:
        self.known: dict[object, str] = {}
        self.taken = set(RESERVED)
        self.counts: dict[str, int] = {}

    def of(self, thing: object, wish: str) -> str:
        """The name of a thing, made from a wish on first use."""
        found = self.known.get(thing)
        if found is None:
            found = self.known[thing] = self.fresh(wish)
        return found

    def fresh(self, wish: str) -> str:
        """A name that nothing has yet."""
        stem = re.sub(r"\W+", "_", wish, flags=re.ASCII).strip("_") or "t"
        if not stem[0].isalpha() or stem.startswith(("kernel_", "slot_")):
            stem = f"t_{stem}"
        count = self.counts.get(stem, 1)
        name = stem if count == 1 else f"{stem}_{count}"
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        self.counts[stem] = count
        return name


@dataclass
class Printer:
    """Prints one function of a program."""

    program: Program
    names: Names = field(default_factory=Names)
    lines: list[str] = field(default_factory=list)
    depth: int = 1

    # ---- what each printer says for itself ----------------------------------------------------------------------

    def load(self, buffer: Buffer, index: Expression) -> Text:
        """A read."""
        raise NotImplementedError

    def store(self, buffer: Buffer, index: Expression, value: str) -> None:
        """A write."""
        raise NotImplementedError

    def special(self, expression: Expression) -> Text:
        """An expression that is not printed alike everywhere."""
        raise TypeError(expression)

    def other(self, statement: Statement) -> None:
        """A statement that is not printed alike everywhere."""
        raise TypeError(statement)

    # ---- text ---------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Append a line."""
        self.lines.append("    " * self.depth + text)

    def comment(self, words: str) -> None:
        """Append words for a reader, on one line whatever they hold."""
        text = " ".join(words.split())
        if text:
            self.line(f"# {''.join(c if c.isprintable() else '?' for c in text)}")

    def local(self, local: Local) -> str:
        """The name of a local."""
        return self.names.of(local, local.name)

    def buffer(self, buffer: Buffer) -> str:
        """The name of a buffer."""
        return self.names.of(buffer, buffer.name)

    def size(self, value: Size) -> Text:
        """A size."""
        if value.constant is not None:
            return str(value.constant), TIGHT if value.constant >= 0 else 4
        text = ""
        for monomial, coefficient in value.terms:
            factors = [self.atom(atom) for atom in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            text += (f" {sign} " if text else "-" if coefficient < 0 else "") + " * ".join(factors)
        ((monomial, coefficient), *rest) = value.terms
        is_atom = not rest and len(monomial) == 1 and coefficient == 1
        return text, TIGHT if is_atom else 5 if not rest and coefficient > 0 else 4

    def atom(self, atom: object) -> str:
        """An atom of a size."""
        if isinstance(atom, Quotient):
            return f"floor_div_i64({self.size(atom.numerator)[0]}, {self.size(atom.denominator)[0]})"
        assert isinstance(atom, str)
        return self.names.of(("size", atom), atom)

    def text(self, expression: Expression) -> str:
        """An expression."""
        return self.expression(expression)[0]

    def expression(self, expression: Expression) -> Text:
        """An expression with its precedence."""
        match expression:
            case Local():
                return self.local(expression), TIGHT
            case Literal(value=value, type=type_):
                return literal(value, type_)
            case Extent(size=value):
                return self.size(value)
            case Load(buffer=buffer, index=index):
                return self.load(buffer, index)
            case Apply(op=op, type=type_, operands=operands, facts=facts):
                types = [operand.type for operand in operands]
                return scalar_text(op, type_, types, [self.expression(operand) for operand in operands], facts)
        return self.special(expression)

    # ---- statements ---------------------------------------------------------------------------------------------

    def block(self, block: Block) -> None:
        """A block, one level deeper."""
        self.depth += 1
        before = len(self.lines)
        for statement in block:
            self.statement(statement)
        if all(line.lstrip().startswith("#") for line in self.lines[before:]):
            self.line("pass")
        self.depth -= 1

    def statement(self, statement: Statement) -> None:
        """A statement."""
        match statement:
            case Let(local=local, value=value):
                self.line(f"{self.local(local)} = {self.text(value)}")
            case Store(buffer=buffer, index=index, value=value):
                self.store(buffer, index, self.text(value))
            case Update():
                self.update(statement)
            case Loop():
                self.loop(statement)
            case While(test=test, condition=condition, body=body):
                self.line("while True:")
                self.block((*test, If(condition, (), (BREAK,)), *body))
            case If():
                self.choice(statement)
            case Note(words=words):
                if statement is BREAK:
                    self.line("break")
                else:
                    self.comment(words)
            case _:
                self.other(statement)

    def update(self, update: Update) -> None:
        """A value combined into an entry."""
        combined = Apply(update.op, update.buffer.type, (Load(update.buffer, update.index), update.value))
        self.store(update.buffer, update.index, self.text(combined))

    def loop(self, loop: Loop) -> None:
        """A loop with its comment."""
        if loop.note:
            self.comment(f"{loop.note}  {loop.span if loop.span is not NOWHERE else ''}")
        self.line(self.loop_head(loop))
        self.block(loop.body)

    def loop_head(self, loop: Loop) -> str:
        """The first line of a loop."""
        stop, level = self.expression(loop.stop)
        index, start = self.local(loop.index), self.text(loop.start)
        if loop.kind == "reverse":
            last = f"{stop} - 1" if level >= 4 else f"({stop}) - 1"
            return f"for {index} in range({last}, {'-1' if start == '0' else f'{start} - 1'}, -1):"
        turns = f"lanes_{loop.lanes}" if loop.lanes else _TURNS.get(loop.kind, "range")
        return f"for {index} in {turns}({stop}):" if start == "0" else f"for {index} in {turns}({start}, {stop}):"

    def choice(self, choice: If) -> None:
        """A choice; one that has only the other side is turned round."""
        if choice.then or not choice.otherwise:
            self.line(f"if {self.text(choice.condition)}:")
            self.block(choice.then)
            if choice.otherwise:
                self.line("else:")
                self.block(choice.otherwise)
        else:
            self.line(f"if not_bool({self.text(choice.condition)}):")
            self.block(choice.otherwise)


def literal(value: float | int | bool, type_: str) -> Text:
    """A constant."""
    if type_ == "bool":
        return str(bool(value)), TIGHT
    if type_ in ("f32", "f64"):
        number = float(value)
        if math.isnan(number):
            return f"nan_{type_}", TIGHT
        if math.isinf(number):
            return (f"inf_{type_}", TIGHT) if number > 0 else (f"-inf_{type_}", 6)
        if type_ == "f32":
            return f"f32({number!r})", TIGHT
        return repr(number), TIGHT if math.copysign(1.0, number) > 0 else 6
    if type_ == "i64":
        wrapped = (int(value) + 2**63) % 2**64 - 2**63
        return str(wrapped), TIGHT if wrapped >= 0 else 6
    return f"{type_}({int(value)})", TIGHT
