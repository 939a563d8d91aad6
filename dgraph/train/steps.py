"""The compiled step of a `@train` function: loss, gradient, clipping and update as one graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dgraph.classes import dataclass
from dgraph.errors import Diagnostic, Label, ScopeError, TypeMismatch
from dgraph.frontend import Derived, FunctionInfo, lower_function, stored
from dgraph.frontend.listing import function_info
from dgraph.frontend.tree import Function as FunctionTree
from dgraph.ir.build import Builder
from dgraph.ir.graph import Formal, Graph, Value
from dgraph.kernels.compile import CompiledGraph
from dgraph.program.build import compile_lowered
from dgraph.train.settings import KNOWN
from dgraph.types import F32, F64, Array, DType, Tuple, Type, leaves

if TYPE_CHECKING:
    from dgraph.program.functions import Program
    from dgraph.train.settings import Settings

OPTIMISERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")


@dataclass(frozen=True)
class Step:
    """A training step over leaves.

    inputs   data formals, params and states read, optimiser states of `params`, options of the optimiser
    outputs  loss, new states, new params, new optimiser states

    `graph` is the step before any pass. `starts` are the first leaves of the optimiser states, `options` the values of
    the options. The options are inputs so that another rate needs no other code.
    """

    settings: Settings
    graph: Graph
    kernel: CompiledGraph
    data: tuple[Formal, ...]
    stored: tuple[Formal, ...]
    params: tuple[Formal, ...]
    states: tuple[Formal, ...]
    optimisers: tuple[Formal, ...]
    starts: tuple[list[Any], ...]
    options: tuple[Any, ...]

    @property
    def columns(self) -> tuple[Formal, ...]:
        """The data formals that are columns."""
        return tuple(formal for formal in self.data if not takes_key(formal))


def takes_key(formal: Formal) -> bool:
    """Whether a formal gets a fresh key at each step."""
    return isinstance(formal.type, Array) and formal.type.dtype.kind == "key"


def leaf_count(type_: Type) -> int:
    """Number of leaves of a type."""
    return sum(1 for _ in leaves(type_))


def build_step(
    program: Program, settings: Settings, values: Mapping[str, Sequence[Any]], types: Mapping[str, Type]
) -> Step:
    """Compile the step of a `@train` function; `values` are the leaves of the params by name, `types` those of
    formals that the declaration leaves open. Raises `DgraphError` if the loss or the optimiser does not fit."""
    module = program.module
    known = stored(module)
    info = function_info(module, module.functions[settings.function])
    trained = settings.wrt or tuple(name for name in info.stored if known[name].kind == "param")
    unread = [name for name in trained if name not in info.stored or known[name].kind != "param"]
    if unread or not trained:
        what = f"does not read a param `{unread[0]}`" if unread else "reads no param, so there is nothing to train"
        raise ScopeError.at(settings.span, f"`{settings.function}` {what}", note="as in param model: Mlp[64, 10]")
    loss = lower_function(module, Derived("value_and_grad", settings.function, trained), types=dict(types))
    value_type = loss.result.items[0] if isinstance(loss.result, Tuple) else loss.result
    states = _returned_states(settings, info, value_type, [known[name] for name in info.stored])
    g = Builder()
    inputs = [g.input(value.type, value.name) for value in loss.region.inputs]
    outputs = g.call(settings.function, inputs, loss.region)
    value = leaf_count(value_type)
    place = {name: at for at, name in enumerate(loss.input_names)}
    param_leaves = {name: [inputs[place[label]] for label, _ in leaves(known[name].type, name)] for name in trained}
    slopes = list(outputs[value:])
    if settings.clip is not None:
        slopes = clipped(g, slopes, settings.clip)
    updates = [Update(program, settings, name, known[name].type, values[name]) for name in trained]
    for update in updates:
        update.carry(g)
    options = [option for update in updates for option in update.options(g)]
    params: list[Value] = []
    optimisers: list[Value] = []
    for update in updates:
        own = param_leaves[update.name]
        new_params, new_state = update.apply(g, own, slopes[: len(own)])
        slopes = slopes[len(own) :]
        params += new_params
        optimisers += new_state
    kept = 1 + sum(leaf_count(formal.type) for formal in states)
    region = g.close([*outputs[:kept], *params, *optimisers])
    result = Tuple(tuple(output.type for output in region.outputs if isinstance(output.type, Array)))
    carried = tuple(update.state for update in updates)
    numbers = tuple(formal for update in updates for formal in update.option_formals)
    formals = (*loss.formals, *carried, *numbers)
    graph = Graph(f"{settings.function}_step", loss.sizes, formals, result, region, settings.span, loss.wishes)
    return Step(
        settings,
        graph,
        compile_lowered(graph),
        loss.formals[: len(info.formals)],
        loss.formals[len(info.formals) :],
        tuple(Formal(name, known[name].type) for name in trained),
        states,
        carried,
        tuple(update.start for update in updates),
        tuple(options),
    )


def _returned_states(settings: Settings, info: FunctionInfo, value: Type, read: Sequence[Any]) -> tuple[Formal, ...]:
    """The state that the function carries from step to step: it returns the loss, or the loss and the new state."""
    states = [Formal(item.name, item.type) for item in read if item.kind == "state"]
    note = "a @train function returns the loss, or the loss and the new value of the one state that it reads"
    if len(states) > 1:
        names = " and ".join(f"`{state.name}`" for state in states)
        raise ScopeError.at(settings.span, f"`{info.name}` reads two states, {names}", note="put them in one record")
    if not isinstance(value, Tuple):
        return ()
    if len(value.items) != 2 or not states:
        what = f"{len(value.items)} values" if len(value.items) != 2 else "two values, and reads no state"
        raise TypeMismatch.at(settings.span, f"`{info.name}` returns {what}", note=note)
    if value.items[1] != states[0].type:
        title = f"`{info.name}` returns {value.items[1]} as the new value of `{states[0].name}: {states[0].type}`"
        raise TypeMismatch.at(settings.span, title, note=note)
    return tuple(states)


def clipped(g: Builder, slopes: Sequence[Value], limit: float) -> list[Value]:
    """Slopes scaled so that the norm of them all together is at most a limit."""
    total: Value | None = None
    dtype = F64 if any(_array(slope).dtype == F64 for slope in slopes) else F32
    for slope in slopes:
        square = g.mul(slope, slope)
        if _array(slope).rank:
            square = g.reduce_sum(square, axes=tuple(range(_array(slope).rank)))
        square = _converted(g, square, dtype)
        total = square if total is None else g.add(total, square)
    assert total is not None
    scale = g.minimum(g.constant(1.0, dtype), g.div(g.constant(limit, dtype), g.sqrt(total)))
    out = []
    for slope in slopes:
        own = _converted(g, scale, _array(slope).dtype)
        out.append(g.mul(slope, g.widen(own, _array(slope).shape)))
    return out


def _array(value: Value) -> Array:
    assert isinstance(value.type, Array)
    return value.type


def _converted(g: Builder, value: Value, dtype: DType) -> Value:
    return value if _array(value).dtype == dtype else g.cast(value, dtype=dtype)


class Update:
    """The optimiser applied to one param: its state, its options and its graph.

    Raises `DgraphError` if the optimiser's functions do not fit.
    """

    def __init__(self, program: Program, settings: Settings, name: str, type_: Type, values: Sequence[Any]) -> None:
        self.name = name
        self.settings = settings
        self.label = settings.optimiser
        self.count = leaf_count(type_)
        module = program.module
        starter = _optimiser_info(program, settings, f"{self.label}_start")
        info = _optimiser_info(program, settings, self.label)
        if len(starter.formals) != 1 or len(info.formals) < 3:
            note = "NAME_start(p) makes the state, NAME(p, slope, s, ...) gives new parameters and state"
            raise TypeMismatch.at(settings.span, f"`{self.label}` is not a pair of optimiser functions", note=note)
        # The optimisers' own numbers follow params of f64.
        floats = {leaf.dtype for _, leaf in leaves(type_) if leaf.dtype.is_float}
        precision = F64 if floats == {F64} else None
        start = lower_function(module, starter.name, types={starter.formals[0].name: type_}, precision=precision)
        self.state = Formal(f"{name}_{self.label}", start.result)
        self.start = compile_lowered(start).call(list(values))
        first = [formal.name for formal in info.formals[:3]]
        types = dict(zip(first, (type_, type_, start.result), strict=True))
        self.graph = lower_function(module, self.label, types=types, precision=precision)
        wanted = Tuple((type_, start.result))
        if self.graph.result != wanted:
            title = f"`{self.label}` returns {self.graph.result} for a param of {type_}"
            raise TypeMismatch.at(info.span, title, note=f"it should return new parameters and state, {wanted}")
        self.defaults = {formal.name: formal.default for formal in info.formals[3:]}
        self.inputs: list[Value] = []
        self.numbers: list[Value] = []
        for option in settings.options:
            if option not in self.defaults:
                near = get_close_matches(option, (*self.defaults, *KNOWN), 1)
                note = f"did you mean `{near[0]}`?" if near else f"its options are {', '.join(self.defaults)}"
                raise ScopeError.at(settings.span, f"`{self.label}` has no option `{option}`", note=note)

    @property
    def option_formals(self) -> tuple[Formal, ...]:
        """The options under names of their own among the inputs of the step."""
        return tuple(Formal(f"{self.name}_{formal.name}", formal.type) for formal in self.graph.formals[3:])

    def carry(self, g: Builder) -> None:
        """Make the state an input."""
        self.inputs = [g.input(leaf, label) for label, leaf in leaves(self.state.type, self.state.name)]

    def options(self, g: Builder) -> list[Any]:
        """Make the options inputs; returns their values. Raises `TypeMismatch` for one that is no number."""
        found = []
        for formal, named in zip(self.graph.formals[3:], self.option_formals, strict=True):
            number = self.settings.options.get(formal.name, self.defaults[formal.name])
            if number is None or not isinstance(formal.type, Array) or formal.type.shape:
                title = f"`{self.label}` needs a number for `{formal.name}`"
                note = f"as in optimiser={self.label}({formal.name}=0.1)"
                raise TypeMismatch(Diagnostic(title, (Label(self.settings.span),), note))
            if not formal.type.dtype.is_float and number != int(number):
                title = f"`{formal.name}` of `{self.label}` is {formal.type}, not {number:g}"
                raise TypeMismatch.at(self.settings.span, title)
            found.append(formal.type.dtype.numpy.type(number))
            self.numbers.append(g.input(formal.type, named.name))
        return found

    def apply(self, g: Builder, params: Sequence[Value], slopes: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        """The new leaves of the param and of the state."""
        given = [*params, *slopes, *self.inputs, *self.numbers]
        after = g.call(self.label, given, self.graph.region)
        return list(after[: self.count]), list(after[self.count :])


def _optimiser_info(program: Program, settings: Settings, name: str) -> FunctionInfo:
    """What an optimiser function declares. Raises `ScopeError` if there is none of that name."""
    entry = program.module.lookup(name)
    if entry is None or not isinstance(entry.item, FunctionTree):
        near = get_close_matches(settings.optimiser, OPTIMISERS, 1)
        note = f"did you mean `{near[0]}`?" if near else "an optimiser is a pair of functions NAME_start and NAME"
        raise ScopeError.at(settings.span, f"there is no optimiser function `{name}`", note=note)
    return function_info(entry.module, entry.item)
