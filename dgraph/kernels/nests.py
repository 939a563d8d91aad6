"""The scheduled loop program as data: what stands between the graph and the printers of machine-near source.

A program is a driver (statements in order) and kernels (loop nests that the driver calls). Arrays are buffers: blocks
of entries that are addressed by one i64 index. Scalars are locals. Everything that depends on array sizes is an
expression over the size variables, so one program serves all sizes.
"""

from __future__ import annotations

from dataclasses import field

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, Span
from dgraph.kernels.considered import Choice
from dgraph.kernels.notices import Check, Copied, TapeRow
from dgraph.kernels.product_runs import Runs
from dgraph.kernels.product_symbols import Triangle
from dgraph.kernels.rooms import Room
from dgraph.kernels.split import Copies, Split
from dgraph.sizes import Size, size
from dgraph.types import DType, Shape

MACHINE_TYPES = {"f32": "f32", "f64": "f64", "i32": "i32", "i64": "i64", "u8": "u8", "bool": "bool", "key": "i64"}
"""How each dtype is held: a key is 64 bits whose sign means nothing."""

NO_SIZE = size(0)

WIDTHS = {"f32": 4, "f64": 8, "i32": 4, "i64": 8, "u8": 1, "bool": 1}
"""Bytes of one entry in memory."""


FAULT = "fault"
"""Stands for the type of a number with which `disk_store` says what went wrong."""


def machine_type(dtype: DType) -> str:
    """The machine type of a dtype."""
    return MACHINE_TYPES[dtype.name]


# ---- expressions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Local:
    """A scalar variable, compared by identity. The name is a wish: printers make names unique and legal."""

    name: str
    type: str

    def __repr__(self) -> str:
        return f"{self.name}: {self.type}"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    value: float | int | bool
    type: str


@dataclass(frozen=True, slots=True)
class Extent:
    """A number that the size variables decide, as i64."""

    size: Size

    @property
    def type(self) -> str:
        """Always i64."""
        return "i64"


@dataclass(frozen=True, slots=True)
class Apply:
    """A scalar operation by the name of its op. `type` is the result's, `facts` what the op states beside operands."""

    op: str
    type: str
    operands: tuple[Expression, ...]
    facts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """The entry of a buffer at an index."""

    buffer: Buffer
    index: Expression

    @property
    def type(self) -> str:
        """The type of an entry."""
        return self.buffer.type


