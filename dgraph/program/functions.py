"""Programs and their functions as Python sees them, and the transforms from function to function."""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, SupportsIndex

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, DataError, Diagnostic, NotFinite, ScopeError

if TYPE_CHECKING:
    from dgraph.frontend.modules import Module
    from dgraph.ir.graph import Graph
    from dgraph.program.compiled import Compiled
    from dgraph.program.signature import Signature
    from dgraph.program.sources import Files

TRANSFORMS = ("grad", "value_and_grad", "jvp", "vjp", "jacobian", "hessian", "hvp", "vmap")

COMPILING = RLock()
"""Held while anything is read, lowered or compiled: these are work for one thread at a time."""
Types = tuple[tuple[str, str, int], ...]
"""Name, dtype and number of axes of formals that are generic in a dtype or a shape."""


@dataclass(frozen=True)
class Recipe:
    """How a function is made: a def of the program by name, with types for its generic formals, or a transform of
    another recipe with its options."""

    name: str
    of: Recipe | None = None
    options: tuple[tuple[str, Any], ...] = ()
    types: Types = ()

    @property
    def root(self) -> Recipe:
        """The def at the bottom."""
        return self if self.of is None else self.of.root

    def with_types(self, types: Types) -> Recipe:
        """The same for a def whose generic formals have these types."""
        if self.of is None:
            return replace(self, types=types)
        return replace(self, of=self.of.with_types(types))

    @property
    def words(self) -> str:
        """How the function is called in messages."""
        return self.name if self.of is None else f"{self.name}({self.of.words})"

    def __str__(self) -> str:
        if self.of is None:
            types = ", ".join(f"{name}: {dtype}[{', '.join('_' * rank)}]" for name, dtype, rank in self.types)
            return f"{self.name}({types})" if types else self.name
        listed = "".join(f", {key}={value!r}" for key, value in self.options)
        return f"{self.name}({self.of}{listed})"


class Program:
    """A `.dg` program. Its functions are attributes; `params` holds the values of its params.

    A text that was read before is read again only when something is asked of it that no cache can answer.
    """

    def __init__(self, text: str, path: str, file: Path | None, seed: int = 0) -> None:
        if not isinstance(seed, SupportsIndex) or not 0 <= operator.index(seed) < 2**64:
            raise ArgumentError(Diagnostic(f"the seed {seed} is not a whole number from 0 to 2**64 - 1"))
        self.text = text
        self.path = path
        self.file = file
        self.seed = operator.index(seed)
        self.place = file.absolute() if file is not None else None
        self._params: dict[str, Any] = {}
        self._functions: dict[Recipe, Function] = {}
        self._read: tuple[Module, Files] | None = None

    @property
    def module(self) -> Module:
        """The program as the front end sees it. Raises `DgraphError` if it cannot be read."""
        with COMPILING:
            return self._module_and_files()[0]

    @property
    def files(self) -> Files:
        """The files on which the meaning of the program rests; see `files_read`."""
        with COMPILING:
            return self._module_and_files()[1]

    def _module_and_files(self) -> tuple[Module, Files]:
        if self._read is None:
            from dgraph.frontend import load_program, parse_program
            from dgraph.program.sources import files_read
            from dgraph.reader.files import normalise

            if self.file is None or self.place is None:
                self._read = parse_program(self.text, self.path), []
                return self._read
            # The working directory may have changed since the program was loaded.
            module = load_program(self.file if self.file.absolute() == self.place else self.place)
            if module.source.text != normalise(self.text):
                note = "load it again with dg.load"
                raise DataError(Diagnostic(f"{self.path} has changed since it was loaded", (), note))
            self._read = module, files_read(module, self.place.parent)
        return self._read

    @cached_property
    def digest(self) -> str:
        """A hash of the text and of where it stands: the start of every cache key."""
        return hashlib.sha256(f"{self.place or ''}\n{self.text}".encode("utf-8", "surrogatepass")).hexdigest()

    def function(self, name: str) -> Function:
        """A function by name. Raises `ScopeError` if there is none."""
        if not isinstance(name, str):
            raise ArgumentError(Diagnostic(f"a function is asked for by its name, not by {type(name).__name__}"))
        if not re.search(rf"^def[ \t]+{re.escape(name)}\b", self.text, re.MULTILINE) and (
            name not in self.module.functions
        ):
            from difflib import get_close_matches

            near = get_close_matches(name, self.module.functions, 1)
            known = ", ".join(self.module.functions) or "none"
            note = f"did you mean `{near[0]}`?" if near else f"its functions are {known}"
            raise ScopeError(Diagnostic(f"{self.path} has no function `{name}`", (), note))
        return self.made(Recipe(name))

    def made(self, recipe: Recipe) -> Function:
        """The function of a recipe: always the same one, so that it is compiled once however often it is asked for."""
        return self._functions.get(recipe) or self._functions.setdefault(recipe, Function(self, recipe))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_functions": {}}

    def __getattr__(self, name: str) -> Function:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.function(name)
        except ScopeError as fault:
            raise AttributeError(fault.diagnostics[0].title) from fault

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.module.functions})

    @property
    def params(self) -> Mapping[str, Any]:
        """The values of params and states by name; initialised from their initialisers and the seed on first use."""
        for name in self.module.stored:
            self.value_of(name)
        return dict(self._params)

    def value_of(self, name: str) -> Any:
        """The value of one param or state."""
        if name not in self._params:
            from dgraph.params import initial_leaves
            from dgraph.program.arguments import build

            with COMPILING:
                type_, leaves = initial_leaves(self.module, name, self.seed)
            self._params[name] = build(type_, iter(leaves))
        return self._params[name]

    def set_params(self, values: Mapping[str, Any]) -> None:
        """Give params other values: those of a run, say. Raises `DgraphError` for a name that is not a param, and for a
        value that is not of its type."""
        from dgraph.frontend import stored
        from dgraph.program.arguments import flatten

        unknown = [name for name in values if name not in self.module.stored]
        if unknown:
            known = ", ".join(self.module.stored) or "none"
            raise DataError(Diagnostic(f"{self.path} has no param `{unknown[0]}`", (), f"its params are {known}"))
        declared = stored(self.module)
        for name, value in values.items():
            for _ in flatten(name, declared[name].type, value, declared[name].span):
                pass
        self._params.update(values)

    def __repr__(self) -> str:
        return f"<dgraph program {self.path}>"


