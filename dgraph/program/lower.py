"""From a recipe to a graph, through the same door as calls inside the language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dgraph.errors import Diagnostic, ScopeError
from dgraph.frontend import Derived, Target, functions, lower_function
from dgraph.program.signature import Signature
from dgraph.types import DTYPES

if TYPE_CHECKING:
    from dgraph.frontend import Module
    from dgraph.ir.graph import Graph
    from dgraph.program.functions import Recipe


def lower(module: Module, recipe: Recipe, precision: str | None = None) -> tuple[Graph, Signature]:
    """The source graph of a function, and its signature. Raises `DgraphError`."""
    root = recipe
    while root.of is not None:
        root = root.of
    graph = lower_function(module, target_of(recipe), precision=DTYPES[precision] if precision else None)
    info = functions(module)[root.name]
    stored = {*info.stored, *module.stored}
    own = {formal.name for formal in info.formals}
    params = tuple(formal.name for formal in graph.formals if formal.name in stored and formal.name not in own)
    defaults = {formal.name: formal.default for formal in info.formals if formal.default is not None}
    return graph, Signature(recipe.words, graph.sizes, graph.formals, graph.result, params, defaults)


def target_of(recipe: Recipe) -> Target:
    """A recipe as the front end takes it. Raises `ScopeError` for an option that the transform does not have."""
    if recipe.of is None:
        return recipe.name
    options = dict(recipe.options)
    names = options.pop("over" if recipe.name == "vmap" else "wrt", None)
    mode = options.pop("mode", "auto")
    if mode not in ("auto", "forward", "reverse", "sparse"):
        raise ScopeError(Diagnostic(f'mode="{mode}" is not one of "forward", "reverse", "auto"'))
    return Derived(recipe.name, target_of(recipe.of), names, mode)
