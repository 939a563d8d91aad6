"""Compiled functions: from a recipe to machine code, with the cache in front of everything, and the call."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic
from dgraph.kernels.cache import Cache, make_key
from dgraph.kernels.compile import CompiledGraph, Parallel
from dgraph.kernels.load import machine_name
from dgraph.kernels.needs import Given
from dgraph.program.arguments import (
    LARGEST_SIZE,
    bind_arguments,
    build,
    extent,
    flatten,
    is_extent,
    located,
    picker,
)
from dgraph.program.functions import COMPILING
from dgraph.program.outputs import OUT, checked_outputs, has_outputs, without_outputs
from dgraph.program.signature import Signature
from dgraph.program.sources import Files, still_stands
from dgraph.sizes import AMOUNT_WORDS, bytes_in
from dgraph.types import Array, Type
from dgraph.types import leaves as leaves_of

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph
    from dgraph.kernels.demand import Memory
    from dgraph.program.functions import Function
    from dgraph.program.generic import Open
    from dgraph.program.profile import Profile
    from dgraph.program.sparse import Patterns


@dataclass(frozen=True)
class Options:
    """How a function is compiled. `precision` promotes all floats; `checks="off"` clamps reads and drops writes that
    are out of range; `math="precise"` takes elementary functions that are right to about half a unit in the last place;
    `schedule` forces or forbids choices that are made by cost, as `dgraph.kernels.steering.Steering` says; `parallel`
    allows a call to use all cores, one, or so many threads; `budget`, as in "200MB", bounds the memory of a call. With
    `debug` a call whose outputs are not all finite says why. Neither `parallel` nor `debug` changes the code."""

    device: str = "cpu"
    precision: str | None = None
    parallel: Parallel = True
    budget: str | None = None
    checks: str = "on"
    math: str = "fast"
    schedule: Mapping[str, str] | None = None
    debug: bool = False

    def verify(self) -> None:
        """Raise `ArgumentError` for an option that does not exist or is not there yet."""
        allowed = {
            "device": ("cpu", "cuda"),
            "precision": (None, "f32", "f64"),
            "checks": ("on", "off"),
            "math": ("fast", "precise"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                listed = ", ".join(repr(value) for value in values)
                raise ArgumentError(Diagnostic(f"{name}={getattr(self, name)!r} is not one of {listed}"))
        if self.schedule is not None:
            from dgraph.kernels.steering import Steering

            Steering.of(self.schedule)
        if self.device == "cuda":
            note = "`dgraph show FILE --stage cuda` prints the kernels"
            raise ArgumentError(Diagnostic('device="cuda" is not supported yet for whole programs', (), note))
        if not isinstance(self.parallel, bool) and (not isinstance(self.parallel, int) or self.parallel < 1):
            note = "write True for all cores, False for one, or how many threads a call may use"
            raise ArgumentError(Diagnostic(f"parallel={self.parallel!r} is no number of threads", (), note))
        if self.budget is not None and (not isinstance(self.budget, str) or bytes_in(self.budget) is None):
            raise ArgumentError(Diagnostic(f"budget={self.budget!r} is no amount of memory", (), AMOUNT_WORDS))

    def of_plan(self) -> dict[str, Any]:
        """Those that the plan of the loops depends on, for `plan_graph`."""
        return {"checks": self.checks, "math": self.math, "schedule": self.schedule}

    @property
    def limit(self) -> int | None:
        """The bytes of the budget."""
        return None if self.budget is None else bytes_in(self.budget)


class Compiled:
    """A compiled function: call it, `bind` it to arrays, read its `source` and `report`."""

    def __init__(self, function: Function, options: Options, signature: Signature, kernel: CompiledGraph) -> None:
        self.function = function
        self.program = function.program
        self._set_up(options, signature, kernel)

    def _set_up(self, options: Options, signature: Signature, kernel: CompiledGraph) -> None:
        self.options = options
        self.signature = signature
        self.kernel = kernel
        self._is_plain = not options.debug
        pickers = [None if is_extent(formal) else picker(formal.type) for formal in signature.formals]
        self._pickers = list(zip([formal.name for formal in signature.formals], pickers, strict=True))
        is_flat = all(isinstance(formal.type, Array) for formal in signature.formals) and not signature.params
        self._call_exact = kernel.call_exact if is_flat else self._call_picked
        self._is_single = isinstance(signature.result, Array)

    @property
    def source(self) -> str:
        """The generated Numba source."""
        return self.kernel.source

    @property
    def report(self) -> Any:
        """What was planned: buffers, memory, kernels."""
        return self.kernel.report

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Check and adapt the arguments, run, and build the result. `out=` gives arrays for it, a tree like the result,
        which are written and returned; None in it makes a new one. Raises `ArgumentError` and `CheckFailed`."""
        if self._is_plain and not named:
            try:
                outputs = self._call_exact(arguments)
            except (AttributeError, KeyError, MemoryError, OverflowError, TypeError, ValueError):
                # Something is to be adapted or refused: the long way does it, or says what.
                outputs = None
            if outputs is not None:
                return outputs[0] if self._is_single else build(self.signature.result, iter(outputs))
        leaves, extents = self.leaves(arguments, named)
        outputs = self.run(leaves, extents, self.outputs(leaves, extents, named))
        self.examine(outputs, leaves, extents)
        return build(self.signature.result, iter(outputs))

    def outputs(self, leaves: Sequence[Any], extents: Mapping[str, int], named: Mapping[str, Any]) -> Given:
        """The arrays that `out=` gives for the leaves of the result; None if there is no `out=`."""
        signature = self.signature
        if not has_outputs(signature.formals, named):
            return None
        shapes = self.kernel.result_shapes(leaves, extents)
        try:
            return checked_outputs(signature.formals, signature.result, named[OUT], shapes, leaves)
        except ArgumentError as fault:
            raise self.located(fault) from None

    def examine(self, outputs: Sequence[Any], leaves: Sequence[Any], extents: Mapping[str, int]) -> None:
        """With `debug`, raise `NotFinite` with the reason if an output is nan or infinite, and warn of a derivative
        that depends on the choice of a basis."""
        if self.options.debug:
            from dgraph.program.chosen_bases import warning_of
            from dgraph.program.nonfinite import culprit_of, is_finite

            if not is_finite(outputs):
                raise culprit_of(self, outputs, leaves, extents)
            if (found := warning_of(self, leaves, extents)) is not None:
                warnings.warn(found.render(), RuntimeWarning, stacklevel=3)

    def exact(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> Compiled:
        """The function for the types of some arguments: itself."""
        return self

    def source_graph(self) -> Graph:
        """The graph that was compiled, before any pass."""
        from dgraph.program.lower import lower

        with COMPILING:
            return lower(self.program.module, self.function.recipe, self.options.precision)[0]

    def given(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> list[Any]:
        """The arguments of that graph for the leaves of a call: these."""
        return list(leaves)

    def numbers(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> Mapping[Any, int]:
        """The number of every size variable for the leaves of a call."""
        shapes = [np.shape(leaf) for leaf in leaves]
        return self.kernel.interface.solve(shapes, dict(extents), lambda at: int(leaves[at]))

    def run(self, leaves: Sequence[Any], extents: Mapping[str, int], outputs: Given = None) -> list[Any]:
        """The kernel on leaves that fit. Raises `ArgumentError` if there is not enough memory."""
        try:
            return self.kernel.call(leaves, extents, outputs)
        except MemoryError as fault:
            title = f"there is not enough memory for {self.signature.name}"
            raise ArgumentError(Diagnostic(title, (), str(fault))) from None

    def value_of(self, name: str) -> Any:
        """The value of a param or state that the function reads."""
        return self.program.value_of(name)

    def located(self, fault: ArgumentError) -> ArgumentError:
        """A fault of an argument with the place where that is declared."""
        return located(fault, self.function)

    def _call_picked(self, arguments: Sequence[Any]) -> list[Any] | None:
        """The kernel on the leaves of the arguments as they are; None if they are not what it takes."""
        stored = [self.value_of(name) for name in self.signature.params]
        found: list[Any] = []
        sizes: list[tuple[str, int]] = []
        for (name, pick), value in zip(self._pickers, (*arguments, *stored), strict=True):
            if pick is not None:
                pick(value, found)
            elif type(value) is int and 0 <= value <= LARGEST_SIZE:
                sizes.append((name, value))
            else:
                return None
        return self.kernel.call_exact(found, tuple(sizes))

    def leaves(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, int]]:
        """The leaves of all formals as arrays, and the numbers of the size formals."""
        signature = self.signature
        defaults = dict(signature.defaults)
        for formal in signature.formals:
            if formal.name in signature.params and formal.name not in named:
                defaults[formal.name] = promoted(formal.type, self.value_of(formal.name))
        named = without_outputs(signature.formals, named)
        try:
            values = bind_arguments(signature.name, signature.formals, arguments, named, defaults)
            leaves: list[Any] = []
            extents: dict[str, int] = {}
            for formal, value in zip(signature.formals, values, strict=True):
                if is_extent(formal):
                    extents[formal.name] = extent(formal.name, value)
                else:
                    leaves.extend(flatten(formal.name, formal.type, value))
        except ArgumentError as fault:
            raise self.located(fault) from None
        return leaves, extents

    def bind(self, *arguments: Any, **named: Any) -> Any:
        """A call without checks on fixed arrays: `run = step.bind(x, y)`; each `run()` reads the arrays as they are
        then, writes the same output arrays, those of `out=` if given, and returns the result built on them."""
        leaves, extents = self.leaves(arguments, named)
        bound = self.kernel.bind(leaves, extents, self.outputs(leaves, extents, named))
        result = build(self.signature.result, iter(bound.outputs))

        def run() -> Any:
            bound()
            self.examine(bound.outputs, leaves, extents)
            return result

        return run

    def memory(self, *arguments: Any, **named: Any) -> Memory:
        """The bytes that a call on these arguments uses: its arena, its results and the tapes of its loops."""
        leaves, extents = self.leaves(arguments, named)
        return self.kernel.memory(leaves, extents)

    def profile(self, *arguments: Any, **named: Any) -> Profile:
        """Where the time of a call on these arguments goes: the fastest of some calls, with a clock around each part.
        The code is compiled anew with the clocks in it."""
        from dgraph.program.profile import profile

        return profile(self, arguments, named)

    def export(self, path: str | PathLike[str]) -> None:
        """Write a bundle: a file that `dg.load_bundle` makes callable where the program is not, without compiling."""
        from dgraph.program.bundle import write_bundle

        write_bundle(self, Path(path))

    @property
    def held_bytes(self) -> int:
        """The bytes of arenas and tapes that earlier calls left for later ones."""
        return self.kernel.held_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        # Machine code stays where it was made: a copy, also one in another process, asks the cache for its own.
        return compile_function, (self.function, self.options)

    def __repr__(self) -> str:
        return f"<dgraph compiled {self.function.recipe} of {self.function.program.path}>"


def promoted(type_: Type, value: Any) -> Any:
    """A value of the program's own, with its floats in the dtypes of a type: those of a promoted function."""
    found: list[Any] = []
    try:
        picker(type_)(value, found)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Not of this type at all: whoever takes it apart says what is wrong.
        return value
    wanted = (leaf.dtype for _, leaf in leaves_of(type_))
    cast = (
        np.asarray(leaf).astype(dtype.numpy, copy=False)[()] if dtype.is_float else leaf
        for leaf, dtype in zip(found, wanted, strict=True)
    )
    return build(type_, cast)


def compile_function(function: Function, options: Options) -> Compiled:
    """Compile, or load what was compiled before. A hit parses nothing and imports neither lark nor numba."""
    from dgraph.program.generic import Generic, Open

    options.verify()
    with COMPILING:
        head, code = _stored(function, options)
        if isinstance(head, Open):
            return Generic(function, options, head)
        if options.budget is not None:
            from dgraph.program.budgeted import Budgeted

            return Budgeted(function, options, head)
        kernel = _loaded(code, options)
        made = Compiled(function, options, head, kernel)
        if head.is_sparse:
            from dgraph.program.sparse import SparseFunction

            made = SparseFunction(function, options, head, kernel)
        if head.jacobians:
            from dgraph.program.chosen_sweeps import ChosenSweeps

            made = ChosenSweeps(made)
        return made


def compile_ways(function: Function, options: Options, ways: Sequence[str], patterns: Patterns) -> Compiled:
    """Compile, or load, a function with what is chosen for its Jacobians in no certain mode."""
    from dgraph.program.sparse import SparseFunction

    with COMPILING:
        head, code = _stored(function, options, ways)
        assert isinstance(head, Signature)
        return SparseFunction(function, options, head, _loaded(code, options), patterns, ways)


def _loaded(code: bytes, options: Options) -> CompiledGraph:
    """What the cache knows, for as many threads as are wanted."""
    kernel = CompiledGraph.from_bytes(code)
    kernel.allow(options.parallel)
    return kernel


def _stored(function: Function, options: Options, ways: Sequence[str] = ()) -> tuple[Signature | Open, bytes]:
    """What the cache knows of a function, or what is put there now."""
    program = function.program
    deciding = asdict(replace(options, parallel=True, debug=False))
    facts = [program.digest, str(function.recipe), deciding, *ways]
    key = make_key("function", json.dumps(facts, sort_keys=True), machine=machine_name())
    stored = Cache.default()
    entry = stored.get(key)
    found = None if entry is None else unpack(entry)
    if found is None:
        found = _made(function, options, ways)
        stored.put(key, pack(*found, program.files))
    return found


def _made(function: Function, options: Options, ways: Sequence[str]) -> tuple[Signature | Open, bytes]:
    """What a cache does not know of a function: its signature and code, or what a call must say first."""
    from dgraph.program.build import build_kernel
    from dgraph.program.lower import open_formals

    opened = open_formals(function.program.module, function.recipe)
    if opened is not None:
        return opened, b""
    if options.budget is not None:
        # Kernels follow when a call says how large everything is.
        from dgraph.program.budgeted import budgeted_signature

        return budgeted_signature(function, options), b""
    signature, kernel = build_kernel(function.program, function.recipe, options, ways)
    return signature, kernel.to_bytes()


def pack(head: Signature | Open, code: bytes, read: Files) -> bytes:
    """What is known of a function, with the files that were read and a hash of each, and its code."""
    kind = "signature" if isinstance(head, Signature) else "open"
    text = json.dumps({kind: head.to_json(), "read": read}).encode()
    return len(text).to_bytes(8, "little") + text + code


def unpack(entry: bytes) -> tuple[Signature | Open, bytes] | None:
    """What `pack` wrote, or None if one of the files has changed since."""
    from dgraph.program.generic import Open

    length = int.from_bytes(entry[:8], "little")
    head = json.loads(entry[8 : 8 + length])
    if not still_stands(head["read"]):
        return None
    known = Signature.from_json(head["signature"]) if "signature" in head else Open.from_json(head["open"])
    return known, entry[8 + length :]
