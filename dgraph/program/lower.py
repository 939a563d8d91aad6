"""From a recipe to a graph, through the same door as calls inside the language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dgraph.frontend.host import Host
from dgraph.program.signature import Signature

if TYPE_CHECKING:
    from dgraph.frontend.modules import Module
    from dgraph.ir.graph import Graph
    from dgraph.program.functions import Recipe


def lower(module: Module, recipe: Recipe) -> tuple[Graph, Signature]:
    """The source graph of a function, and its signature. Raises `DgraphError`."""
    root = recipe
    while root.of is not None:
        root = root.of
    host = Host(module, name=root.name)
    function = _function(host, recipe)
    formals = host.formals(function)
    arguments = [host.formal(name, type_) for name, type_, _ in formals]
    graph = host.finish(host.call(function, arguments, {}))
    params = tuple(formal.name for formal in graph.formals[len(formals) :])
    defaults = {name: default for name, _, default in formals if default is not None}
    return graph, Signature.of(graph, params, defaults)


def _function(host: Host, recipe: Recipe) -> Any:
    if recipe.of is None:
        return host.function(recipe.name)
    return host.transform(recipe.name, _function(host, recipe.of), **dict(recipe.options))
