"""The state of one lowering and the tables through which its parts find each other.

Each file of rules registers what it handles: `evaluate` looks up the class of an expression, `execute` of a
statement, `invoke` of a function value. So rules never import one another in circles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Any, TypeVar

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, NotSupported, ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.habits import NAMES
from dgraph.frontend.modules import Entry, Module, unknown
from dgraph.frontend.ranges import Read, Unknown
from dgraph.frontend.values import (
    AliasValue,
    Binding,
    Bound,
    Builtin,
    Closure,
    DTypeValue,
    ModuleValue,
    RecordMaker,
    WeakKey,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value, Wish
from dgraph.sizes import Atom, Size
from dgraph.types import DTYPES, F32, F64, DType, Record

DEEPEST_CALLS = 150
HALF = ("f16", "bf16")
"""Types of the language that only some devices have."""

EVALUATE: dict[type[t.Node], Callable[[Any, Any], Bound]] = {}
EXECUTE: dict[type[t.Node], Callable[[Any, Any], None]] = {}
INVOKE: dict[type, Callable[[Any, Any, Arguments], Bound]] = {}
BUILTINS: dict[str, Callable[[Any, Arguments], Bound]] = {}
"""Functions of the language itself, by name."""

Rule = TypeVar("Rule", bound=Callable[..., Any])
Result = TypeVar("Result")


def evaluates(*kinds: type[t.Node]) -> Callable[[Rule], Rule]:
    """Register the rule for some classes of expressions."""
    return _register(EVALUATE, *kinds)


def executes(*kinds: type[t.Node]) -> Callable[[Rule], Rule]:
    """Register the rule for some classes of statements."""
    return _register(EXECUTE, *kinds)


def invokes(*kinds: type) -> Callable[[Rule], Rule]:
    """Register how some classes of function values are applied."""
    return _register(INVOKE, *kinds)


def builtin(*names: str) -> Callable[[Rule], Rule]:
    """Register a function of the language under its names."""
    return _register(BUILTINS, *names)


def _register(table: dict[Any, Any], *keys: Any) -> Callable[[Rule], Rule]:
    def put(rule: Rule) -> Rule:
        table.update(dict.fromkeys(keys, rule))
        return rule

    return put


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of a call, evaluated, with their places."""

    positional: Sequence[Binding]
    keywords: Mapping[str, Binding]
    span: Span

    @staticmethod
    def of(*values: Bound, span: Span, **keywords: Bound) -> Arguments:
        """Arguments that stand at one place."""
        named = {name: Binding(value, span) for name, value in keywords.items()}
        return Arguments([Binding(value, span) for value in values], named, span)


class Retype(Exception):
    """A literal must have another dtype than its default; the owning frame starts again with it. It yields to a later
    need if only sizes and indices, which take the type they meet, asked for it."""

    def __init__(self, key: WeakKey, dtype: DType, *, yields: bool = False) -> None:
        super().__init__(key, dtype)
        self.key, self.dtype, self.yields = key, dtype, yields


@dataclass(eq=False)
class Frame:
    """One function instance being lowered. `choices` are the dtypes that its literals were found to need; those of
    `yielding` were asked for by sizes and indices only. `call` is where it was called."""

    words: str
    identity: tuple[object, ...]
    choices: dict[WeakKey, DType] = field(default_factory=dict)
    yielding: set[WeakKey] = field(default_factory=set)
    call: Span = NOWHERE


@dataclass(eq=False)
class Loop:
    """The innermost `for`: its variable, what has been collected in it, and why collecting is impossible here."""

    variable: str
    length: Size | None
    collected: dict[str, Binding] = field(default_factory=dict)
    forbidden: str = ""


