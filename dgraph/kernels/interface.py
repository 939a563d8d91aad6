"""What a caller must know of compiled code, as plain data that is stored beside it: arguments, results, checks."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, ArgumentError, CheckFailed, DgraphError, Diagnostic, Label, Source, Span
from dgraph.ir.counts import Count, Given, Made
from dgraph.ir.evaluate import solve_sizes, wished
from dgraph.ir.graph import Formal, Graph, Region, Value, Wish
from dgraph.ir.places import Standing, Turn, placed
from dgraph.kernels.bind import LARGEST_BLOCK, Layout
from dgraph.kernels.demand import Memory, TapeDemand, arena_block, block_of_tapes
from dgraph.kernels.disk_store import fault
from dgraph.kernels.nests import FAULT
from dgraph.kernels.notices import Check
from dgraph.kernels.rooms import Arrangement, Room, are_fixed, arrange, fixed_arrangement
from dgraph.kernels.split import Copies, Split
from dgraph.sizes import Quotient, Size
from dgraph.types import DTYPES, Array, Extent, Tuple


@dataclass(frozen=True)
class Port:
    """One array that goes in or out."""

    name: str
    type: Array


@dataclass(frozen=True)
class Interface:
    """Arguments, results and checks of a compiled graph; rows of tape memory and scalars that a kernel leaves; `rooms`
    and `tapes` are its demands on memory, `blocks` the bytes of tapes as far as the sizes decide them. The last of
    `told_sizes` are the `wishes`. `splits` say into how many parts threads share what they run."""

    name: str
    sizes: tuple[str, ...]
    told_sizes: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    checks: tuple[Check, ...]
    rows: int
    span: Span = NOWHERE
    scalars: int = 0
    blocks: tuple[Size, ...] = ()
    rooms: tuple[Room, ...] = ()
    tapes: tuple[TapeDemand, ...] = ()
    wishes: tuple[Wish, ...] = ()
    splits: tuple[Split, ...] = ()

    @cached_property
    def layout(self) -> Layout:
        """The table."""
        ranks = (tuple(port.type.rank for port in ports) for ports in (self.inputs, self.outputs))
        taken, made = ranks
        return Layout(taken, self.told_sizes, made, 0 if are_fixed(self.rooms) else len(self.rooms))

    def solve(
        self, shapes: list[tuple[int, ...]], extents: dict[str, int], number: Callable[[int], int]
    ) -> dict[Any, int]:
        """The number of every size variable, from the shapes of the arguments, the formals that are sizes, and the
        arguments that are numbers. Raises `ArgumentError` if the shapes do not fit together, `CheckFailed` if a wish is
        below 1."""
        known = solve_sizes(self._graph, shapes, extents)
        return known | wished(self.wishes, known, number)

    @property
    def size_formals(self) -> tuple[str, ...]:
        """Names of the formals of type `size`."""
        return self.told_sizes[: len(self.told_sizes) - len(self.wishes)]

    @cached_property
    def _graph(self) -> Graph:
        """A graph that has only arguments."""
        formals = [Formal(name, Extent()) for name in self.size_formals]
        formals += [Formal(port.name, port.type) for port in self.inputs]
        values = tuple(Value(port.type, port.name) for port in self.inputs)
        region = Region(values, (), ())
        return Graph(self.name, self.sizes, tuple(formals), Tuple(()), region, self.span, self.wishes)

    def refuse_memory(self, known: dict[Any, int], threads: int = 1) -> None:
        """Raise `ArgumentError` if an array or a block of scratch memory would have more bytes than can be counted, or
        a size is divided by 0."""
        try:
            wanted = [extent.evaluate(known.__getitem__) for extent in self.blocks]
            wanted += [room.count(known.__getitem__, threads) for room in self.rooms]
            for port in self.outputs:
                shape = [max(extent.evaluate(known.__getitem__), 0) for extent in port.type.shape]
                wanted.append(prod(shape) * port.type.dtype.bytes)
        except ZeroDivisionError:
            labels = (Label(self.span, "this function"),) if self.span.source.text else ()
            raise ArgumentError(Diagnostic("a size is divided by zero", labels)) from None
        if any(count > LARGEST_BLOCK for count in wanted):
            raise self.no_memory()

    def parts(self, known: Mapping[Any, int]) -> list[int]:
        """Into how many parts each loop is cut, for numbers of the size variables."""
        return [split.parts(known.__getitem__) for split in self.splits]

    def arrangement(self, known: Mapping[Any, int], threads: int = 1) -> Arrangement:
        """Where the rooms of the arena are, for numbers of the size variables and of threads."""
        return fixed_arrangement(self.rooms) or arrange(self.rooms, known.__getitem__, threads)

    def place_words(self, known: Mapping[Any, int], threads: int = 1) -> array[int]:
        """The words of the table that say where the rooms of the arena are."""
        if not self.layout.rooms:
            return array("q")
        found = self.arrangement(known, threads)
        return array("q", (found.total, *found.offsets))

    def memory(self, known: Mapping[Any, int], number: Callable[[int], int], threads: int = 1) -> Memory:
        """The bytes that a call uses, from the numbers of the size variables, of arguments by their position, and of
        threads."""
        tapes, rest = block_of_tapes(self.tapes, known.__getitem__, number)
        results = 0
        for port in self.outputs:
            shape = (max(extent.evaluate(known.__getitem__), 0) for extent in port.type.shape)
            results += prod(shape) * port.type.dtype.bytes
        return Memory(arena_block(self.arrangement(known, threads).total), results, tapes, rest)

    def no_memory(self) -> ArgumentError:
        """The error where memory does not suffice."""
        labels = (Label(self.span, "for arguments of these sizes"),) if self.span.source.text else ()
        return ArgumentError(Diagnostic(f"not enough memory for {self.name}", labels))

    def failure(self, status: int, words: Any) -> DgraphError:
        """The error for a status of the entry, with the values that the failed check left."""
        if status < 0 or status > len(self.checks):
            return self.no_memory()
        check = self.checks[status - 1]
        values = [_number(words, position, type_) for position, type_ in enumerate(check.types)]
        title = check.title.format(*values) if check.is_template else check.title
        names = [f"{name} = " if name else "" for name in check.names]
        shown = "" if check.is_template else ", ".join(f"{n}{v}" for n, v in zip(names, values, strict=True))
        rest = iter(words[len(check.types) : len(check.state_types)])
        turns = tuple((turn, tuple(int(next(rest)) for _ in range(turn.numbers))) for turn in check.turns)
        place = placed(check.words, Standing(turns), check.span)
        labels = (Label(check.span, place),) if check.span.source.text else ()
        if check.types == (FAULT,):
            title, shown = fault(values[0])
        return CheckFailed(Diagnostic(title, labels, shown))

    # ---- plain data -----------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The interface as JSON."""
        sources: dict[Source, int] = {}
        return {
            "name": self.name,
            "sizes": self.sizes,
            "told_sizes": self.told_sizes,
            "inputs": [_port_to_json(port) for port in self.inputs],
            "outputs": [_port_to_json(port) for port in self.outputs],
            "rows": self.rows,
            "scalars": self.scalars,
            "blocks": [size_to_json(extent) for extent in self.blocks],
            "rooms": [
                [
                    *(room.name, size_to_json(room.bytes), room.first, room.last, _span_to_json(room.span, sources)),
                    room.copies and [room.copies.kind, split_to_json(room.copies.split)],
                ]
                for room in self.rooms
            ],
            "tapes": [
                [size_to_json(tape.entry), _count_to_json(tape.total), tape.words, _span_to_json(tape.span, sources)]
                for tape in self.tapes
            ],
            "splits": [split_to_json(split) for split in self.splits],
            "wishes": [
                [wish.name, wish.option, _count_to_json(wish.value), _span_to_json(wish.span, sources)]
                for wish in self.wishes
            ],
            "span": _span_to_json(self.span, sources),
            "checks": [
                [
                    check.title,
                    check.names,
                    check.types,
                    _span_to_json(check.span, sources),
                    check.words,
                    check.is_template,
                    [[_span_to_json(turn.span, sources), turn.names, turn.is_space] for turn in check.turns],
                ]
                for check in self.checks
            ],
            "sources": [[source.path, source.text] for source in sources],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Interface:
        """What `to_json` wrote."""
        sources = [Source(path, text) for path, text in data["sources"]]

        def span(place: list[int]) -> Span:
            return Span(sources[place[0]], place[1], place[2])

        def turn(parts: list[Any]) -> Turn:
            place, names, is_space = parts
            return Turn(span(place), tuple(names), is_space)

        return cls(
            data["name"],
            tuple(data["sizes"]),
            tuple(data["told_sizes"]),
            tuple(_port_from_json(port) for port in data["inputs"]),
            tuple(_port_from_json(port) for port in data["outputs"]),
            tuple(
                Check(title, tuple(names), tuple(types), span(place), words, template, tuple(map(turn, turns)))
                for title, names, types, place, words, template, turns in data["checks"]
            ),
            data["rows"],
            span(data["span"]),
            data["scalars"],
            tuple(size_from_json(extent) for extent in data["blocks"]),
            tuple(
                Room(name, size_from_json(count), first, last, span(place), _copies_from_json(copies))
                for name, count, first, last, place, copies in data["rooms"]
            ),
            tuple(
                TapeDemand(size_from_json(entry), _count_from_json(total), words, span(place))
                for entry, total, words, place in data["tapes"]
            ),
            tuple(
                Wish(name, option, _count_from_json(value), span(place))
                for name, option, value, place in data["wishes"]
            ),
            tuple(map(split_from_json, data["splits"])),
        )


def _number(words: Any, position: int, type_: str) -> Any:
    """The value that a word of the state holds."""
    import numpy

    kinds = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8", "bool": "bool"}
    kinds[FAULT] = kinds["i64"]
    return words[position : position + 1].view(numpy.dtype(kinds[type_]))[0]


def split_to_json(split: Split) -> list[Any]:
    """A split as JSON."""
    return [*map(size_to_json, (split.work, split.least, split.turns)), split.most]


def split_from_json(data: list[Any]) -> Split:
    """What `split_to_json` wrote."""
    work, least, turns = map(size_from_json, data[:3])
    return Split(work, least, turns, data[3])


def _copies_from_json(data: list[Any] | None) -> Copies | None:
    return None if data is None else Copies(split_from_json(data[1]), data[0])


def _span_to_json(span: Span, sources: dict[Source, int]) -> list[int]:
    return [sources.setdefault(span.source, len(sources)), span.start, span.end]


def _port_to_json(port: Port) -> list[Any]:
    return [port.name, port.type.dtype.name, [size_to_json(extent) for extent in port.type.shape]]


def _port_from_json(data: list[Any]) -> Port:
    name, dtype, shape = data
    return Port(name, Array(DTYPES[dtype], tuple(size_from_json(extent) for extent in shape)))


def _count_to_json(count: Count | None) -> Any:
    """A count as JSON: terms of a size, the position of an argument, or an op with what it is made of."""
    if isinstance(count, Size):
        return {"size": size_to_json(count)}
    if isinstance(count, Made):
        return {"op": count.op, "parts": [_count_to_json(part) for part in count.parts]}
    return None if count is None else {"number": count.position}


def _count_from_json(data: Any) -> Any:
    if data is None:
        return None
    if "size" in data:
        return size_from_json(data["size"])
    if "number" in data:
        return Given(data["number"])
    return Made(data["op"], tuple(map(_count_from_json, data["parts"])))


def size_to_json(value: Size) -> list[Any]:
    """A size as JSON: terms of a coefficient and atoms, a quotient being a pair of sizes."""
    return [[coefficient, [_atom_to_json(atom) for atom in monomial]] for monomial, coefficient in value.terms]


def _atom_to_json(atom: object) -> Any:
    if isinstance(atom, Quotient):
        return [size_to_json(atom.numerator), size_to_json(atom.denominator)]
    return str(atom)


def size_from_json(data: list[Any]) -> Size:
    """What `size_to_json` wrote."""
    return Size(tuple((tuple(map(_atom_from_json, atoms)), coefficient) for coefficient, atoms in data))


def _atom_from_json(data: Any) -> Any:
    return data if isinstance(data, str) else Quotient(size_from_json(data[0]), size_from_json(data[1]))
