"""From a function of a program, or a transform of one, to the graph that the host calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dgraph.classes import dataclass
from dgraph.errors import DgraphError, Diagnostic, NotSupported, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import Solver, resolve
from dgraph.frontend.builtins import ELEMENTWISE
from dgraph.frontend.calls import body_value, extra_names, is_size
from dgraph.frontend.coercion import value_of_type
from dgraph.frontend.context import Context, Frame, frame_loop
from dgraph.frontend.formulas import solid
from dgraph.frontend.modules import Module, unknown
from dgraph.frontend.stored import root, stored_of
from dgraph.frontend.tracing import apply_function, run
from dgraph.frontend.transforms import make_transform
from dgraph.frontend.values import (
    Binding,
    Bound,
    Closure,
    DTypeValue,
    Extent,
    FunctionValue,
    Leaf,
    ShapeValue,
    Transformed,
    TypeValue,
    rebuild,
    type_of,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Formal, Graph
from dgraph.sizes import Size, variable
from dgraph.types import F64, Array, DType, Function, Type, leaves, with_axes
from dgraph.types import Extent as ExtentType

FRAMES = 40_000


@dataclass(frozen=True)
class Derived:
    """A transform applied to a function of a program, or to another transform: what `dg.grad(f, wrt="x")` asks for.

    `kind` is grad, value_and_grad, jvp, vjp, jacobian, hessian, hvp or vmap; `wrt` (for vmap: what it runs over)
    names formals, params or states; None means the first float formal.
    """

    kind: str
    function: Target
    wrt: str | int | tuple[str | int, ...] | None = None
    mode: str = "auto"


Target = str | Derived
"""What can be lowered: the name of a function, or a transform of one."""


@contextmanager
def deep() -> Iterator[None]:
    """Programs may nest deeper than Python's own limit allows; a limit of ours stops them first."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, FRAMES))
    try:
        yield
    except RecursionError:
        raise NotSupported(Diagnostic("this program nests too deeply")) from None
    finally:
        sys.setrecursionlimit(before)


def target_name(target: Target) -> str:
    """The name of the graph of a target."""
    return target if isinstance(target, str) else f"{target.kind}_{target_name(target.function)}"


def function_value(module: Module, target: Target) -> FunctionValue:
    """A target as a function value."""
    if isinstance(target, Derived):
        inner = function_value(module, target.function)
        wrt = target.wrt
        names = None if wrt is None else wrt if isinstance(wrt, tuple) else (wrt,)
        return make_transform(target.kind, inner, names, isinstance(wrt, tuple), target.mode, place_of(inner))
    entry = module.lookup(target)
    if entry is None or not isinstance(entry.item, t.Function):
        start = Span(module.source, 0, 0)
        raise unknown(start, f"`{module.name}` has no function `{target}`", target, list(module.functions))
    return Closure(entry.item, entry.module)


def place_of(function: FunctionValue) -> Span:
    """Where a function is declared."""
    held = root(function).function
    return held.name_span if isinstance(held, t.Function) else held.span


def lower_function(
    module: Module,
    target: Target,
    *,
    types: Mapping[str, Type] | None = None,
    precision: DType | None = None,
    leaves_sweeps: bool = False,
) -> Graph:
    """The graph of a function or of a transform of one. The params and states that it reads are its last formals.

    `types` gives the types of formals whose declaration is generic in a dtype, a shape or a record; a float dtype that
    they leave open is the first float among them. With `leaves_sweeps`, Jacobians in no certain mode are nodes whose
    sweeps are chosen at a call.
    """
    with deep():
        ctx = Context(module, precision, leaves_sweeps=leaves_sweeps)
        return _Entry(ctx, module, target, types or {}).lower()