class Context:
    """Where lowering stands: builder, module, local names, params, frame."""

    def __init__(self, module: Module, precision: DType | None = None, *, leaves_sweeps: bool = False) -> None:
        self.g = Builder()
        self.module = module
        self.precision = precision
        self.leaves_sweeps = leaves_sweeps
        """Whether the sweeps of a Jacobian in no certain mode are left to be chosen at a call."""
        self.names: dict[str, Binding] = {}
        self.stored: dict[t.Stored, Bound] = {}
        self.frames: list[Frame] = []
        self.path: tuple[object, ...] = ()
        self.node: t.Node = module.tree
        self.lifted: dict[t.Node, Callable[[], Bound]] = {}
        self.facts: tuple[Size, ...] = ()
        self.ranges: dict[Value, tuple[Size, Size]] = {}
        self.repeats: dict[Builder, tuple[Size, ...]] = {}
        """How often the body of an index space or a loop runs, by the builder of the body."""
        self.reads: list[Read] | None = None
        self.is_guarded = False
        self.unknowns: list[tuple[Unknown, t.Over]] = []
        self.probe: Builder | None = None
        self.solved: dict[t.Over, Size] = {}
        self.result: t.TypeExpression | None = None
        """The declared type of the function around, if it has one."""
        self.copied = 0
        """In how many branches around, one in another, the rest of the function is copied into several ends."""
        self.equal: tuple[Mapping[Atom, Size], ...] = ()
        """The size variables that assertions have written with others, in order."""
        self.elementwise: frozenset[str] = frozenset()
        self.loop: Loop | None = None
        self.ambient_key: Callable[[], Bound] | None = None
        self.constants: list[t.Constant] = []
        self.opened: list[t.Record | t.TypeAlias] = []
        self.hidden: dict[str, tuple[Span, str]] = {}
        self.records: dict[Record, RecordMaker] = {}
        self.instances: dict[tuple[object, ...], Any] = {}
        self.sizes: dict[str, None] = {}
        """The size variables of the graph."""
        self.wishes: list[Wish] = []
        self.computed = 0
        """How many wishes of loops were computed so far."""
        self.origins: dict[Value, Value] = {}
        """The arguments that inputs of the functions around stand for."""

    # ---- rules --------------------------------------------------------------------------------------------------

    def evaluate(self, node: t.Node) -> Bound:
        """The value of an expression, or of a constant of a module."""
        lifted = self.lifted.get(node)
        if lifted is not None:
            return lifted()
        before, span = self.node, self.g.span
        self.node = node
        g = self.g
        g.span = node.span
        try:
            return EVALUATE[type(node)](self, node)
        finally:
            self.node, g.span = before, span

    def execute(self, node: t.Statement) -> None:
        """The effect of a statement on the names."""
        before, g = self.node, self.g
        span = g.span
        self.node = node
        g.span = node.span
        try:
            EXECUTE[type(node)](self, node)
        finally:
            self.node, g.span = before, span

    def invoke(self, function: Bound, arguments: Arguments) -> Bound:
        """A function value applied."""
        rule = INVOKE.get(type(function))
        if rule is None:
            from dgraph.frontend.values import describe

            note = "a product is written with `*`, an entry of an array with [ ]"
            said = f"this is {describe(function)}"
            raise TypeMismatch.at(arguments.span, "this is called but is not a function", said, note=note)
        return rule(self, function, arguments)

    # ---- names --------------------------------------------------------------------------------------------------

    def lookup(self, name: str, span: Span) -> Binding:
        """What a name is bound to: locals, the module, the prelude, the language."""
        local = self.names.get(name)
        if local is not None:
            return local
        entry = self.module.lookup(name)
        # A constant that is defined by the function of the language that it shadows: `zeros = zeros`.
        if entry is not None and not (entry.item in self.constants and name in BUILTINS):
            return Binding(self.entry(entry, span), entry.span)
        if name in DTYPES:
            return Binding(DTypeValue(self.dtype(name)), span)
        if name in BUILTINS:
            return Binding(Builtin(name), span)
        if name in HALF:
            note = "compute in `f32`: there are no 16-bit floats on the CPU"
            raise NotSupported.at(span, f"`{name}` is not supported on this device", "a type of 16 bits", note=note)
        known = [*self.names, *self.module.names, *BUILTINS, *DTYPES]
        hidden = self.hidden.get(name)
        if hidden is not None:
            note = "bind it before" if "loop" in hidden[1] else "bind it before, or in every branch with one type"
            raise ScopeError.at(span, f"`{name}` is not visible here", "read here", also=[hidden], note=note)
        if name in NAMES:
            raise ScopeError.at(span, f"`{name}` is not defined", "not known here", note=NAMES[name])
        raise unknown(span, f"`{name}` is not defined", name, known)

    def knows(self, name: str) -> bool:
        """Whether a name means anything here."""
        return name in self.names or self.module.lookup(name) is not None or name in BUILTINS or name in DTYPES

    def dtype(self, name: str) -> DType:
        """A dtype by name, promoted where the caller asked for it."""
        dtype = DTYPES[name]
        return self.precision if self.precision is not None and dtype in (F32, F64) else dtype

    def entry(self, entry: Entry, span: Span) -> Bound:
        """The value of a name of a module."""
        item = entry.item
        if item is None:
            return ModuleValue(entry.module)
        if isinstance(item, t.Function):
            return Closure(item, entry.module)
        if isinstance(item, t.Record):
            return RecordMaker(item, entry.module)
        if isinstance(item, t.TypeAlias):
            return AliasValue(item, entry.module)
        if isinstance(item, t.Stored):
            held = self.stored.get(item)
            if held is None:
                title = f"the {item.kind} `{item.name}` cannot be read here"
                note = "constants, defaults and initial values are fixed; read it inside a function"
                raise ScopeError.at(span, title, "has no value yet", note=note)
            return held
        return self.constant(item, entry.module, span)

    def constant(self, item: t.Constant, module: Module, span: Span) -> Bound:
        """A constant of a module, evaluated afresh at each use."""
        if item in self.constants:
            # Told from the first of the circle, whichever it was entered at, so that it is told once.
            ring = self.constants[self.constants.index(item) :]
            at = min(range(len(ring)), key=lambda place: (ring[place].span.source.path, ring[place].span.start))
            first, *others = ring[at:] + ring[:at]
            also = [(other.span, "which needs this") for other in others]
            title = f"the constant `{first.name}` needs itself"
            note = "give one of them a value of its own" if others else "a constant has one value"
            raise ScopeError.at(first.span, title, "defined here", also=also, note=note)
        self.constants.append(item)
        try:
            with self.within(module, {}):
                return self.evaluate(item)
        finally:
            self.constants.pop()

    # ---- where we are -------------------------------------------------------------------------------------------

    @property
    def frame(self) -> Frame:
        """The function instance being lowered."""
        return self.frames[-1]

    @contextmanager
    def within(self, module: Module, names: dict[str, Binding]) -> Iterator[None]:
        """The body of another function or module: other names, no loop around it."""
        before = self.module, self.names, self.loop, self.lifted, self.reads, self.solved, self.result
        hidden, self.hidden = self.hidden, {}
        self.module, self.names, self.loop, self.lifted, self.reads, self.solved = module, names, None, {}, None, {}
        try:
            with self._forgetting():
                yield
        finally:
            self.module, self.names, self.loop, self.lifted, self.reads, self.solved, self.result = before
            self.hidden = hidden

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """What assertions say inside is forgotten afterwards: they need not have run there."""
        facts, equal, ranges = self.facts, self.equal, self.ranges
        try:
            yield
        finally:
            self.facts, self.equal = facts, equal
            if self.ranges is not ranges:
                self.ranges = {**self.ranges, **ranges}

    @contextmanager
    def region(self, builder: Builder) -> Iterator[Builder]:
        """Nodes go to another builder, a child of the present one. It may never run: what is asserted inside is
        forgotten afterwards."""
        before = self.g
        builder.span = before.span
        self.g = builder
        try:
            with self._forgetting():
                yield builder
        finally:
            self.g = before

    @contextmanager
    def local(self) -> Iterator[dict[str, Binding]]:
        """Names bound and facts learnt inside are forgotten afterwards; gives the names as they stand inside."""
        before, facts = self.names, self.facts
        self.names = dict(before)
        try:
            yield self.names
        finally:
            self.names, self.facts = before, facts

    @contextmanager
    def step(self, *marks: object) -> Iterator[None]:
        """One repetition of the same syntax (an unrolled step, an inlined lambda): keeps weak keys apart."""
        before = self.path
        self.path = (*before, *marks)
        try:
            yield
        finally:
            self.path = before

    @contextmanager
    def assuming(self, facts: Sequence[Size]) -> Iterator[None]:
        """Inside, these expressions over sizes and indices are known to be at least 0."""
        before = self.facts
        self.facts = (*before, *facts)
        try:
            yield
        finally:
            self.facts = before

    @contextmanager
    def no_collecting(self, reason: str) -> Iterator[None]:
        """Inside, `ys[t] = ...` for the loop around is refused with a reason."""
        loop = self.loop
        before = loop.forbidden if loop else ""
        if loop:
            loop.forbidden = before or reason
        try:
            yield
        finally:
            if loop:
                loop.forbidden = before

    def weak_key(self, *extra: object) -> WeakKey:
        """A key for a dtype chosen at the present node of the present frame."""
        return (self.frame, self.path, self.node, *extra)

    def bind(self, name: str, value: Bound, span: Span) -> None:
        """Bind a local name."""
        entry = self.module.lookup(name)
        if entry is not None and isinstance(entry.item, t.Stored):
            raise ScopeError.at(
                span,
                f"`{name}` is a {entry.item.kind}",
                "cannot be bound again",
                also=[(entry.span, "declared here")],
                note="use another name",
            )
        self.names[name] = Binding(value, span)


