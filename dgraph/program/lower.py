"""From a recipe to a graph, through the same door as calls inside the language."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from dgraph.errors import Diagnostic, ScopeError
from dgraph.frontend import Derived, Target, functions, lower_function
from dgraph.frontend.entry import function_value
from dgraph.frontend.listing import function_info, record_named
from dgraph.frontend.tree import TypeName
from dgraph.frontend.values import FunctionValue, Transformed
from dgraph.program.generic import Open, OpenFormal
from dgraph.program.signature import Signature
from dgraph.sizes import Size, variable
from dgraph.types import DTYPES, Array, Type, with_axes

if TYPE_CHECKING:
    from dgraph.frontend import Module
    from dgraph.ir.graph import Graph
    from dgraph.program.functions import Recipe


def lower(
    module: Module, recipe: Recipe, precision: str | None = None, *, leaves_sweeps: bool = False
) -> tuple[Graph, Signature]:
    """The source graph of a function, and its signature; with `leaves_sweeps`, Jacobians in no certain mode are nodes
    whose sweeps are chosen at a call. Raises `DgraphError`."""
    root = recipe.root
    types = chosen_types(module, root) if root.types else None
    promoted = DTYPES[precision] if precision else None
    graph = lower_function(module, target_of(recipe), types=types, precision=promoted, leaves_sweeps=leaves_sweeps)
    info = functions(module)[root.name]
    stored = {*info.stored, *module.stored}
    own = {formal.name for formal in info.formals}
    params = tuple(formal.name for formal in graph.formals if formal.name in stored and formal.name not in own)
    defaults = {formal.name: formal.default for formal in info.formals if formal.default is not None}
    return graph, Signature(recipe.words, graph.sizes, graph.formals, graph.result, params, defaults)


def chosen_types(module: Module, root: Recipe) -> dict[str, Type]:
    """The types of generic formals: each axis is a size of its own until the declaration says which are equal."""
    function = module.functions[root.name]
    taken = {generic.name for generic in function.generics} | {formal.name for formal in function.formals}
    types: dict[str, Type] = {}

    def fresh(size_name: str) -> Size:
        while size_name in taken:
            size_name += "_"
        taken.add(size_name)
        return variable(size_name)

    def fresh_of(name: str, size_name: str) -> Size:
        return fresh(f"{name}_{size_name}")

    for name, dtype, rank in root.types:
        axes = tuple(fresh(f"{name}{axis}") for axis in range(rank))
        if dtype in DTYPES:
            types[name] = Array(DTYPES[dtype], axes)
        else:
            types[name] = with_axes(record_named(module, dtype, partial(fresh_of, name)), axes)
    return types


def open_formals(module: Module, recipe: Recipe) -> Open | None:
    """What calls must say of a function that is generic in a dtype or a shape; None if nothing, or if it is said."""
    function = module.functions.get(recipe.root.name)
    if function is None or recipe.root.types:
        return None
    kinds = {generic.name: generic.kind for generic in function.generics if generic.kind != "size"}
    infos = function_info(module, function).formals
    batched = list(_batched(function_value(module, target_of(recipe))))
    opened = {}
    for info, formal in zip(infos, function.formals, strict=True):
        written = formal.type
        if info.type is not None or not isinstance(written, TypeName) or written.outer is not None:
            continue
        name = written.path[0]
        if len(written.path) == 1 and (name in DTYPES or kinds.get(name) in ("float", "int", "number", "record")):
            times = batched.count(info.name)
            opened[info.name] = OpenFormal(name, kinds.get(name, ""), len(written.dims or ()), times, info.is_required)
    needed = kinds and any(formal.is_required for formal in opened.values())
    return Open(tuple(info.name for info in infos), opened) if needed else None


def _batched(function: FunctionValue) -> Iterator[str]:
    """The names over which each `vmap` of a chain of transforms runs."""
    while isinstance(function, Transformed):
        if function.kind == "vmap":
            yield from function.wrt
        function = function.function


def target_of(recipe: Recipe) -> Target:
    """A recipe as the front end takes it. Raises `ScopeError` for an option that the transform does not have."""
    if recipe.of is None:
        return recipe.name
    options = dict(recipe.options)
    names = options.pop("over" if recipe.name == "vmap" else "wrt", None)
    mode = options.pop("mode", "auto")
    if mode not in ("auto", "forward", "reverse", "sparse"):
        raise ScopeError(Diagnostic(f'mode="{mode}" is not one of "forward", "reverse", "sparse", "auto"'))
    return Derived(recipe.name, target_of(recipe.of), names, mode)
