"""Types as written: what they stand for, how their generics are solved from arguments, and values brought to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dgraph.errors import ScopeError, SizeMismatch, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.modules import Module, require_distinct, unknown
from dgraph.frontend.numbers import counted, fresh_dtype
from dgraph.frontend.values import (
    AliasValue,
    Binding,
    Bound,
    DTypeValue,
    Extent,
    Leaf,
    Literal,
    ModuleValue,
    RecordMaker,
    ShapeValue,
    TupleValue,
    TypeValue,
    WeakKey,
    describe,
    type_of,
)
from dgraph.sizes import Size, size, solve, variable
from dgraph.types import DTYPES, F64, I32, Array, DType, Function, Record, Shape, Tuple, Type, with_axes
from dgraph.types import Extent as ExtentType

KINDS = {"float": ("float",), "int": ("int",), "number": ("float", "int")}
GENERIC_KINDS = ("size", "shape", "record", *KINDS)


# ---- resolving ------------------------------------------------------------------------------------------------------


def resolve(ctx: Context, written: t.TypeExpression) -> Type:
    """The type that a type expression stands for among the names of the context."""
    if isinstance(written, t.TypeTuple):
        return Tuple(tuple(resolve(ctx, item) for item in written.items))
    if isinstance(written, t.TypeFunction):
        return Function(tuple(resolve(ctx, item) for item in written.formals), resolve(ctx, written.result))
    assert isinstance(written, t.TypeName)
    if written.path in (("size",), ("key",)) and written.path[0] not in ctx.names:
        return _plain(ctx, written)
    held = _head(ctx, written)
    if isinstance(held, DTypeValue):
        if written.outer is not None:
            raise TypeMismatch.at(written.span, "an array has one list of axes", note="write all axes in one bracket")
        return Array(held.dtype, shape_of(ctx, written.dims or ()))
    if isinstance(held, TypeValue):
        return with_axes(held.type, shape_of(ctx, written.dims or ()))
    if isinstance(held, RecordMaker):
        arguments, axes = _split(held.declaration.generics, written)
        return record_type(ctx, held, type_arguments(ctx, held.declaration.generics, arguments), shape_of(ctx, axes))
    if isinstance(held, AliasValue):
        arguments, axes = _split(held.declaration.generics, written)
        values = type_arguments(ctx, held.declaration.generics, arguments)
        with _opened(ctx, held.declaration), ctx.within(held.module, generic_names(held.declaration.generics, values)):
            inner = resolve(ctx, held.declaration.type)
        return with_axes(inner, shape_of(ctx, axes))
    note = "a type is written `f64`, `f32[n, 3]`, `(f64, i32)`, or is the name of a record or an alias"
    title = f"`{'.'.join(written.path)}` is not a type"
    raise TypeMismatch.at(written.span, title, f"this is {describe(held)}", note=note)


def _plain(ctx: Context, written: t.TypeName) -> Type:
    """`size` and `key`, which are words of the type language only."""
    if written.path[0] == "key":
        return Array(DTYPES["key"], shape_of(ctx, written.dims or ()))
    if written.dims is not None:
        raise TypeMismatch.at(written.span, "a size has no axes", note="write `i64[n]` for an array of integers")
    return ExtentType()


def _head(ctx: Context, written: t.TypeName) -> Bound:
    """What the path of a type names."""
    held = ctx.lookup(written.path[0], written.span).value
    for name in written.path[1:]:
        if not isinstance(held, ModuleValue):
            title = f"`{'.'.join(written.path)}` is not a type"
            note = "only a module has types inside: write the type of the value itself"
            raise ScopeError.at(written.span, title, f"this is of {describe(held)}", note=note)
        entry = held.module.names.get(name)
        if entry is None:
            title = f"the module `{held.module.name}` has no `{name}`"
            raise unknown(written.span, title, name, list(held.module.names))
        held = ctx.entry(entry, written.span)
    return held


def _split(
    generics: Sequence[t.Generic], written: t.TypeName
) -> tuple[Sequence[t.Expression | t.Splice], Sequence[t.Expression | t.Splice]]:
    """Arguments and outer axes: without generics the only bracket holds the outer axes."""
    if generics:
        if written.dims is None:
            names = ", ".join(generic.name for generic in generics)
            name = ".".join(written.path)
            raise TypeMismatch.at(written.span, f"`{name}` needs its sizes", note=f"write `{name}[{names}]`")
        return written.dims, written.outer or ()
    if written.outer is not None:
        path = ".".join(written.path)
        note = f"write the axes of an array of them in one bracket: `{path}[n]`"
        raise TypeMismatch.at(written.span, f"`{path}` takes no sizes of its own", "two brackets", note=note)
    return (), written.dims or ()


def shape_of(ctx: Context, dims: Sequence[t.Expression | t.Splice]) -> Shape:
    """The sizes of a list of dimensions."""
    out: list[Size] = []
    for dim in dims:
        if isinstance(dim, t.Splice):
            held = ctx.lookup(dim.name, dim.span).value
            if not isinstance(held, ShapeValue):
                note = f"write `{dim.name}` for one axis; `*s`, bound as `[*s]`, stands for any number of axes"
                raise TypeMismatch.at(dim.span, f"`{dim.name}` is not a shape", f"this is {describe(held)}", note=note)
            out.extend(held.shape)
        else:
            out.append(dim_size(ctx, dim))
    return tuple(out)


def dim_size(ctx: Context, dim: t.Expression) -> Size:
    """A dimension as a size."""
    if isinstance(dim, t.Name) and not ctx.knows(dim.name):
        note = f"bind it after the name of the function or record: `[{dim.name}]`"
        raise ScopeError.at(dim.span, f"`{dim.name}` is not a size here", "not known here", note=note)
    held = ctx.evaluate(dim)
    if isinstance(held, Extent):
        return held.size
    if isinstance(held, Literal) and type(held.value) is int:
        if held.value < 0:
            raise SizeMismatch.at(dim.span, "a size is never negative", f"this is {held.value}")
        return size(held.value)
    note = "a size is made of literals, size variables and formals of type `size`"
    raise TypeMismatch.at(dim.span, "a size is wanted here", f"this is {describe(held)}", note=note)


def as_type(dim: t.Expression | t.Splice) -> t.TypeExpression:
    """An argument of a record read as a type: the grammar reads `Mlp[784]` inside brackets as an expression."""
    subscripts: tuple[t.Expression, ...] | None = None
    node: t.Node = dim
    if isinstance(dim, t.Index):
        node, subscripts = dim.base, dim.subscripts
    path: list[str] = []
    while isinstance(node, t.Member):
        path.insert(0, node.name)
        node = node.base
    if not isinstance(node, t.Name):
        raise TypeMismatch.at(dim.span, "a type is wanted here", "this is a value", note="write a type such as `f64`")
    return t.TypeName(dim.span, (node.name, *path), subscripts, None)


def type_arguments(
    ctx: Context, generics: Sequence[t.Generic], dims: Sequence[t.Expression | t.Splice]
) -> tuple[object, ...]:
    """The arguments of a record or alias, one per generic: a Size, a Shape, a DType or a Type."""
    shapes = [at for at, generic in enumerate(generics) if generic.kind == "shape"]
    out: list[object] = []
    rest = list(dims)
    for at, generic in enumerate(generics):
        later = len(generics) - at - 1
        if shapes and at == shapes[0]:
            taken, rest = rest[: len(rest) - later], rest[len(rest) - later :]
            out.append(shape_of(ctx, taken))
            continue
        if not rest:
            title = f"{'no size' if generic.kind == 'size' else 'nothing'} is given for `{generic.name}`"
            also = [(generic.span, "declared here")]
            place = dims[-1].span if dims else generic.span
            raise TypeMismatch.at(place, title, "more is needed after this", also=also)
        first, rest = rest[0], rest[1:]
        if generic.kind == "size":
            out.extend([dim_size(ctx, first)] if not isinstance(first, t.Splice) else shape_of(ctx, [first]))
        else:
            found = resolve(ctx, as_type(first))
            out.append(found.dtype if generic.kind in KINDS and isinstance(found, Array) else found)
    if rest or len(out) != len(generics):
        title = f"there is room for {counted(len(generics), 'size')}"
        also = [(generics[0].span.to(generics[-1].span), "declared here")]
        raise TypeMismatch.at((rest or dims)[0].span, title, "one too many", also=also)
    return tuple(out)


def generic_value(argument: object) -> Bound:
    """A solved generic as a bound value."""
    if isinstance(argument, Size):
        return Extent(argument)
    if isinstance(argument, DType):
        return DTypeValue(argument)
    if isinstance(argument, tuple):
        return ShapeValue(argument)
    assert isinstance(argument, Array | ExtentType | Tuple | Record | Function)
    return TypeValue(argument)


def generic_names(generics: Sequence[t.Generic], arguments: Sequence[object]) -> dict[str, Binding]:
    """Generics bound to their arguments."""
    return {
        generic.name: Binding(generic_value(argument), generic.span)
        for generic, argument in zip(generics, arguments, strict=True)
    }


@contextmanager
def _opened(ctx: Context, declaration: t.Record | t.TypeAlias) -> Iterator[None]:
    """A type is being resolved through its declaration: meeting it again inside is a circle."""
    if declaration in ctx.opened:
        note = "a record has all its parts at once: hold many of one kind in an array, `parts: Part[n]`"
        # Told from the first of the circle, whichever it was entered at, so that it is told once.
        ring = ctx.opened[ctx.opened.index(declaration) :]
        first = min(ring, key=lambda part: (part.span.source.path, part.span.start))
        also = [(part.span, "part of the circle") for part in ring if part is not first]
        title = f"the type `{first.name}` contains itself"
        raise TypeMismatch.at(first.span, title, "declared here", also=also, note=note)
    ctx.opened.append(declaration)
    try:
        yield
    finally:
        ctx.opened.pop()


def record_type(ctx: Context, maker: RecordMaker, arguments: tuple[object, ...], axes: Shape = ()) -> Record:
    """The type of a record with given arguments."""
    declaration = maker.declaration
    require_distinct(declaration.fields)
    with _opened(ctx, declaration), ctx.within(maker.module, generic_names(declaration.generics, arguments)):
        fields = tuple((field.name, resolve(ctx, field.type)) for field in declaration.fields)
    result = Record(declaration.name, fields, arguments, axes)
    ctx.records[replace(result, axes=())] = maker
    return result


def maker_of(ctx: Context, type_: Record) -> RecordMaker:
    """The declaration of a record type."""
    plain = replace(type_, axes=())
    if plain not in ctx.records:
        # A type that another lowering of the program made, or a record of derivatives, whose fields have other types.
        others = []
        for module in ctx.module.family:
            for item in module.declared():
                if isinstance(item, t.Record) and item.name == type_.name:
                    others.append(RecordMaker(item, module))
                    made = record_type(ctx, others[-1], type_.arguments)
                    if made == plain:
                        return ctx.records[plain]
        if others:
            return others[0]
        raise KeyError(type_)
    return ctx.records[plain]


# ---- solving generics -----------------------------------------------------------------------------------------------


class Solver:
    """Finds the generics of a function from the types of its arguments, left to right. Contradictions are left for
    `coerce` to report: there the declared type is known."""

    def __init__(
        self, ctx: Context, module: Module, generics: Sequence[t.Generic], outer: Mapping[str, Binding]
    ) -> None:
        self.ctx = ctx
        self.module = module
        self.kinds = {generic.name: generic.kind for generic in generics}
        self.spans = {generic.name: generic.span for generic in generics}
        self.names = dict(outer)
        self.solved: set[str] = set()
        self.free: set[str] = set()
        self.weak: dict[str, frozenset[WeakKey]] = {}
        self.from_where: dict[str, str] = {}
        for name in self.kinds:
            self.names.pop(name, None)

    @property
    def unsolved(self) -> list[str]:
        """Generics without a value, in order."""
        return [name for name in self.kinds if name not in self.solved and name not in self.free]

    def leave_free(self, pairs: Sequence[tuple[t.TypeExpression, Bound]], function: t.Function) -> None:
        """What only literals would decide. Any shape is then no axes. A dtype that nothing else names stays open: the
        literals take the dtype that they meet in the body; otherwise it is the dtype that the result meets."""
        uses = [(written, value) for pair in pairs for written, value in _paired(*pair)]
        for name in self.unsolved:
            if self.kinds[name] == "shape" and any(_is_splice(written, name) for written, _ in uses):
                self.put(name, ShapeValue(()))
        for name in self.unsolved:
            held = [value for written, value in uses if written.path == (name,) and self._is_scalar(written)]
            if self.kinds[name] not in KINDS or not held:
                continue
            named = [node for part in function.formals for node in t.walk(part.type) if _names(node, name)]
            inside = [function.body] if function.result is None else [function.body, function.result]
            if len(named) == len(held) and not any(_names(node, name) for part in inside for node in t.walk(part)):
                self.free.add(name)
                continue
            is_float = self.kinds[name] == "float" or any(isinstance(value.value, float) for value in held)
            agreed = fresh_dtype(self.ctx, F64 if is_float else I32, name)
            self.put(name, DTypeValue(agreed.dtype))
            self.weak[name] = agreed.weak

    def _is_scalar(self, written: t.TypeName) -> bool:
        """Whether no axis is written, or only shapes that were found to have none."""
        splices = [dim.name for dim in written.dims or () if isinstance(dim, t.Splice)]
        shapes = [self.names[name].value for name in splices if name in self.names]
        none = [held for held in shapes if isinstance(held, ShapeValue) and not held.shape]
        return len(none) == len(written.dims or ())

    def is_free(self, written: t.TypeExpression) -> bool:
        """Whether a type is a dtype left open."""
        return isinstance(written, t.TypeName) and written.path[0] in self.free and self._is_scalar(written)

    def loosened(self, value: Bound, written: t.TypeExpression | None) -> Bound:
        """A result whose declared dtype was decided by literals alone: it takes the dtype that it meets."""
        if isinstance(value, TupleValue) and isinstance(written, t.TypeTuple):
            pairs = zip(value.items, written.items, strict=True)
            return TupleValue(tuple(self.loosened(item, part) for item, part in pairs))
        if isinstance(value, Leaf) and isinstance(written, t.TypeName) and written.path[0] in self.weak:
            return replace(value, weak=value.weak | self.weak[written.path[0]])
        return value

    def put(self, name: str, value: Bound) -> None:
        """Solve one generic."""
        self.names[name] = Binding(value, self.spans[name])
        self.solved.add(name)

    def run(self, pairs: Sequence[tuple[t.TypeExpression, Bound]]) -> None:
        """Solve from pairs of declared type and argument, until nothing more is learnt; what literals gave their dtype
        comes last."""
        pairs = sorted(pairs, key=lambda pair: isinstance(pair[1], Leaf) and bool(pair[1].weak))
        before = -1
        while before != len(self.solved) and self.unsolved:
            before = len(self.solved)
            for written, value in pairs:
                self.match_value(written, value)

    def match_value(self, written: t.TypeExpression, value: Bound) -> None:
        """Learn from one value; a literal in a tuple says nothing."""
        known = type_of(value)
        if known is not None:
            before = set(self.solved)
            self.match(written, known)
            if isinstance(value, Leaf) and value.weak:
                self.weak.update((name, value.weak) for name in self.solved - before if self.kinds[name] in KINDS)
        elif isinstance(value, TupleValue) and isinstance(written, t.TypeTuple):
            for item, held in zip(written.items, value.items, strict=False):
                self.match_value(item, held)
        elif isinstance(value, TupleValue) and isinstance(written, t.TypeName) and written.path[0] not in self.kinds:
            with self.ctx.within(self.module, self.names):
                head = _head(self.ctx, written)
            if isinstance(head, AliasValue):
                self._match_alias(head, written, lambda inner: inner.match_value(head.declaration.type, value))

    def match(self, written: t.TypeExpression, actual: Type) -> None:
        """Learn from one type."""
        if isinstance(written, t.TypeTuple):
            if isinstance(actual, Tuple) and len(actual.items) == len(written.items):
                for item, found in zip(written.items, actual.items, strict=True):
                    self.match(item, found)
        elif isinstance(written, t.TypeName):
            self._match_name(written, actual)

    def _match_name(self, written: t.TypeName, actual: Type) -> None:
        name = written.path[0]
        if name in self.kinds and len(written.path) == 1:
            self._match_generic(written, name, actual)
            return
        if name in ("size", "key") and name not in self.names:
            if isinstance(actual, Array):
                self._match_dims(written.dims or (), actual.shape)
            return
        with self.ctx.within(self.module, self.names):
            held = _head(self.ctx, written)
        if isinstance(held, DTypeValue) and isinstance(actual, Array):
            self._match_dims(written.dims or (), actual.shape)
        elif isinstance(held, RecordMaker) and isinstance(actual, Record):
            arguments, axes = _split(held.declaration.generics, written)
            if actual.name == held.declaration.name and len(actual.arguments) == len(held.declaration.generics):
                self._match_arguments(held.declaration.generics, arguments, actual.arguments)
                self._match_dims(axes, actual.axes)
        elif isinstance(held, AliasValue):
            self._match_alias(held, written, lambda inner: inner.match(held.declaration.type, actual))

    def _match_alias(self, held: AliasValue, written: t.TypeName, learn: Callable[[Solver], None]) -> None:
        generics = held.declaration.generics
        arguments, _ = _split(generics, written)
        inner = Solver(self.ctx, held.module, generics, {})
        learn(inner)
        if not inner.unsolved:
            self._match_arguments(
                generics, arguments, [generic_argument(inner.names[one.name].value) for one in generics]
            )

    def _match_generic(self, written: t.TypeName, name: str, actual: Type) -> None:
        kind = self.kinds[name]
        if kind == "record":
            # An array is a vector space as well, so a param that is one has its optimiser too.
            axes = len(written.dims or ())
            if name not in self.solved and isinstance(actual, Record) and len(actual.axes) >= axes:
                self._match_dims(written.dims or (), actual.axes[:axes])
                self.put(name, TypeValue(replace(actual, axes=actual.axes[axes:])))
            elif name not in self.solved and isinstance(actual, Array) and not axes:
                self.put(name, TypeValue(actual))
        elif kind in KINDS and isinstance(actual, Array):
            if name not in self.solved and actual.dtype.kind in KINDS[kind]:
                self.put(name, DTypeValue(actual.dtype))
            self._match_dims(written.dims or (), actual.shape)

    def _match_arguments(
        self, generics: Sequence[t.Generic], dims: Sequence[t.Expression | t.Splice], actual: Sequence[object]
    ) -> None:
        if any(generic.kind == "shape" for generic in generics):
            flat: list[object] = []
            for generic, argument in zip(generics, actual, strict=True):
                flat.extend(argument if generic.kind == "shape" and isinstance(argument, tuple) else [argument])
            if all(isinstance(item, Size) for item in flat):
                self._match_dims(dims, tuple(item for item in flat if isinstance(item, Size)))
            return
        if len(dims) != len(actual):
            return
        for dim, argument in zip(dims, actual, strict=True):
            if isinstance(argument, Size):
                self._match_dims([dim], (argument,))
            elif isinstance(argument, DType):
                self.match(as_type(dim), Array(argument))
            elif isinstance(argument, Array | Tuple | Record | Function):
                self.match(as_type(dim), argument)

    def _match_dims(self, dims: Sequence[t.Expression | t.Splice], shape: Shape) -> None:
        splices = [at for at, dim in enumerate(dims) if isinstance(dim, t.Splice)]
        fixed = len(dims) - len(splices)
        if not splices:
            if len(dims) == len(shape):
                self._match_each(dims, shape)
            return
        if len(splices) > 1 or fixed > len(shape):
            return
        at = splices[0]
        after = len(dims) - at - 1
        self._match_each(dims[:at], shape[:at])
        self._match_each(dims[at + 1 :], shape[len(shape) - after :])
        splice = dims[at]
        assert isinstance(splice, t.Splice)
        if self.kinds.get(splice.name) == "shape" and splice.name not in self.solved:
            self.put(splice.name, ShapeValue(shape[at : len(shape) - after]))

    def _match_each(self, dims: Sequence[t.Expression | t.Splice], shape: Shape) -> None:
        for dim, actual in zip(dims, shape, strict=True):
            if isinstance(dim, t.Splice):
                continue
            used = {node.name for node in t.walk(dim) if isinstance(node, t.Name)}
            open_names = [name for name in used if name in self.kinds and name not in self.solved]
            if len(open_names) != 1 or self.kinds[open_names[0]] != "size":
                continue
            (name,) = open_names
            atom = ("unknown", name)
            with self.ctx.within(self.module, {**self.names, name: Binding(Extent(variable(atom)), dim.span)}):
                pattern = dim_size(self.ctx, dim)
            found = solve(pattern, actual, atom)
            if found is not None:
                self.put(name, Extent(found))


def _paired(written: t.TypeExpression, value: Bound) -> Iterator[tuple[t.TypeName, Literal]]:
    """The literals of an argument with their types as written."""
    if isinstance(written, t.TypeTuple) and isinstance(value, TupleValue):
        for part, held in zip(written.items, value.items, strict=False):
            yield from _paired(part, held)
    elif isinstance(written, t.TypeName) and isinstance(value, Literal):
        yield written, value


def _is_splice(written: t.TypeName, name: str) -> bool:
    dims = written.dims or ()
    return len(dims) == 1 and isinstance(dims[0], t.Splice) and dims[0].name == name


def _names(node: t.Node, name: str) -> bool:
    """Whether a generic is named here, as a type or in an expression."""
    return (isinstance(node, t.TypeName) and node.path == (name,)) or (isinstance(node, t.Name) and node.name == name)


def generic_argument(value: Bound) -> object:
    """A bound generic as an argument of a type."""
    if isinstance(value, Extent):
        return value.size
    if isinstance(value, DTypeValue):
        return value.dtype
    if isinstance(value, ShapeValue):
        return value.shape
    assert isinstance(value, TypeValue)
    return value.type