def _recursion(ring: Sequence[Frame]) -> ScopeError:
    """The refusal of functions that call each other in a circle, each frame called by the one before it. It is told
    from the first call in the text, whichever function was entered first, so that it is told once."""
    at = min(range(len(ring)), key=lambda place: (ring[place].call.source.path, ring[place].call.start))
    first, *others = [*ring[at:], *ring[:at]]
    return ScopeError.at(
        first.call,
        f"{ring[at - 1].words} calls itself",
        "through this call",
        also=[(other.call, "which calls this") for other in others],
        note="functions do not recurse: use `for` or `while`",
    )


def frame_loop(context: Context, frame: Frame, lower: Callable[[], Bound]) -> Bound:
    """Lower a function instance, again whenever one of its literals turns out to need another dtype."""
    if len(context.frames) >= DEEPEST_CALLS:
        note = f"at most {DEEPEST_CALLS} levels: let functions do more, or use a loop"
        raise NotSupported.at(context.g.span, "calls nest too deeply", "one level too many", note=note)
    frame.call = context.g.span
    for at, active in enumerate(context.frames):
        if active.identity == frame.identity:
            raise _recursion([*context.frames[at + 1 :], frame])
    context.frames.append(frame)
    before = context.path
    context.path = ()
    try:
        while True:
            try:
                return lower()
            except Retype as wanted:
                if wanted.key[0] is not frame:
                    raise
                frame.choices[wanted.key] = wanted.dtype
                frame.yielding.discard(wanted.key)
                if wanted.yields:
                    frame.yielding.add(wanted.key)
    finally:
        context.path = before
        context.frames.pop()


def framed(context: Context, words: str, make: Callable[[], Result]) -> Result:
    """Something of a module, outside of every function, that may hold literals."""
    made: list[Result] = []

    def lower() -> Bound:
        made[:] = [make()]
        return ModuleValue(context.module)

    frame_loop(context, Frame(words, (object(),)), lower)
    return made[0]


def place_of_key(key: WeakKey) -> Span:
    """Where the literal of a weak key stands."""
    node = key[2]
    assert isinstance(node, t.Node)
    return node.span
