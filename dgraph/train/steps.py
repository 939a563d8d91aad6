"""The compiled step of a `@train` function: loss, gradient and update as one graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dgraph.errors import Diagnostic, ScopeError, TypeMismatch
from dgraph.frontend import Derived, FunctionInfo, lower_function, stored
from dgraph.frontend.listing import function_info
from dgraph.frontend.tree import Function as FunctionTree
from dgraph.ir.build import Builder
from dgraph.ir.graph import Formal, Graph, Value
from dgraph.kernels.compile import CompiledGraph
from dgraph.program.build import compile_lowered
from dgraph.types import F64, Array, DType, Tuple, Type, leaves

if TYPE_CHECKING:
    from dgraph.program.functions import Program
    from dgraph.train.settings import Settings


@dataclass(frozen=True)
class Step:
    """A training step over leaves.

    inputs   data formals, params and states read, optimiser states of `params`
    outputs  loss, new states, new params, new optimiser states

    `starts` are the first leaves of the optimiser states.
    """

    kernel: CompiledGraph
    graph: Graph
    data: tuple[Formal, ...]
    stored: tuple[Formal, ...]
    params: tuple[Formal, ...]
    states: tuple[Formal, ...]
    starts: tuple[list[Any], ...]

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


def build_step(program: Program, settings: Settings, values: dict[str, list[Any]]) -> Step:
    """Compile the step of a `@train` function; `values` are the leaves of the params by name.

    Raises `DgraphError` if the loss or the optimiser does not fit.
    """
    module = program.module
    known = stored(module)
    info = function_info(module, module.functions[settings.function])
    trained = settings.wrt or tuple(name for name in info.stored if known[name].kind == "param")
    unread = [name for name in trained if name not in info.stored]
    if unread or not trained:
        what = f"does not read `{unread[0]}`" if unread else "reads no param, so there is nothing to train"
        raise ScopeError.at(settings.span, f"`{settings.function}` {what}", note="as in param model: Mlp[64, 10]")
    loss = lower_function(module, Derived("value_and_grad", settings.function, trained))
    value_type, _ = loss.result.items if isinstance(loss.result, Tuple) else (loss.result, None)
    states = tuple(Formal(name, known[name].type) for name in info.stored if known[name].kind == "state")
    returned = states if isinstance(value_type, Tuple) else ()
    count = len(info.formals)
    g = Builder()
    inputs = [g.input(value.type, value.name) for value in loss.region.inputs]
    outputs = g.call(settings.function, inputs, loss.region)
    value = leaf_count(value_type)
    place = {name: at for at, name in enumerate(loss.input_names)}
    params, optimisers, starts, formals = [], [], [], list(loss.formals)
    slopes = list(outputs[value:])
    for name in trained:
        type_ = known[name].type
        leaf_values = [inputs[place[label]] for label, _ in leaves(type_, name)]
        slope, slopes = slopes[: len(leaf_values)], slopes[len(leaf_values) :]
        state, start = start_of(program, settings, type_, values[name])
        starts.append(start)
        formals.append(Formal(f"{name}_{settings.optimiser}", state))
        carried = [g.input(leaf, label) for label, leaf in leaves(state, formals[-1].name)]
        after = update(g, program, settings, type_, state, [*leaf_values, *slope, *carried])
        params += after[: len(leaf_values)]
        optimisers += after[len(leaf_values) :]
    kept = 1 + sum(leaf_count(formal.type) for formal in returned)
    region = g.close([*outputs[:kept], *params, *optimisers])
    result = Tuple(tuple(output.type for output in region.outputs if isinstance(output.type, Array)))
    graph = Graph(f"{settings.function}_step", loss.sizes, tuple(formals), result, region, settings.span)
    return Step(
        compile_lowered(graph),
        graph,
        loss.formals[:count],
        loss.formals[count:],
        tuple(Formal(name, known[name].type) for name in trained),
        returned,
        tuple(starts),
    )


def optimiser_info(program: Program, settings: Settings, name: str) -> FunctionInfo:
    """What an optimiser function declares. Raises `ScopeError` if there is none of that name."""
    entry = program.module.lookup(name)
    if entry is None or not isinstance(entry.item, FunctionTree):
        near = get_close_matches(settings.optimiser, ("sgd", "nesterov", "rmsprop", "adam"), 1)
        note = f"did you mean `{near[0]}`?" if near else "an optimiser is a pair of functions NAME_start and NAME"
        raise ScopeError.at(settings.span, f"there is no optimiser function `{name}`", note=note)
    return function_info(entry.module, entry.item)


def precision_of(type_: Type) -> DType | None:
    """f64 for params of f64: the optimisers' own numbers follow the params."""
    floats = {leaf.dtype for _, leaf in leaves(type_) if leaf.dtype.is_float}
    return F64 if floats == {F64} else None


def start_of(program: Program, settings: Settings, type_: Type, values: Sequence[Any]) -> tuple[Type, list[Any]]:
    """The type of an optimiser's state for one param, and its first leaves."""
    name = f"{settings.optimiser}_start"
    info = optimiser_info(program, settings, name)
    graph = lower_function(program.module, name, types={info.formals[0].name: type_}, precision=precision_of(type_))
    return graph.result, compile_lowered(graph).call(list(values))


def update(
    g: Builder, program: Program, settings: Settings, type_: Type, state: Type, given: Sequence[Value]
) -> list[Value]:
    """The new leaves of one param and of its optimiser's state."""
    info = optimiser_info(program, settings, settings.optimiser)
    first = [formal.name for formal in info.formals[:3]]
    options = {formal.name: formal for formal in info.formals[3:]}
    for name in settings.options:
        if name not in options:
            near = get_close_matches(name, options, 1)
            note = f"did you mean `{near[0]}`?" if near else f"its options are {', '.join(options)}"
            raise ScopeError.at(settings.span, f"`{settings.optimiser}` has no option `{name}`", note=note)
    types = dict(zip(first, (type_, type_, state), strict=True))
    graph = lower_function(program.module, settings.optimiser, types=types, precision=precision_of(type_))
    numbers = []
    for formal in graph.formals[3:]:
        number = settings.options.get(formal.name, options[formal.name].default)
        if number is None or not isinstance(formal.type, Array) or formal.type.shape:
            title = f"`{settings.optimiser}` needs a number for `{formal.name}`"
            raise TypeMismatch(Diagnostic(title, (), f"as in optimiser={settings.optimiser}({formal.name}=0.1)"))
        numbers.append(g.constant(number, formal.type.dtype))
    return list(g.call(settings.optimiser, [*given, *numbers], graph.region))
