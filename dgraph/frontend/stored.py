"""Which params and states a function reads, through everything that it names."""

from __future__ import annotations

from collections.abc import Iterator

from dgraph.frontend import tree as t
from dgraph.frontend.modules import Entry, Module
from dgraph.frontend.values import Closure, FunctionValue, Transformed


def root(function: FunctionValue) -> Closure:
    """The function below all transforms."""
    while isinstance(function, Transformed):
        function = function.function
    return function


def stored_by_name(module: Module, name: str) -> t.Stored | None:
    """The param or state that a name means in a module."""
    entry = module.lookup(name)
    return entry.item if entry is not None and isinstance(entry.item, t.Stored) else None


def stored_of(function: FunctionValue) -> dict[t.Stored, Module]:
    """The params and states that a function and its rule read, and those that its transforms name, in the order of
    their declarations."""
    found: dict[t.Stored, Module] = {}
    seen: set[t.Node] = set()
    waiting: list[Closure] = [root(function)]
    while waiting:
        closure = waiting.pop(0)
        if closure.function in seen:
            continue
        seen.add(closure.function)
        waiting.extend(_captured(closure))
        rule = closure.module.rule_of(closure.function)
        if rule is not None:
            waiting.append(Closure(rule, closure.module))
        for entry in _named(closure.function, closure.module, seen):
            if isinstance(entry.item, t.Stored):
                found.setdefault(entry.item, entry.module)
            elif isinstance(entry.item, t.Function):
                waiting.append(Closure(entry.item, entry.module))
    layer: FunctionValue = function
    while isinstance(layer, Transformed):
        for name in layer.wrt:
            item = stored_by_name(root(layer).module, name)
            if item is not None:
                found.setdefault(item, root(layer).module.names[name].module)
        layer = layer.function
    family = root(function).module.family
    return dict(sorted(found.items(), key=lambda pair: (family.index(pair[1]), pair[0].span.start)))


def times_mapped(function: FunctionValue, name: str) -> int:
    """How many layers of `vmap` run over a param or state."""
    times = 0
    while isinstance(function, Transformed):
        times += function.kind == "vmap" and name in function.wrt
        function = function.function
    return times


def _captured(closure: Closure) -> Iterator[Closure]:
    """Functions that a nested `def` or `lambda` captures and names."""
    for node in t.walk(closure.function) if closure.names else ():
        if isinstance(node, t.Name) and closure.names is not None and node.name in closure.names:
            held = closure.names[node.name].value
            if isinstance(held, Closure | Transformed):
                yield root(held)


def _named(node: t.Node, module: Module, seen: set[t.Node]) -> Iterator[Entry]:
    """What the names inside a function mean in its module, constants looked through."""
    for inner in t.walk(node):
        entry: Entry | None = None
        if isinstance(inner, t.Name | t.Place):
            entry = module.lookup(inner.name)
        elif isinstance(inner, t.Member) and isinstance(inner.base, t.Name):
            held = module.lookup(inner.base.name)
            entry = held.module.names.get(inner.name) if held is not None and held.item is None else None
        if entry is None:
            continue
        if isinstance(entry.item, t.Constant):
            if entry.item not in seen:
                seen.add(entry.item)
                yield from _named(entry.item, entry.module, seen)
        else:
            yield entry
