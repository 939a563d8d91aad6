"""The compiled step of a `@train` function: loss, gradient and update as one graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dgraph.errors import ScopeError
from dgraph.frontend.host import Host
from dgraph.ir.graph import Formal
from dgraph.kernels.compile import CompiledGraph
from dgraph.program.compiled import compile_lowered
from dgraph.types import Array, Type, leaves

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph
    from dgraph.program.functions import Program
    from dgraph.train.settings import Settings


@dataclass(frozen=True)
class Step:
    """A training step over leaves.

    inputs   data formals, stored params and states, optimiser states of `params`
    outputs  loss, new states, new params, new optimiser states

    `columns` are the data formals that are columns, `keys` the names of those that take a fresh key; `starts` are the
    types and first leaves of the optimiser states.
    """

    kernel: CompiledGraph
    graph: Graph
    data: tuple[Formal, ...]
    keys: tuple[str, ...]
    stored: tuple[Formal, ...]
    params: tuple[Formal, ...]
    states: tuple[Formal, ...]
    starts: tuple[tuple[Type, list[Any]], ...]

    @property
    def columns(self) -> tuple[Formal, ...]:
        """The data formals that are columns."""
        return tuple(formal for formal in self.data if formal.name not in self.keys)


def build_step(program: Program, settings: Settings, values: dict[str, list[Any]]) -> Step:
    """Compile the step of a `@train` function; `values` are the leaves of the params by name.

    Raises `DgraphError` if the loss or the optimiser does not fit.
    """
    module = program.module
    host = Host(module, name=f"{settings.function}_step")
    loss = host.function(settings.function)
    reads = dict(host.reads(loss))
    stored = module.stored
    trained = settings.wrt or tuple(name for name in reads if stored[name].kind == "param")
    unread = [name for name in trained if name not in reads]
    if unread or not trained:
        what = f"does not read `{unread[0]}`" if unread else "reads no param, so there is nothing to train"
        raise ScopeError.at(settings.span, f"`{settings.function}` {what}", note="declare one: param model: Mlp[64, 10]")
    derivative = host.transform("value_and_grad", loss, wrt=trained[0] if len(trained) == 1 else trained)
    formals = host.formals(loss)
    given = [host.formal(name, type_) for name, type_, _ in formals]
    params = {name: host.formal(name, type_) for name, type_ in reads.items()}
    value, slopes = host.items(host.call(derivative, given, params))
    returned = host.is_tuple(value)
    slope_of = dict(zip(trained, [slopes] if len(trained) == 1 else host.items(slopes), strict=True))
    optimiser = host.function(settings.optimiser, settings.span)
    options = {name: host.literal(number) for name, number in settings.options.items()}
    starts, updated, carried = [], [], []
    for name in trained:
        start = compile_start(program, settings, name, reads[name])
        starts.append((start[0], start[1].call(values[name], {})))
        state = host.formal(f"{name}_optimiser", start[0])
        after, next_state = host.items(host.call(optimiser, [params[name], slope_of[name], state], options))
        updated.append(after)
        carried.append(next_state)
    graph = host.finish(host.tuple([value, *updated, *carried]))
    data = tuple(Formal(name, type_) for name, type_, _ in formals)
    return Step(
        compile_lowered(graph),
        graph,
        data,
        tuple(formal.name for formal in data if _is_key(formal.type)),
        tuple(Formal(name, type_) for name, type_ in reads.items()),
        tuple(Formal(name, reads[name]) for name in trained),
        tuple(Formal(name, type_) for name, type_ in reads.items() if returned and stored[name].kind == "state"),
        tuple(starts),
    )


def compile_start(program: Program, settings: Settings, name: str, type_: Type) -> tuple[Type, CompiledGraph]:
    """`NAME_start` of the optimiser for one param: the type of its state, and the function."""
    host = Host(program.module, name=f"{settings.optimiser}_start")
    start = host.function(f"{settings.optimiser}_start", settings.span)
    graph = host.finish(host.call(start, [host.formal(name, type_)], {}))
    return graph.result, compile_lowered(graph)


def _is_key(type_: Type) -> bool:
    return isinstance(type_, Array) and type_.dtype.kind == "key"


def leaf_count(type_: Type) -> int:
    """Number of leaves of a type."""
    return sum(1 for _ in leaves(type_))