@dataclass(frozen=True, slots=True)
class TapeTop:
    """Bytes in use on a row of tape memory."""

    row: Expression

    @property
    def type(self) -> str:
        """Always i64."""
        return "i64"


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of `count` entries of a buffer from an index on, in a fixed order of its own."""

    buffer: Buffer
    index: Expression
    count: Expression

    @property
    def type(self) -> str:
        """The type of an entry."""
        return self.buffer.type


@dataclass(frozen=True, slots=True)
class Parts:
    """Into how many parts the sizes of a call cut a loop, by the number of its split in the program."""

    split: int

    @property
    def type(self) -> str:
        """Always i64."""
        return "i64"


Expression = Local | Literal | Extent | Apply | Load | TapeTop | Sum | Parts


def number(value: int | Size) -> Extent:
    """A static integer as an expression."""
    return Extent(size(value))


# ---- memory ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Buffer:
    """A block of memory, compared by identity.

    kind    input, output: memory of the caller, number `position`
            arena: a room in the arena, placed when the sizes are known
            pointer: no memory of its own: set by `Point` and `PointTape`
    span    where the program makes it
    copies  how many there are one after another, for threads that work at the same time
    """

    name: str
    type: str
    entries: Size
    kind: str = "arena"
    position: int = 0
    span: Span = NOWHERE
    copies: Copies | None = None

    @property
    def bytes(self) -> Size:
        """Its size in bytes."""
        return self.entries * WIDTHS[self.type]

    def __repr__(self) -> str:
        return f"{self.kind} {self.name}: {self.type}[{self.entries}]"


# ---- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Let:
    """Give a local a value; a local may be given values more than once."""

    local: Local
    value: Expression


@dataclass(frozen=True, eq=False, slots=True)
class Store:
    """Write an entry."""

    buffer: Buffer
    index: Expression
    value: Expression


@dataclass(frozen=True, eq=False, slots=True)
class Update:
    """Combine a value into an entry by `op` (add, mul, maximum, minimum, logical_and, logical_or)."""

    buffer: Buffer
    index: Expression
    value: Expression
    op: str


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """`index` runs over `start` to `stop`. kind: parallel (the turns are independent but for updates), sequential,
    reverse (from the last to the first), ordered (sequential, with so little in a turn that it is left as it is), or
    threads (from 0 on; the body is one call, and several threads may take turns). `lanes` turns of a parallel loop may
    go at a time, each in a lane of vectors; 0 leaves it open. The turns of a sequential loop that is `apart` are
    independent but for updates and totals, as blocks of points are."""

    index: Local
    stop: Expression
    body: Block
    kind: str = "sequential"
    start: Expression = Extent(size(0))
    note: str = ""
    span: Span = NOWHERE
    lanes: int = 0
    apart: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class While:
    """Run `test`, leave unless `condition` holds, run `body`, again."""

    test: Block
    condition: Expression
    body: Block


@dataclass(frozen=True, eq=False, slots=True)
class If:
    """A choice."""

    condition: Expression
    then: Block
    otherwise: Block = ()


@dataclass(frozen=True, eq=False, slots=True)
class Fill:
    """Write one value to `count` entries from an index on."""

    buffer: Buffer
    index: Expression
    count: Expression
    value: Literal


@dataclass(frozen=True, eq=False, slots=True)
class Copy:
    """Copy `count` entries; the two places do not overlap."""

    target: Buffer
    target_index: Expression
    source: Buffer
    source_index: Expression
    count: Expression


@dataclass(frozen=True, eq=False, slots=True)
class Matrix:
    """A matrix in a buffer: so many entries from row to row and from column to column."""

    buffer: Buffer
    index: Expression
    down: Size
    across: Size


@dataclass(frozen=True, eq=False, slots=True)
class MatrixProduct:
    """`target[rows, columns] = left[rows, inner] @ right[inner, columns]`, or `+=` if it `adds`. The target's columns
    lie side by side. `triangle`, `shift` and `more` say which entries count, as in `product_tiles`; `runs`, that rows
    and summed indices are not all equally far apart."""

    target: Matrix
    left: Matrix
    right: Matrix
    rows: Expression
    columns: Expression
    inner: Expression
    adds: bool = False
    triangle: Triangle = "whole"
    shift: Size = NO_SIZE
    more: bool = False
    runs: Runs | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """Memory of a buffer from an index on."""

    buffer: Buffer
    index: Expression


@dataclass(frozen=True, eq=False, slots=True)
class Routine:
    """Run a helper of `lapack_source` for entries of a type on blocks of memory, of which it writes (and may read) the
    first and reads the others."""

    name: str
    type: str
    written: tuple[Place, ...]
    read: tuple[Place, ...]
    sizes: tuple[Size, ...]
    span: Span = NOWHERE


@dataclass(frozen=True, eq=False, slots=True)
class Point:
    """Let a pointer buffer stand for the memory of another buffer from an index on."""

    buffer: Buffer
    to: Buffer
    index: Expression = Extent(size(0))


@dataclass(frozen=True, eq=False, slots=True)
class Swap:
    """Exchange what two pointer buffers stand for."""

    one: Buffer
    other: Buffer


@dataclass(frozen=True, eq=False, slots=True)
class PointTape:
    """Let a pointer buffer stand for a row of tape memory from a byte on."""

    buffer: Buffer
    row: Expression
    start: Expression


@dataclass(frozen=True, eq=False, slots=True)
class TapeReserve:
    """Make room for so many bytes behind `start` on a row, for all points that go `lanes` at a time. What points into
    the row must be pointed again."""

    row: Expression
    start: Expression
    bytes: Expression
    lanes: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class TapeSetTop:
    """Say that a row is in use up to so many bytes behind `start`."""

    row: Expression
    start: Expression
    bytes: Expression


@dataclass(frozen=True, eq=False, slots=True)
class Fail:
    """Stop the program: check number `check` failed with these values."""

    check: int
    values: tuple[Expression, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Timed:
    """Run a block; its time in nanoseconds and its run are added to two words of the state from `place` on, counted
    from behind the scalars that kernels leave."""

    body: Block
    place: int


@dataclass(frozen=True, eq=False, slots=True)
class Note:
    """Words for a reader of the source."""

    words: str


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """Run a kernel. Operands follow its parameters: buffers, then scalars; sizes go by name. Scalars that it leaves
    behind are read into `results`, locals of the caller in the order of `kernel.results`."""

    kernel: Kernel
    buffers: tuple[Buffer, ...]
    scalars: tuple[Expression, ...]
    results: tuple[Local, ...]


Statement = (
    Let
    | Store
    | Update
    | Loop
    | While
    | If
    | Fill
    | Copy
    | MatrixProduct
    | Routine
    | Point
    | Swap
    | PointTape
    | TapeReserve
    | TapeSetTop
    | Fail
    | Timed
    | Note
    | Call
)
Block = tuple[Statement, ...]


# ---- programs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kernel:
    """A piece of the program that runs alone: all it reads and writes are its parameters. Buffers do not overlap.

    `results` are locals of the body that the caller reads afterwards; `own` are pointer buffers that only it uses.
    """

    name: str
    buffers: tuple[Buffer, ...]
    scalars: tuple[Local, ...]
    sizes: tuple[str, ...]
    results: tuple[Local, ...]
    own: tuple[Buffer, ...]
    body: Block
    uses_tapes: bool = False
    can_fail: bool = False
    note: str = ""
    considered: tuple[Choice, ...] = ()


@dataclass(frozen=True, eq=False)
class Program:
    """A whole function. `checks` are numbered from 1; `rows` counts the rows of tape memory; `blocks` are the bytes of
    tapes as far as the sizes decide them, `tapes` what is written to each row, `rooms` the demands on the arena.
    `splits` say for kernels by name into how many parts threads share them, `copies` are for people to read."""

    name: str
    sizes: tuple[str, ...]
    inputs: tuple[Buffer | Local, ...]
    outputs: tuple[Buffer, ...]
    body: Block
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    size_formals: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    rows: int = 0
    kernels: tuple[Kernel, ...] = ()
    blocks: tuple[Size, ...] = ()
    tapes: tuple[TapeRow, ...] = ()
    rooms: dict[Buffer, Room] = field(default_factory=dict)
    copies: tuple[Copied, ...] = ()
    splits: tuple[tuple[str, Split], ...] = ()

    @property
    def scalars(self) -> int:
        """The most scalars that a kernel leaves behind."""
        return max((len(kernel.results) for kernel in self.kernels), default=0)
