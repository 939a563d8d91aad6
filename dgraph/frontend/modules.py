"""Modules: files of declarations, imports between them, and the prelude that every module sees.

A file beside the script wins over one of the same name in `dgraph/std`; modules of the standard library import only
from it, so that a script cannot change their meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from threading import RLock
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import DgraphError, Diagnostic, ScopeError, Source, Span
from dgraph.frontend import tree as t
from dgraph.frontend.habits import MODULES
from dgraph.frontend.read import read_module
from dgraph.reader import parse_module, read_file

STD = Path(__file__).parent.parent / "std"
PRELUDE = STD / "prelude.dg"
Named = t.TypeAlias | t.Record | t.Stored | t.Constant | t.Function


@dataclass(frozen=True, eq=False)
class Entry:
    """What a name of a module stands for: a declaration and the module that holds it, or another module."""

    module: Module
    item: Named | None
    span: Span


class LaterNames(dict[str, Entry]):
    """Names some of which are entered when they are first asked for; `later` says by what."""

    def __init__(self) -> None:
        super().__init__()
        self.later: dict[str, Callable[[], None]] = {}

    def __getitem__(self, name: str) -> Entry:
        self.enter(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The entry of a name."""
        self.enter(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self.later or super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self.enter(*self.later)
        return super().__iter__()

    def items(self) -> Any:
        """Every name with its entry."""
        self.enter(*self.later)
        return super().items()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (), None, None, iter(self.items())

    def enter(self, *names: str) -> None:
        """Have names entered, if they are to be."""
        for name in names:
            made = self.later.get(name)
            if made is not None:
                made()


@dataclass(eq=False)
class Module:
    """One file, read; its imports are loaded, but those of the prelude when a name of theirs is looked up. `names`
    holds its own declarations and what it imports; `family` are all modules of the program that are loaded."""

    name: str
    source: Source
    tree: t.ModuleTree
    prelude: Module | None
    family: list[Module] = field(repr=False)
    names: dict[str, Entry] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        # A copy could not read what is still to be read.
        list(self.names)
        return vars(self)

    def lookup(self, name: str) -> Entry | None:
        """What a name means here: the module's own names first, then the prelude."""
        found = self.names.get(name)
        if found is None and self.prelude is not None:
            found = self.prelude.names.get(name)
        return found

    def declared(self) -> Iterator[Named]:
        """The declarations of this file in order, imports left out."""
        return (item for item in self.tree.items if not isinstance(item, t.ImportModule | t.ImportNames))

    @property
    def functions(self) -> dict[str, t.Function]:
        """The functions of this file by name, in order."""
        return {item.name: item for item in self.declared() if isinstance(item, t.Function)}

    @cached_property
    def rules(self) -> dict[str, t.Function]:
        """The rules of this file, `@derivative(of=f)`, by the names of their functions; of several, the first."""
        found: dict[str, t.Function] = {}
        for item in self.functions.values():
            for annotation in item.annotations:
                for option in annotation.keywords if annotation.name == "derivative" else ():
                    if option.name == "of" and isinstance(option.value, t.Name):
                        found.setdefault(option.value.name, item)
        return found

    def rule_of(self, function: t.Node) -> t.Function | None:
        """The rule of a function of this file, if it has one."""
        if not isinstance(function, t.Function) or self.functions.get(function.name) is not function:
            return None
        return self.rules.get(function.name)

    @property
    def stored(self) -> dict[str, t.Stored]:
        """Params and states visible here by name: those of this file, then imported ones."""
        entries = {name: entry.item for name, entry in self.names.items() if isinstance(entry.item, t.Stored)}
        return {name: item for name, item in entries.items() if isinstance(item, t.Stored)}


def load(path: str | Path) -> Module:
    """Read a script with everything that it imports."""
    file = Path(path)
    return _Loader(file.parent).module(file, file.stem, str(path))


def parse(text: str, path: str = "<text>") -> Module:
    """Read a program from a string; it may import the standard library only."""
    loader = _Loader(None)
    source, parsed = parse_module(text, path)
    return loader.finish("main", source, read_module(source, parsed), standard=False)


class _Loader:
    """Loads each file once and finds import cycles."""

    def __init__(self, beside: Path | None) -> None:
        self.beside = beside
        self.loaded: dict[Path, Module] = {}
        self.family: list[Module] = []
        self.loading: list[tuple[Path, Span | None]] = []
        self.lock = RLock()

    def module(self, file: Path, name: str, shown: str, importer: Span | None = None) -> Module:
        """The module of a file."""
        place = file.resolve()
        if place in self.loaded:
            return self.loaded[place]
        active = [path for path, _ in self.loading]
        if place in active:
            ring = self.loading[active.index(place) + 1 :]
            others = [(span, "which imports") for _, span in ring if span is not None]
            assert importer is not None
            raise ScopeError.at(
                importer,
                f"`{name}` imports itself",
                "closes the circle",
                also=others,
                note="move what both need into a third module",
            )
        self.loading.append((place, importer))
        try:
            standard = STD in place.parents
            source, tree = _standard_tree(file, shown) if standard else _tree(file, shown)
            module = self.finish(name, source, tree, standard, is_prelude=file == PRELUDE)
        finally:
            self.loading.pop()
        self.loaded[place] = module
        return module

    def finish(self, name: str, source: Source, tree: t.ModuleTree, standard: bool, is_prelude: bool = False) -> Module:
        """The module of a syntax tree: its names filled in."""
        prelude = None if standard else self.module(PRELUDE, "prelude", "std/prelude.dg")
        module = Module(name, source, tree, prelude, self.family, LaterNames() if is_prelude else {})
        self.family.append(module)
        faults: list[Diagnostic] = []
        for item in tree.items:
            try:
                if is_prelude and isinstance(item, t.ImportNames):
                    self.declare_later(module, item)
                else:
                    self.declare(module, item, standard)
            except DgraphError as fault:
                faults.extend(fault.diagnostics)
        if faults:
            raise ScopeError(*faults[:10])
        return module

    def declare_later(self, module: Module, item: t.ImportNames) -> None:
        """Have the names that the prelude imports entered when one of them is looked up: few programs need many."""
        names = module.names
        assert isinstance(names, LaterNames)

        def enter() -> None:
            with self.lock:
                if item.names[0].name in names.later:
                    other = self.find(item.path, item.span, standard=True)
                    for imported in item.names:
                        found = other.names[imported.name]
                        names[imported.name] = Entry(found.module, found.item, imported.span)
                        del names.later[imported.name]

        names.later |= dict.fromkeys((imported.name for imported in item.names), enter)

    def declare(self, module: Module, item: t.Declaration, standard: bool) -> None:
        """Enter the names of one item of a module."""
        if isinstance(item, t.ImportModule):
            other = self.find(item.path, item.span, standard)
            if item.alias is None and len(item.path) > 1:
                note = f"write `import {'.'.join(item.path)} as {item.path[-1]}`"
                raise ScopeError.at(item.span, "a module inside a folder is imported under a name", note=note)
            _enter(module, item.alias or item.path[-1], Entry(other, None, item.span))
        elif isinstance(item, t.ImportNames):
            other = self.find(item.path, item.span, standard)
            for imported in item.names:
                found = other.names.get(imported.name)
                if found is None:
                    raise unknown(
                        imported.span,
                        f"`{'.'.join(item.path)}` has no `{imported.name}`",
                        imported.name,
                        list(other.names),
                    )
                _enter(module, imported.alias or imported.name, Entry(found.module, found.item, imported.span))
        else:
            place = item.name_span if isinstance(item, t.Function) else item.span
            _enter(module, item.name, Entry(module, item, place))

    def find(self, path: tuple[str, ...], span: Span, standard: bool) -> Module:
        """The module that a dotted path names."""
        relative = Path(*path).with_suffix(".dg")
        if not standard and self.beside is not None and (self.beside / relative).is_file():
            return self.module(self.beside / relative, ".".join(path), str(self.beside / relative), span)
        if (STD / relative).is_file():
            return self.module(STD / relative, ".".join(path), f"std/{relative.as_posix()}", span)
        known = [".".join(file.relative_to(STD).with_suffix("").parts) for file in sorted(STD.rglob("*.dg"))]
        place = f"{relative.as_posix()} is neither beside the script nor in the standard library"
        if path[0] in MODULES:
            note = "a program imports `.dg` files only; functions such as `exp`, `sum` and `normal` need no import"
            raise ScopeError.at(span, f"there is no module `{'.'.join(path)}`", "a module of Python", note=note)
        raise unknown(span, f"there is no module `{'.'.join(path)}`", ".".join(path), known, place)


def _tree(file: Path, shown: str) -> tuple[Source, t.ModuleTree]:
    source, parsed = parse_module(read_file(file), shown)
    return source, read_module(source, parsed)


@cache
def _standard_tree(file: Path, shown: str) -> tuple[Source, t.ModuleTree]:
    """A module of the standard library, parsed once: syntax trees never change."""
    return _tree(file, shown)


def _enter(module: Module, name: str, entry: Entry) -> None:
    before = module.names.get(name)
    if before is not None:
        also = [(before.span, "first here")]
        note = "give one of them another name"
        raise ScopeError.at(entry.span, f"`{name}` is defined twice", "again here", also=also, note=note)
    module.names[name] = entry


def require_distinct(parts: Sequence[t.Generic | t.Formal | t.Field]) -> None:
    """Names that one declaration introduces must differ."""
    seen: dict[str, Span] = {}
    for part in parts:
        if part.name in seen:
            also = [(seen[part.name], "first here")]
            note = "give one of them another name"
            raise ScopeError.at(part.span, f"`{part.name}` is declared twice", "again here", also=also, note=note)
        seen[part.name] = part.span


def unknown(span: Span, title: str, name: str, known: list[str], note: str = "") -> ScopeError:
    """An unknown name, with the nearest known one."""
    near = get_close_matches(name, known, 1, 0.6)
    advice = f"did you mean `{near[0]}`?" if near else note
    return ScopeError.at(span, title, "not known here", note=advice)
