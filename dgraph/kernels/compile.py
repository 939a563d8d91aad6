"""From a graph to something callable: lowering, source, object code from the cache or the compiler, and the call.

A compiled graph is bytes: an interface, the source and object code. Reading them back needs neither the graph nor
Numba.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.errors import ArgumentError, Diagnostic, NotSupported
from dgraph.ir.counts import numbers_of
from dgraph.kernels.allowance import Allowance, allowance_from_json, allowance_to_json
from dgraph.kernels.bind import MISFIT, binding_steps, pool_place, state_words
from dgraph.kernels.bound_call import BoundCall
from dgraph.kernels.cache import Cache, make_key
from dgraph.kernels.call import FITS, ArraySpec, Checker, Pool, Workspace
from dgraph.kernels.disk_store import in_a_session
from dgraph.kernels.fill_code import bring_fill_code, fill_code, is_fill_code, layout_is_known
from dgraph.kernels.interface import Interface, Port, size_from_json, size_to_json
from dgraph.kernels.load import load_object, machine_name, uses_disk
from dgraph.kernels.needs import Given, Needs, shape_of, with_given
from dgraph.kernels.parted import Parted
from dgraph.kernels.planning import plan_graph, plan_in_parts
from dgraph.kernels.product_library import called_by
from dgraph.kernels.results import result_maker
from dgraph.kernels.thread_pool import MOST_THREADS, available, the_pool

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph
    from dgraph.kernels.demand import Memory
    from dgraph.kernels.nests import Program

_MOST_NEEDS = 256
Parallel = bool | int


def compile_graph(
    graph: Graph,
    *,
    checks: str = "on",
    math: str = "fast",
    schedule: Mapping[str, str] | None = None,
    parallel: Parallel = True,
) -> CompiledGraph:
    """Compile a graph without `call jvp vjp vmap` nodes. `checks="off"` clips reads and drops writes out of range;
    `math="precise"` takes the elementary functions that are right to about half a unit in the last place.
    `parallel` says whether a call may use several threads, or how many at most; the code is the same.

    Raises `NotSupported` for an op that has no kernels.
    """
    from dgraph.kernels.numba_source import print_program
    from dgraph.kernels.steering import Steering

    program = plan_graph(graph, checks=checks, math=math, schedule=schedule)
    compiled = compile_program(program, interface_of(graph, program))
    cut = plan_in_parts(program, Steering.of(schedule))
    if cut.splits and not program.splits:
        compiled.parted = Parted.of(interface_of(graph, cut), print_program(cut))
    compiled.allow(parallel)
    return compiled


def compile_program(program: Program, interface: Interface, allowance: Allowance | None = None) -> CompiledGraph:
    """Compile a loop program. With an allowance its last size formals are settings."""
    from dgraph.kernels.numba_source import print_program
    from dgraph.kernels.report import report_of

    source = print_program(program)
    return CompiledGraph(interface, source, report_of(program), object_code(source), allowance)


def interface_of(graph: Graph, program: Program) -> Interface:
    """What a caller must know of the loop program of a graph."""
    from dgraph.kernels.numba_source import layout_of
    from dgraph.kernels.tape_use import tape_demands

    steps = binding_steps(layout_of(program), program.input_shapes)
    known = {*graph.told_sizes, *(step.solves for step in steps)}
    unknown = next((name for name in graph.sizes if name not in known), None)
    if unknown is not None:
        title = f"the size `{unknown}` of {graph.name} cannot be found from its arguments"
        raise NotSupported.at(graph.span, title, "declared here")
    return Interface(
        graph.name,
        graph.sizes,
        graph.told_sizes,
        tuple(_port(name, value) for name, value in zip(graph.input_names, graph.region.inputs, strict=True)),
        tuple(_port(name, value) for name, value in zip(graph.output_names, graph.region.outputs, strict=True)),
        program.checks,
        program.rows,
        graph.span,
        program.scalars,
        program.blocks,
        tuple(program.rooms.values()),
        tape_demands(program),
        graph.wishes,
        tuple(split for _, split in program.splits),
    )


def object_code(source: str) -> bytes:
    """The object code of a program, from the cache or the compiler."""

    def made() -> bytes:
        from dgraph.kernels import native

        return native.compile_source(source)

    return Cache.default().got_or_made(make_key("object", without_comments(source), machine=machine_name()), made)


def without_comments(source: str) -> str:
    """The source as the compiler sees it: where a program lies on disk makes no difference to it."""
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("#"))


def _port(name: str, value: Any) -> Port:
    return Port(name, value.type)


class CompiledGraph:
    """Machine code for a graph, for all sizes. Calls are safe from several threads.

    With an allowance calls set the last size formals by themselves; they raise `OverBudget` where nothing keeps within.
    """

    def __init__(
        self,
        interface: Interface,
        source: str,
        report: Mapping[str, Any],
        code: bytes,
        allowance: Allowance | None = None,
        products: Mapping[str, bytes] | None = None,
    ) -> None:
        self.interface = interface
        self.allowance = allowance
        self.source = source
        self.report = report
        self.code = code
        self.products = called_by(code) if products is None else products
        self._native = load_object(code, self.products)
        self._entry = in_a_session(self._native.call) if uses_disk(code) else self._native.call
        layout = interface.layout
        self._checker = Checker([ArraySpec(port.type.dtype.name, port.type.rank) for port in interface.inputs])
        results = [ArraySpec(port.type.dtype.name, max(port.type.rank, 1)) for port in interface.outputs]
        self._result_filler = Checker(results, layout.first_output_slot)
        self._pool = Pool(self._new_workspace)
        settings = len(allowance.settings) if allowance is not None else 0
        self._size_places = list(zip(interface.told_sizes, layout.size_slots, strict=True))
        self._wish_places = [self._size_places.pop() for _ in interface.wishes]
        self._setting_places = [self._size_places.pop() for _ in range(settings)]
        extents = [slot + 1 + axis for slot, rank in self._input_places() for axis in range(rank)]
        self._extents_of = _getter([*extents, *(slot for _, slot in self._deciding_numbers())])
        self._needs: dict[Any, Needs] = {}
        self._arena_slot = layout.arena_slot
        self._scalars = [place for place, port in enumerate(interface.outputs) if not port.type.rank]
        self._arity = len(interface.inputs)
        self.parted: Parted | None = None
        self.allow(True)

    def allow(self, parallel: Parallel) -> None:
        """Let calls use all threads that there are, one, or so many at most."""
        self.threads = 1
        if self.interface.splits or self.parted is not None:
            self.threads = available() if parallel is True else max(min(int(parallel), MOST_THREADS), 1)
        if self.parted is not None:
            self.parted.allow(self.threads)
        self.forget_needs()

    def forget_needs(self) -> None:
        """Find out anew what calls need."""
        self._needs.clear()

    def form(self, known: Mapping[Any, int]) -> CompiledGraph:
        """What runs for numbers of the size variables: itself, or the form whose loops are cut into parts."""
        is_cut = self.parted is not None and self.parted.is_wanted(known, self.threads)
        return self.parted.form if is_cut and self.parted is not None else self

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The arrays that go in."""
        return self.interface.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The arrays that come out."""
        return self.interface.outputs

    # ---- calls --------------------------------------------------------------------------------------------------

    def call(self, arrays: Sequence[Any], extents: Mapping[str, int] | None = None, outputs: Given = None) -> list[Any]:
        """Run on the leaves of the arguments. Raises `ArgumentError` if they do not fit and `CheckFailed` if a check
        fails. Scalars come out as NumPy scalars, and as arrays where `outputs` gives some, which must fit."""
        sizes = tuple((extents or {}).items())
        found = self._run(tuple(arrays), sizes, outputs) if len(arrays) == len(self.inputs) else None
        if found is None:
            found = self._run(self._adapted(arrays), sizes, outputs)
            assert found is not None
        return found

    __call__ = call

    def call_exact(self, arrays: Sequence[Any], sizes: tuple[tuple[str, int], ...] = ()) -> list[Any] | None:
        """Run if every argument is what `Checker` can place as it is (arrays of the declared dtype and rank without
        gaps, numbers), and all size formals are told; else None."""
        if len(arrays) != self._arity or len(sizes) != len(self._size_places):
            return None
        return self._run(tuple(arrays), sizes)

    def result_shapes(self, arrays: Sequence[Any], extents: Mapping[str, int] | None = None) -> list[tuple[int, ...]]:
        """The shapes of what a call on these leaves gives."""
        sizes = tuple((extents or {}).items())
        workspace = self._pool.take()
        try:
            needs = self._placed(workspace, tuple(arrays), sizes)
            if needs is None:
                needs = self._placed(workspace, self._adapted(arrays), sizes)
            assert needs is not None
            return needs.shapes
        finally:
            self._pool.give(workspace)

    def memory(self, arrays: Sequence[Any], extents: Mapping[str, int] | None = None) -> Memory:
        """The bytes that a call on these leaves uses."""
        held = self._adapted(arrays)
        shapes = [array.shape for array in held]
        known, _ = self._allowed(shapes, dict(extents or {}), lambda at: int(held[at]))
        interface = self.form(known).interface
        interface.refuse_memory(known, self.threads)
        return interface.memory(known, lambda at: int(held[at]), self.threads)

    def choice(self, arrays: Sequence[Any], extents: Mapping[str, int] | None = None) -> dict[str, Any]:
        """What is chosen for a call on these leaves to keep within the budget, as plain data."""
        allowance = self.allowance
        assert allowance is not None
        held = self._adapted(arrays)
        shapes = [array.shape for array in held]
        known, settings = self._allowed(shapes, dict(extents or {}), lambda at: int(held[at]))
        named = known | {f"#{at}": int(held[at]) for at, port in enumerate(self.inputs) if _is_whole(port)}
        return allowance.told(
            settings, named, self.interface.memory(known, lambda at: int(held[at]), self.threads).peak
        )

    @property
    def held_bytes(self) -> int:
        """The bytes of arenas and tapes that are kept for later calls."""
        others = self.parted.held_bytes if self.parted is not None else 0
        return self._pool.held_bytes + others

    def bind(self, arrays: Sequence[Any], extents: Mapping[str, int] | None = None, outputs: Given = None) -> BoundCall:
        """A call on fixed arrays that writes to fixed outputs, without checks of its arguments."""
        held = self._adapted(arrays)
        sizes = tuple((extents or {}).items())
        workspace = self._pool.take()
        needs = self._placed(workspace, held, sizes)
        assert needs is not None
        if needs.form is not self:
            self._pool.give(workspace)
            return needs.form.bind(arrays, extents, outputs)
        results = self._prepare(workspace, needs, outputs)
        return BoundCall(self, workspace, held, sizes, results if outputs is None else with_given(outputs, results))

    def _run(
        self, arrays: tuple[Any, ...], sizes: tuple[tuple[str, int], ...], outputs: Given = None
    ) -> list[Any] | None:
        workspace = self._pool.take()
        try:
            needs = self._placed(workspace, arrays, sizes)
            if needs is None:
                return None
            if needs.form is self:
                results = self._prepare(workspace, needs, outputs)
                status = self._entry(workspace.address)
                if status:
                    self.refuse(status, workspace, sizes)
        finally:
            self._pool.give(workspace)
        if needs.form is not self:
            self._pool.release()
            return needs.form._run(arrays, sizes, outputs)
        for place in self._scalars:
            results[place] = results[place][0]
        return results if outputs is None else with_given(outputs, results)

    def _prepare(self, workspace: Workspace, needs: Needs, outputs: Given) -> list[Any]:
        """Write to the table what the call needs; memory for the results."""
        if workspace.needs is not needs:
            self._settle(workspace, needs)
        try:
            if outputs is None:
                results = [make() for make in needs.makers]
            else:
                pairs = zip(outputs, needs.makers, strict=True)
                results = [make() if given is None else np.atleast_1d(given) for given, make in pairs]
        except MemoryError:
            raise self.interface.no_memory() from None
        self._result_filler.fill(workspace, tuple(results))
        return results

    def _placed(
        self, workspace: Workspace, arrays: tuple[Any, ...], sizes: tuple[tuple[str, int], ...]
    ) -> Needs | None:
        """What a call needs, its arguments and sizes being in the table; None if one cannot be placed as it is."""
        if self._checker.fill(workspace, arrays) != FITS:
            return None
        if sizes:
            known = dict(sizes)
            for name, slot in self._size_places:
                workspace.words[slot] = known[name]
        return self._needs_of(workspace, sizes)

    def _needs_of(self, workspace: Workspace, sizes: tuple[tuple[str, int], ...]) -> Needs:
        """What a call needs for the arguments in the table, found now or before."""
        key = self._extents_of(workspace.words)
        if sizes:
            key = key, sizes
        return self._needs.get(key) or self._find_needs(workspace, sizes, key)

    def _find_needs(self, workspace: Workspace, sizes: tuple[tuple[str, int], ...], key: Any) -> Needs:
        """What a call needs for arguments of these extents."""
        known, settings = self._allowed(self._shapes(workspace), dict(sizes), partial(self._number, workspace))
        self.interface.refuse_memory(known, self.threads)
        if len(self._needs) >= _MOST_NEEDS:
            self._needs.clear()
        shapes = [shape_of(port, known) for port in self.outputs]
        form = self.form(known)
        if form is not self:
            needs = self._needs[key] = Needs(form, shapes)
            return needs
        pairs = zip(shapes, self.outputs, strict=True)
        makers = [result_maker(shape or (1,), port.type.dtype.numpy) for shape, port in pairs]
        pool, parts = 0, self.interface.parts(known)
        if self.threads > 1 and max(parts, default=1) > 1:
            pool = the_pool().start(self.threads)
            the_pool().users.add(self)
        places = self.interface.place_words(known, self.threads)
        needs = self._needs[key] = Needs(self, shapes, makers, places, settings, (pool, self.threads, *parts))
        return needs

    def _settle(self, workspace: Workspace, needs: Needs) -> None:
        """Write to the table what follows from the sizes."""
        workspace.needs = needs
        if self.allowance is not None:
            # Blocks of other sizes could together be more than is allowed.
            workspace.release()
        for name, slot in (*self._setting_places, *self._wish_places):
            workspace.words[slot] = needs.settings[name]
        if needs.places:
            workspace.words[self._arena_slot :] = array("q", needs.places)
        if self.interface.splits:
            place = pool_place(self.interface.rows)
            workspace.state[place : place + len(needs.threads)] = array("q", needs.threads)

    def _allowed(
        self, shapes: list[tuple[int, ...]], sizes: dict[str, int], number: Callable[[int], int]
    ) -> tuple[dict[Any, int], dict[str, int]]:
        """The number of every size variable, those that are settings included; and the settings and wishes."""
        names = [name for name, _ in self._setting_places]
        known = self.interface.solve(shapes, {**sizes, **dict.fromkeys(names, 1)}, number)
        wishes = {name: known[name] for name, _ in self._wish_places}
        if self.allowance is None:
            return known, wishes
        self.interface.refuse_memory(known, self.threads)
        numbers = {f"#{at}": number(at) for at, port in enumerate(self.inputs) if _is_whole(port)}
        settings = self.allowance.chosen(
            lambda tried: self.interface.memory({**known, **tried}, number, self.threads), known | numbers
        )
        return known | settings, settings | wishes

    def _deciding_numbers(self) -> list[tuple[int, int]]:
        """The arguments that are whole numbers and decide, with the sizes, what a call is allowed."""
        slots = self.interface.layout.input_slots
        asked = {at for wish in self.interface.wishes for at in numbers_of(wish.value)}
        if self.allowance is not None:
            asked |= {at for at, port in enumerate(self.inputs) if _is_whole(port)}
        return [(at, slots[at]) for at in sorted(asked)]

    def _number(self, workspace: Workspace, at: int) -> int:
        """An argument that is a whole number."""
        slot, name = self.interface.layout.input_slots[at], self.inputs[at].type.dtype.name
        return int(workspace.halves[2 * slot] if name == "i32" else workspace.words[slot])

    def _adapted(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Arguments as arrays without gaps of the declared dtypes."""
        if len(arrays) != len(self.inputs):
            title = f"{self.interface.name} takes {len(self.inputs)} arrays, not {len(arrays)}"
            raise ArgumentError(Diagnostic(title))
        held = []
        for given, port in zip(arrays, self.inputs, strict=True):
            fitting = np.require(given, port.type.dtype.numpy, ["C", "A"])
            if fitting.ndim != port.type.rank:
                title = f"`{port.name}` has {fitting.ndim} axes where {port.type} has {port.type.rank}"
                raise ArgumentError(Diagnostic(title))
            held.append(fitting)
        return tuple(held)

    def _input_places(self) -> list[tuple[int, int]]:
        """First slot and rank of every input."""
        ranks = [port.type.rank for port in self.inputs]
        return list(zip(self.interface.layout.input_slots, ranks, strict=True))

    def _shapes(self, workspace: Workspace) -> list[tuple[int, ...]]:
        """The shapes of the arguments in the table."""
        return [tuple(workspace.words[slot + 1 : slot + 1 + rank]) for slot, rank in self._input_places()]

    def _new_workspace(self) -> Workspace:
        layout, rows = self.interface.layout, self.interface.rows
        workspace = Workspace(
            layout.length, state_words(rows, self.interface.scalars, len(self.interface.splits)), rows
        )
        workspace.words[layout.state_slot] = workspace.state_address
        return workspace

    def refuse(self, status: int, workspace: Workspace, sizes: tuple[tuple[str, int], ...]) -> None:
        """Raise the error that a status of the entry means."""
        if status == MISFIT:
            self._allowed(self._shapes(workspace), dict(sizes), partial(self._number, workspace))
        words = np.array(workspace.state[4 * self.interface.rows :], np.int64)
        raise self.interface.failure(status, words)

    def refill(self, workspace: Workspace, arrays: tuple[Any, ...], sizes: tuple[tuple[str, int], ...]) -> None:
        """Write the arguments to the table again: numbers may have changed, and with them what follows from these."""
        self._checker.fill(workspace, arrays)
        if self._wish_places:
            needs = self._needs_of(workspace, sizes)
            if workspace.needs is not needs:
                self._settle(workspace, needs)

    def run_entry(self, workspace: Workspace) -> int:
        """Run on a filled table; the status."""
        status: int = self._entry(workspace.address)
        return status

    # ---- bytes --------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """All that is needed to call it in another process."""
        pieces = {**self.products, **(fill_code() if layout_is_known() else {})}
        head = {
            "machine": machine_name(),
            "interface": self.interface.to_json(),
            "source": self.source,
            "report": self.report,
            "pieces": [[kind, len(piece)] for kind, piece in pieces.items()],
            "parted": None if self.parted is None else self.parted.to_json(),
            "allowance": None if self.allowance is None else allowance_to_json(self.allowance, size_to_json),
        }
        text = json.dumps(head).encode()
        return b"".join([len(text).to_bytes(8, "little"), text, *pieces.values(), self.code])

    @classmethod
    def from_bytes(cls, data: bytes) -> CompiledGraph:
        """What `to_bytes` wrote. Object code of another machine is replaced by that of this one."""
        length = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + length])
        pieces: dict[str, bytes] = {}
        start = 8 + length
        for kind, count in head["pieces"]:
            pieces[kind] = data[start : start + count]
            start += count
        code = data[start:]
        if head["machine"] == machine_name():
            bring_fill_code({kind: piece for kind, piece in pieces.items() if is_fill_code(kind)})
            products = {kind: piece for kind, piece in pieces.items() if not is_fill_code(kind)}
        else:
            code = object_code(head["source"])
            products = called_by(code)
        allowance = head["allowance"] and allowance_from_json(head["allowance"], size_from_json)
        made = cls(Interface.from_json(head["interface"]), head["source"], head["report"], code, allowance, products)
        made.parted = head["parted"] and Parted.from_json(head["parted"])
        made.allow(True)
        return made


def _is_whole(port: Port) -> bool:
    """Whether an argument is one whole number."""
    return not port.type.rank and port.type.dtype.name in ("i32", "i64", "u8")


def _getter(slots: list[int]) -> Callable[[Any], Any]:
    """Reads some words of a table."""
    return itemgetter(*slots) if slots else lambda _words: ()


__all__ = ["BoundCall", "CompiledGraph", "compile_graph", "plan_graph"]
