"""What a loop program says beside its statements: checks that can fail, what is written to tapes, what is copied."""

from __future__ import annotations

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, Span
from dgraph.ir.places import Turn
from dgraph.sizes import Size


@dataclass(frozen=True)
class Check:
    """A check that can fail at run time: the message, and the names and machine types of the values shown with it.

    A template is a title with places `{0}` for the values. `words` stand at the place in the source. `turns` are the
    loops around it, the outermost first: their numbers follow the values. A value of the type `FAULT` brings title and
    note of its own.
    """

    title: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    span: Span = NOWHERE
    words: str = "checked here"
    is_template: bool = False
    turns: tuple[Turn, ...] = ()

    @property
    def state_types(self) -> tuple[str, ...]:
        """The machine types of the values and of the numbers that follow them."""
        return (*self.types, *("i64" for turn in self.turns for _ in range(turn.numbers)))


@dataclass(frozen=True)
class TapeRow:
    """What is written to a row of tape memory: bytes of a step, how many steps if sizes say so, and whether each tape
    is given up before the next one starts. `words` name the loop, which stands at `span`."""

    row: int
    entry: Size
    steps: Size | None
    is_alone: bool
    words: str
    span: Span = NOWHERE


@dataclass(frozen=True)
class Copied:
    """An array that could not be updated in place: the update, why not, and the bytes copied, at each step of the loops
    around it if `each_step`."""

    span: Span
    reason: str
    bytes: Size
    each_step: bool = False
