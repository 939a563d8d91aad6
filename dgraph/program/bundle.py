"""Bundles: a compiled function as one file that runs where its program is not, without compiling.

A bundle is a zip archive: `function.json` (the signature and the versions that wrote it), `code.bin` (the interface,
object code and the source that it was made from) and `params.npz` (the params and states that the function reads).
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.errors import ArgumentError, DataError, Diagnostic, NotSupported
from dgraph.kernels.cache import makers
from dgraph.kernels.compile import CompiledGraph
from dgraph.kernels.load import uses_disk
from dgraph.program.arguments import build, flatten
from dgraph.program.compiled import Compiled, Options, promoted
from dgraph.program.signature import Signature

FORMAT = 2
"""Raised when older bundles cannot be read any more."""

_HEAD, _CODE, _PARAMS = "function.json", "code.bin", "params.npz"


def write_bundle(compiled: Compiled, path: Path) -> None:
    """Write a compiled function to a file, whole or not at all.

    Raises `NotSupported` for a function whose code depends on the call: one that is generic, has a budget, is sparse,
    or keeps states on disk; `ArgumentError` if the file cannot be written.
    """
    _refuse_what_changes(compiled)
    head = {"format": FORMAT, "dgraph": makers()[0], "signature": compiled.signature.to_json()}
    leaves: dict[str, np.ndarray[Any, Any]] = {}
    for formal in compiled.signature.formals:
        if formal.name in compiled.signature.params:
            value = promoted(formal.type, compiled.value_of(formal.name))
            for at, leaf in enumerate(flatten(formal.name, formal.type, value)):
                leaves[f"{formal.name}.{at}"] = leaf
    params = io.BytesIO()
    np.savez(params, allow_pickle=False, **leaves)
    parts = {_HEAD: json.dumps(head).encode(), _CODE: compiled.kernel.to_bytes(), _PARAMS: params.getvalue()}
    try:
        _replace(path, parts)
    except OSError as fault:
        raise ArgumentError(Diagnostic(f"cannot write {path}", (), fault.strerror or str(fault))) from None


def _refuse_what_changes(compiled: Compiled) -> None:
    reasons = {
        "Generic": "it is generic: give its arguments types in the program",
        "Budgeted": "what it keeps is chosen at a call: leave the budget out, or use `@checkpoint(slots=...)`",
        "SparseFunction": "its pattern is found at a call: ask for a dense matrix, or for products with it",
    }
    reason = reasons.get(type(compiled).__name__)
    if reason is None and uses_disk(compiled.kernel.code):
        reason = "it keeps states on disk: leave `disk=` out of its `@checkpoint`"
    if reason is not None:
        raise NotSupported(Diagnostic(f"{compiled.function.recipe.words} cannot be written to a bundle", (), reason))


def _replace(path: Path, parts: dict[str, bytes]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in parts.items():
                archive.writestr(part, content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def read_bundle(place: Path) -> Bundled:
    """The function in a bundle. On another kind of processor its code is made anew from the source inside.

    Raises `DataError` for a file that is not there or is no bundle.
    """
    try:
        with zipfile.ZipFile(place) as archive:
            head, code, params = (archive.read(part) for part in (_HEAD, _CODE, _PARAMS))
        known = json.loads(head)
        if known["format"] != FORMAT:
            note = f"dgraph {known['dgraph']} wrote it, and this is {makers()[0]}: export it again"
            raise DataError(Diagnostic(f"{place} is a bundle of another format", (), note))
        signature = Signature.from_json(known["signature"])
        kernel = CompiledGraph.from_bytes(code)
        with np.load(io.BytesIO(params), allow_pickle=False) as stored:
            values = {name: _value(signature, name, stored) for name in signature.params}
    except OSError as fault:
        raise DataError(Diagnostic(f"cannot read {place}", (), fault.strerror or str(fault))) from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as fault:
        note = "it is damaged, or no bundle: `dgraph export FILE:FUNC --aot OUT` writes one"
        raise DataError(Diagnostic(f"cannot read {place} as a bundle", (), note)) from fault
    return Bundled(place, signature, kernel, values)


def _value(signature: Signature, name: str, stored: Any) -> Any:
    type_ = next(formal.type for formal in signature.formals if formal.name == name)
    count = sum(key.rpartition(".")[0] == name for key in stored.files)
    return build(type_, iter([stored[f"{name}.{at}"] for at in range(count)]))


class Bundled(Compiled):
    """The function of a bundle: called, bound and asked for its memory as any compiled function."""

    def __init__(self, path: Path, signature: Signature, kernel: CompiledGraph, params: dict[str, Any]) -> None:
        self.path = path
        self.params = params
        self._set_up(Options(), signature, kernel)

    def value_of(self, name: str) -> Any:
        """The value of a param or state that the function reads."""
        return self.params[name]

    def located(self, fault: ArgumentError) -> ArgumentError:
        """The fault as it is: the program is elsewhere."""
        return fault

    def profile(self, *arguments: Any, **named: Any) -> Any:
        """Refused: clocks are put around parts of the program, which is elsewhere."""
        note = "use `dgraph profile` on the program"
        raise NotSupported(Diagnostic(f"a bundle has no parts to time: {self.path}", (), note))

    def export(self, path: str | os.PathLike[str]) -> None:
        """Refused: the bundle is a file that can be copied."""
        raise NotSupported(Diagnostic(f"this function came from a bundle: copy {self.path}"))

    def __reduce__(self) -> tuple[Any, ...]:
        return read_bundle, (self.path,)

    def __repr__(self) -> str:
        return f"<dgraph bundle {self.signature.name} of {self.path}>"