class _Entry:
    """One lowering for the host."""

    def __init__(self, ctx: Context, module: Module, target: Target, types: Mapping[str, Type]) -> None:
        self.ctx = ctx
        self.ctx.elementwise = ELEMENTWISE
        self.module = module
        self.target = target
        self.types = types
        self.function = function_value(module, target)
        self.sizes = self.ctx.sizes
        self.mapped: dict[str, tuple[Size, ...]] = {}

    def lower(self) -> Graph:
        """The graph."""
        ctx = self.ctx
        span = place_of(self.function)
        frame = Frame(self.function.words, (root(self.function).function, target_name(self.target)))
        formals: list[Formal] = []
        result: list[Type] = []
        graph: list[Graph] = []

        def attempt() -> Bound:
            ctx.g = Builder()
            ctx.g.span = span
            ctx.stored, ctx.ranges = {}, {}
            self.sizes.clear()
            ctx.wishes.clear()
            self.mapped.clear()
            values = self.arguments()
            formals[:] = [Formal(name, type_) for name, (type_, _) in values.items()]
            formals.extend(self.stored_inputs())
            bound = {name: Binding(value, span) for name, (_, value) in values.items()}
            value = self.body(bound, span)
            outputs = solid(ctx, value, span)
            found = type_of(rebuild(value, iter(outputs)))
            assert found is not None
            result[:] = [found]
            region = ctx.g.close([leaf.value for leaf in outputs])
            wishes = tuple(ctx.wishes)
            sizes = (*self.sizes, *(wish.name for wish in wishes))
            graph[:] = [Graph(target_name(self.target), sizes, tuple(formals), found, region, span, wishes)]
            return value

        frame_loop(ctx, frame, attempt)
        return graph[0]

    def body(self, values: Mapping[str, Binding], span: Span) -> Bound:
        """The function applied: a plain function's body stands in the graph itself, not in a `call`; that of one with a
        rule, together with it, in a `custom` node."""
        function = self.function
        if isinstance(function, Transformed):
            return run(self.ctx, function, values, span)
        held = function.function
        assert isinstance(held, t.Function)
        if function.module.rule_of(held) is not None:
            return apply_function(self.ctx, function, values, span)
        return body_value(self.ctx, function, held, {**self.generics(function), **values})

    # ---- arguments ----------------------------------------------------------------------------------------------

    def arguments(self) -> dict[str, tuple[Type, Bound]]:
        """The formals with a type and a value made of graph inputs."""
        out: dict[str, tuple[Type, Bound]] = {}
        for name, type_ in self.formal_types(self.function).items():
            out[name] = (type_, self.input(name, type_))
        return out

    def input(self, name: str, type_: Type) -> Bound:
        """The value of one formal: inputs of the graph for its leaves, a size variable for a size."""
        if isinstance(type_, ExtentType):
            self.sizes[name] = None
            return Extent(variable(name))
        return value_of_type(self.ctx, type_, lambda leaf, array: Leaf(self.ctx.g.input(array, leaf)), name)

    def generics(self, closure: Closure) -> dict[str, Binding]:
        """The generics of a function called by the host: sizes are size variables."""
        function = closure.function
        assert isinstance(function, t.Function)
        solver = Solver(self.ctx, closure.module, function.generics, {})
        for formal in function.formals:
            if is_size(formal.type):
                solver.names[formal.name] = Binding(Extent(variable(formal.name)), formal.span)
        for generic in function.generics:
            if generic.kind == "size" and not self.types:
                solver.put(generic.name, Extent(variable(generic.name)))
        for formal in function.formals:
            given = self.types.get(formal.name)
            if given is not None:
                solver.match(formal.type, given)
        for generic in function.generics:
            if generic.name in solver.solved:
                continue
            if generic.kind == "size":
                solver.put(generic.name, Extent(variable(generic.name)))
                continue
            if generic.kind in ("float", "number") and self.types:
                solver.put(generic.name, DTypeValue(self.common_float()))
                continue
            raise self._undecided(closure, generic)
        for generic in function.generics:
            held = solver.names[generic.name].value
            extents = (held.size,) if isinstance(held, Extent) else held.shape if isinstance(held, ShapeValue) else ()
            if isinstance(held, TypeValue):
                extents = tuple(extent for _, array in leaves(held.type) for extent in array.shape)
            for extent in extents:
                self.sizes.update(dict.fromkeys(atom for atom in extent.atoms() if isinstance(atom, str)))
        return {name: solver.names[name] for name in solver.names}

    def common_float(self) -> DType:
        """The float of the types given by the host, for a dtype that they leave open (the rate of an optimiser)."""
        arrays = [array for type_ in self.types.values() for _, array in leaves(type_)]
        return next((array.dtype for array in arrays if array.dtype.is_float), F64)

    def formal_types(self, function: FunctionValue) -> dict[str, Type]:
        """The types of the formals of any function value."""
        if isinstance(function, Closure):
            return self._declared_types(function)
        inner = self.formal_types(function.function)
        extras = extra_names(function)
        if function.kind == "vmap":
            extent = variable(self._fresh_size("batch"))
            for name in function.wrt:
                if name not in inner:
                    self.mapped[name] = (extent, *self.mapped.get(name, ()))
            return {
                name: with_axes(type_, (extent,)) if name in function.wrt else type_ for name, type_ in inner.items()
            }
        if function.kind in ("jvp", "hvp"):
            return {
                **inner,
                **{
                    extra: self._type_of_wrt(inner, function, name)
                    for extra, name in zip(extras, function.wrt, strict=True)
                },
            }
        if function.kind == "vjp":
            return {**inner, extras[0]: self._result_type(function.function, inner)}
        return inner

    def _fresh_size(self, name: str) -> str:
        while name in self.sizes:
            name += "_"
        self.sizes[name] = None
        return name

    def _undecided(self, closure: Closure, generic: t.Generic) -> DgraphError:
        """What to do about a generic that no given type decides."""
        title = f"{closure.words} is generic in `{generic.name}`"
        assert isinstance(closure.function, t.Function)
        for formal in closure.function.formals:
            written, given = formal.type, self.types.get(formal.name)
            if not isinstance(written, t.TypeName) or not isinstance(given, Array):
                continue
            needed = sum(not isinstance(dim, t.Splice) for dim in (*(written.dims or ()), *(written.outer or ())))
            if given.rank < needed:
                words = f"at least {needed} {'axis' if needed == 1 else 'axes'}"
                has = "has 1 axis" if given.rank == 1 else f"has {given.rank or 'no'} axes"
                full = f"{title}, and `{formal.name}` needs {words}"
                return TypeMismatch.at(formal.span, full, f"the argument {has}", note=f"pass an array with {words}")
        if self.types:
            note = "give one of the arguments that decide it, or call the function from one with plain types"
            return NotSupported.at(generic.span, title, "no argument decides it", note=note)
        note = "call it from a function with plain types"
        return NotSupported.at(generic.span, title, "its argument types are needed", note=note)

    def _type_of_wrt(self, inner: Mapping[str, Type], function: Transformed, name: str) -> Type:
        if name in inner:
            return inner[name]
        found = stored_type(self.ctx, root(function), name)
        assert found is not None
        return with_axes(found, self.mapped.get(name, ()))

    def _declared_types(self, closure: Closure) -> dict[str, Type]:
        function = closure.function
        assert isinstance(function, t.Function)
        names = self.generics(closure)
        out: dict[str, Type] = {}
        with self.ctx.within(closure.module, names):
            for formal in function.formals:
                out[formal.name] = resolve(self.ctx, formal.type)
                if isinstance(out[formal.name], Function):
                    note = "call it from a function that passes one"
                    raise NotSupported.at(formal.span, f"{closure.words} takes a function", "as this formal", note=note)
        return out

    def _result_type(self, function: FunctionValue, types: Mapping[str, Type]) -> Type:
        """The type of a result, by lowering the function aside."""
        ctx = self.ctx
        probe = Builder()
        stored = ctx.stored
        before, ctx.g = ctx.g, probe
        try:
            self.stored_inputs()
            bound = {name: Binding(self.input(name, type_), place_of(function)) for name, type_ in types.items()}
            value = apply_function(ctx, function, bound, place_of(function))
            found = type_of(rebuild(value, iter(solid(ctx, value, place_of(function)))))
        finally:
            ctx.g, ctx.stored = before, stored
        assert found is not None
        return found

    # ---- params and states --------------------------------------------------------------------------------------

    def stored_inputs(self) -> list[Formal]:
        """Inputs for the params and states that the function reads, and that a transform names."""
        ctx = self.ctx
        formals = []
        stored = dict(ctx.stored)
        for item, module in stored_of(self.function).items():
            with ctx.within(module, {}):
                type_ = with_axes(resolve(ctx, item.type), self.mapped.get(item.name, ()))
            stored[item] = self.input(item.name, type_)
            formals.append(Formal(item.name, type_))
        ctx.stored = stored
        return formals


def stored_type(ctx: Context, closure: Closure, name: str) -> Type | None:
    """The type of a param or state by its name."""
    entry = closure.module.lookup(name)
    if entry is None or not isinstance(entry.item, t.Stored):
        return None
    with ctx.within(entry.module, {}):
        return resolve(ctx, entry.item.type)