class Function:
    """A function of a program, or a transform of one. Compiled when it is first called; `graph` is its source graph."""

    def __init__(self, program: Program, recipe: Recipe) -> None:
        self.program = program
        self.recipe = recipe

    @cached_property
    def lowered(self) -> tuple[Graph, Signature]:
        """What the front end makes of the function. Raises `DgraphError` for a faulty program."""
        from dgraph.program.lower import lower

        with COMPILING:
            return lower(self.program.module, self.recipe)

    @property
    def graph(self) -> Graph:
        """The graph that the front end makes, transforms still in it. Raises `DgraphError` for a faulty program."""
        return self.lowered[0]

    @cached_property
    def compiled(self) -> Compiled:
        """The function compiled with default options."""
        return compile(self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Arguments by position or name; params are keyword arguments that default to the program's values."""
        return self.compiled(*arguments, **named)

    def with_types(self, types: Types) -> Function:
        """The function with its generic formals of these types."""
        return self.program.made(self.recipe.with_types(types))

    def __reduce__(self) -> tuple[type[Function], tuple[Program, Recipe]]:
        return Function, (self.program, self.recipe)

    def draw(self, path: str | Path, /, stage: str = "source", **arguments: Any) -> None:
        """Write a picture of a stage of the graph, `.svg .png .pdf .dot`; with arguments, the values of a run on it."""
        from dgraph.program.pictures import draw_function

        draw_function(self, path, stage, arguments or None)

    def _repr_svg_(self) -> str:
        from dgraph.program.pictures import svg_of

        return svg_of(self)

    def __repr__(self) -> str:
        return f"<dgraph function {self.recipe} of {self.program.path}>"


def load(path: str | Path, *, seed: int = 0) -> Program:
    """Load a program from a `.dg` file. Raises `DgraphError` if it, or a module that it imports, cannot be read."""
    from dgraph.program.sources import read_through
    from dgraph.reader.files import read_file

    file = _path(path, "load", "a program")
    program = Program(read_file(file), str(path), file, seed)
    read_through(program)
    return program


def _path(path: str | PathLike[str], action: str, of: str) -> Path:
    """A path that is given for a file. Raises `ArgumentError` for what names no file."""
    is_path = isinstance(path, str | PathLike)
    if not is_path or not str(path) or "\0" in str(path):
        given = repr(str(path)) if is_path else type(path).__name__
        raise ArgumentError(Diagnostic(f"{action} takes the path of {of}, not {given}"))
    return Path(path)


def parse(text: str, *, path: str = "<text>", seed: int = 0) -> Program:
    """A program from its text. Raises `DgraphError` if it is faulty."""
    if not isinstance(text, str):
        raise ArgumentError(Diagnostic(f"parse takes the text of a program, not {type(text).__name__}"))
    program = Program(text, path, None, seed)
    _ = program.module
    return program


def compile(
    function: Function,
    *,
    device: str = "cpu",
    precision: str | None = None,
    parallel: bool | int = True,
    budget: str | None = None,
    checks: str = "on",
    math: str = "fast",
    schedule: Mapping[str, str] | None = None,
    debug: bool = False,
) -> Compiled:
    """Compile a function; see `Compiled`, and `Options` for what can be chosen. With `debug` a call whose result is nan
    or infinite raises `DgraphError` that names the line, the step and the way, and a derivative that depends on the
    choice of a basis earns a `RuntimeWarning`. Raises `DgraphError` for a faulty program or option."""
    from dgraph.program.compiled import Options, compile_function

    _require_function("compile", function)
    return compile_function(function, Options(device, precision, parallel, budget, checks, math, schedule, debug))


def load_bundle(path: str | PathLike[str]) -> Compiled:
    """The function that `Compiled.export` or `dgraph export --aot` wrote to a file. A bundle holds machine code: load
    only what you would run. Raises `DataError` for a file that is none."""
    from dgraph.program.bundle import read_bundle

    return read_bundle(_path(path, "load_bundle", "a bundle"))


def find_nonfinite(function: Function, **options: Any) -> Callable[..., NotFinite | None]:
    """`find_nonfinite(f)(x)`: why a result of `f(x)` is nan or infinite, as an error that is returned and not raised;
    None if all is finite. The options are those of `compile`."""
    from dgraph.program.nonfinite import finder

    _require_function("find_nonfinite", function)
    return finder(compile(function, **options))


def _require_function(action: str, function: object) -> None:
    """Raise `ArgumentError` for what is no function of a program."""
    if not isinstance(function, Function):
        title = f"{action} takes a function of a program, not {type(function).__name__}"
        raise ArgumentError(Diagnostic(title, (), f"as in dg.{action}(program.loss)"))


def _transformed(kind: str, function: Function, **options: Any) -> Function:
    _require_function(kind, function)
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    kept = tuple((key, value) for key, value in given.items() if value is not None and value != ())
    for key, value in kept:
        entries = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(entry, str | int) for entry in entries):
            raise ArgumentError(Diagnostic(f"{key}={value!r} of {kind} is no name and no tuple of names"))
    return function.program.made(Recipe(kind, function.recipe, kept))


