"""Compiled functions: from a recipe to machine code, with the cache in front of everything, and the call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgraph.errors import ArgumentError, DgraphError, Diagnostic, Label
from dgraph.kernels.cache import Cache, make_key
from dgraph.kernels.compile import CompiledGraph
from dgraph.kernels.native import machine_name
from dgraph.program.arguments import bind_arguments, build, extent, flatten, is_extent
from dgraph.program.signature import Signature
from dgraph.program.sources import files_read, still_stands

if TYPE_CHECKING:
    from dgraph.program.functions import Function, Program


@dataclass(frozen=True)
class Options:
    """How a function is compiled. `precision` promotes all floats; `checks="off"` clamps reads and drops writes that
    are out of range; `parallel` allows the use of several cores; `budget` bounds the memory."""

    device: str = "cpu"
    precision: str | None = None
    parallel: bool = True
    budget: str | None = None
    checks: str = "on"

    def verify(self) -> None:
        """Raise `ArgumentError` for an option that does not exist or is not there yet."""
        allowed = {"device": ("cpu", "cuda"), "precision": (None, "f32", "f64"), "checks": ("on", "off")}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                listed = ", ".join(repr(value) for value in values)
                raise ArgumentError(Diagnostic(f"{name}={getattr(self, name)!r} is not one of {listed}"))
        if self.device == "cuda":
            note = "`dgraph show FILE --stage cuda` prints the kernels"
            raise ArgumentError(Diagnostic('device="cuda" is not supported yet for whole programs', (), note))
        if self.budget is not None:
            raise ArgumentError(Diagnostic("budget= is not supported yet", (), "leave it out"))


class Compiled:
    """A compiled function: call it, `bind` it to arrays, read its `source` and `report`."""

    def __init__(self, program: Program, signature: Signature, kernel: CompiledGraph) -> None:
        self.program = program
        self.signature = signature
        self.kernel = kernel
        plain = [formal for formal in signature.formals if not is_extent(formal)]
        self._flat = len(plain) == len(signature.formals) == len(kernel.inputs) and not signature.params
        self._single = len(kernel.outputs) == 1 and not hasattr(signature.result, "items")

    @property
    def source(self) -> str:
        """The generated Numba source."""
        return self.kernel.source

    @property
    def report(self) -> Any:
        """What was planned: buffers, memory, kernels."""
        return self.kernel.report

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Check and adapt the arguments, run, and build the result. Raises `ArgumentError` and `CheckFailed`."""
        if self._flat and not named:
            outputs = self.kernel.call_exact(arguments)
            if outputs is not None:
                return outputs[0] if self._single else build(self.signature.result, iter(outputs))
        leaves, extents = self.leaves(arguments, named)
        return build(self.signature.result, iter(self.kernel.call(leaves, extents)))

    def leaves(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, int]]:
        """The leaves of all formals as arrays, and the numbers of the size formals."""
        signature = self.signature
        defaults = dict(signature.defaults)
        for name in signature.params:
            if name not in named:
                defaults[name] = self.program.value_of(name)
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
            raise self._located(fault) from None
        return leaves, extents

    def bind(self, *arguments: Any, **named: Any) -> Any:
        """A call without checks on fixed arrays: `run = step.bind(x, y)`; each `run()` reads the arrays as they are
        then, writes the same output arrays and returns the result built on them."""
        leaves, extents = self.leaves(arguments, named)
        bound = self.kernel.bind(leaves, extents)
        result = build(self.signature.result, iter(bound.outputs))

        def run() -> Any:
            bound()
            return result

        return run

    def _located(self, fault: ArgumentError) -> DgraphError:
        """The same fault with the declaration of the argument shown."""
        first = fault.diagnostics[0]
        function = self.program.module.functions.get(self.signature.name)
        if first.labels or function is None:
            return fault
        quoted = first.title.split("`")[1].split(".")[0] if "`" in first.title else ""
        place = next((formal.span for formal in function.formals if formal.name == quoted), function.span)
        return ArgumentError(Diagnostic(first.title, (Label(place, "declared here"),), first.note))


def compile_function(function: Function, options: Options) -> Compiled:
    """Compile, or load what was compiled before. A hit parses nothing and imports neither lark nor numba."""
    options.verify()
    program = function.program
    asked = json.dumps([program.digest, str(function.recipe), asdict(options)], sort_keys=True)
    key = make_key("function", asked, machine=machine_name(), package=package_state())
    stored = Cache.default()
    entry = stored.get(key)
    if entry is not None:
        found = _unpack(entry)
        if found is not None:
            signature, kernel = found
            return Compiled(program, signature, kernel)
    from dgraph.program.build import build_kernel

    signature, kernel = build_kernel(program, function.recipe, options)
    read = files_read(program.module, program.file.parent if program.file is not None else None)
    stored.put(key, _pack(signature, kernel, read))
    return Compiled(program, signature, kernel)


@cache
def package_state() -> str:
    """A hash over the files of the installed dgraph: a changed compiler or standard library finds no old entries."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for folder in (root, root.parent / "grammar"):
        for file in sorted(folder.rglob("*")):
            if file.suffix in (".py", ".dg", ".lark", ".rules"):
                facts = file.stat()
                digest.update(f"{file}:{facts.st_size}:{facts.st_mtime_ns}".encode())
    return digest.hexdigest()


def _pack(signature: Signature, kernel: CompiledGraph, read: list[tuple[str, str | None]]) -> bytes:
    """The signature, the files that were read with a hash of each, and the kernel."""
    head = json.dumps({"signature": signature.to_json(), "read": read}).encode()
    return len(head).to_bytes(8, "little") + head + kernel.to_bytes()


def _unpack(entry: bytes) -> tuple[Signature, CompiledGraph] | None:
    """What `_pack` wrote, or None if one of the files has changed since."""
    length = int.from_bytes(entry[:8], "little")
    head = json.loads(entry[8 : 8 + length])
    if not still_stands(head["read"]):
        return None
    return Signature.from_json(head["signature"]), CompiledGraph.from_bytes(entry[8 + length :])