Names = str | Sequence[str] | None


def grad(function: Function, wrt: Names = None, *, mode: str | None = None) -> Function:
    """The derivative of a scalar function (or of the first entry of a tuple), with respect to a formal or a tuple of
    formals; params count as formals. Default: the first float formal."""
    return _transformed("grad", function, wrt=wrt, mode=mode)


def value_and_grad(function: Function, wrt: Names = None, *, mode: str | None = None) -> Function:
    """The value and the derivative."""
    return _transformed("value_and_grad", function, wrt=wrt, mode=mode)


def jvp(function: Function, wrt: Names = None) -> Function:
    """`jvp(f)(x, dx)`: the value and the derivative along dx."""
    return _transformed("jvp", function, wrt=wrt)


def vjp(function: Function, wrt: Names = None) -> Function:
    """`vjp(f)(x, ct)`: the cotangents of the inputs for a cotangent of the output."""
    return _transformed("vjp", function, wrt=wrt)


def jacobian(function: Function, wrt: Names = None, *, mode: str | None = None) -> Function:
    """All partial derivatives: the axes of the output, then those of the input; with `mode="sparse"` a
    `scipy.sparse.csr_array` with a row for each entry of the output and a column for each of the input."""
    return _transformed("jacobian", function, wrt=wrt, mode=mode)


def hessian(function: Function, wrt: Names = None, *, mode: str | None = None) -> Function:
    """All second partial derivatives of a scalar function; `mode="sparse"` as for `jacobian`."""
    return _transformed("hessian", function, wrt=wrt, mode=mode)


def hvp(function: Function, wrt: Names = None) -> Function:
    """`hvp(f)(x, v)`: the Hessian times v."""
    return _transformed("hvp", function, wrt=wrt)


def vmap(function: Function, over: Names = None) -> Function:
    """The function for every entry of the leading axis of each named formal."""
    return _transformed("vmap", function, over=over)
