"""From a graph to a loop program: a walk over regions with one rule per op.

The graph has no `call jvp vjp vmap` nodes any more. Scalars become locals, arrays views of buffers; array ops without a
rule of their own are written as index spaces by their `expand`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dgraph.errors import NOWHERE, NotSupported
from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.kernels import (
    disk_lower,
    lapack_lower,
    lower_arrays,
    lower_contractions,
    lower_control,
    lower_index,
    lower_products,
    lower_space,
)
from dgraph.kernels.lowering import Lowering, compare
from dgraph.kernels.math import precise_name
from dgraph.kernels.nest_parts import blocks_of, walk
from dgraph.kernels.nests import (
    Apply,
    Buffer,
    Expression,
    Extent,
    Local,
    Loop,
    Program,
    Statement,
    Store,
    While,
    machine_type,
    number,
)
from dgraph.kernels.notices import Check, Copied
from dgraph.kernels.scalars import is_scalar_op, scalar_facts
from dgraph.kernels.scope import Binding, Scope
from dgraph.kernels.views import View, minus, plus, times, whole
from dgraph.sizes import product
from dgraph.types import Array, Shape

Rule = Callable[["GraphLowering", Scope, Node], None]

RULES: dict[str, Rule] = {
    **lower_arrays.RULES,
    **lower_products.RULES,
    **lower_contractions.RULES,
    **lower_index.RULES,
    **lower_control.RULES,
    **lower_space.RULES,
    **lapack_lower.RULES,
    **disk_lower.RULES,
}

_INDEX_ARITHMETIC = {"add": plus, "sub": minus, "mul": times}


class GraphLowering(Lowering):
    """Walks regions."""

    def region(
        self,
        region: Region,
        inputs: Sequence[Binding],
        targets: Sequence[View | None] = (),
        owned: frozenset[Buffer] = frozenset(),
    ) -> list[Binding]:
        """Lower a region; returns where its outputs live. `targets` are wishes for arrays; memory in `owned` that
        nothing reads any more may be written over."""
        scope = Scope(region, inputs, owned)
        if targets:
            scope.set_targets(targets)
        live = _live_nodes(region)
        around = len(self.turns)
        for position, node in enumerate(region.nodes):
            if node in live:
                scope.position = position
                self.node(scope, node)
        del self.turns[around:]
        return [scope.bindings[value] for value in region.outputs]

    def node(self, scope: Scope, node: Node) -> None:
        """Lower one node by its rule, as a scalar, or by its expansion."""
        if node.span is not NOWHERE:
            self.span = node.span
        rule = RULES.get(node.op.name)
        if rule is not None:
            rule(self, scope, node)
        elif _is_scalar(node):
            scope.bindings[node.result] = self.scalar(node, [scope.expression(value) for value in node.operands])
        else:
            self.expanded(scope, node)

    def scalar(self, node: Node, operands: list[Expression]) -> Expression:
        """A scalar op: a new local, except that sums of indices stay expressions so that reads show their stride."""
        type_ = node.result.type
        assert isinstance(type_, Array)
        machine = machine_type(type_.dtype)
        if node.op.name in ("floor_divide", "mod"):
            self.check_divisor(node, operands[1])
        if machine == "i64" and node.op.name in _INDEX_ARITHMETIC and sum(map(_length, operands)) < 8:
            return _INDEX_ARITHMETIC[node.op.name](*operands)
        name = precise_name(node.op.name, machine) if self.precise else node.op.name
        applied = Apply(name, machine, tuple(operands), scalar_facts(node.op))
        local = self.let(node.result.name or node.op.name, applied)
        most = self.at_most(applied)
        if most is not None:
            self.most[local] = most
        return local

    def check_divisor(self, node: Node, divisor: Expression) -> None:
        """Stop at an integer divided by 0, if its op says so."""
        op: Any = node.op
        type_ = node.result.type
        assert isinstance(type_, Array)
        if op.policy == "error" and type_.dtype.kind == "int" and self.checks_on:
            holds = compare("not_equal", divisor, self.constant(0, type_.dtype))
            self.fail_unless(holds, Check("division by zero", (), (), node.span, "while this was computed"))

    def expanded(self, scope: Scope, node: Node) -> None:
        """The index-space form of an array op."""
        g = Builder()
        inputs = [g.input(value.type, value.name) for value in node.operands]
        try:
            with g.at(node.span, node.scope, node.derived):
                outputs = node.op.expand(g, inputs)
        except NotImplementedError:
            raise NotSupported.at(node.span, f"`{node.op.name}` has no kernels yet", "needed here") from None
        region = g.close(outputs)
        if any(inner.op == node.op for inner in region.nodes):
            raise NotSupported.at(node.span, f"`{node.op.name}` has no kernels yet", "needed here")
        owned = scope.free_buffers(node)
        bindings = [scope.bindings[value] for value in node.operands]
        targets = [scope.targets.get(value) for value in node.results]
        found = self.region(_named(region, node), bindings, targets, owned)
        shared = {binding.buffer for binding in bindings if isinstance(binding, View)} - owned
        for value, binding in zip(node.results, found, strict=True):
            scope.bindings[value] = binding
            if isinstance(binding, View) and binding.buffer not in shared:
                scope.owned.add(binding.buffer)


def lower_graph(graph: Graph, checks_on: bool = True, products: bool = True, precise: bool = False) -> Program:
    """The loop program of a graph, before kernels are taken out and memory is planned. Without `products`
    matrix products are nests; `precise` ones take the place of elementary functions that have any."""
    lowering = GraphLowering(checks_on, products, precise)
    inputs: list[Buffer | Local] = []
    bindings: list[Binding] = []
    for position, value in enumerate(graph.region.inputs):
        type_ = value.type
        assert isinstance(type_, Array)
        if type_.rank:
            buffer = Buffer(value.name, machine_type(type_.dtype), product(type_.shape), "input", position)
            inputs.append(buffer)
            bindings.append(whole(buffer, type_.shape))
        else:
            local = Local(value.name, machine_type(type_.dtype))
            inputs.append(local)
            bindings.append(local)
    outputs: list[Buffer] = []
    targets: list[View | None] = []
    for position, (name, value) in enumerate(zip(graph.output_names, graph.region.outputs, strict=True)):
        type_ = value.type
        assert isinstance(type_, Array)
        buffer = Buffer(name.replace(".", "_"), machine_type(type_.dtype), product(type_.shape), "output", position)
        outputs.append(buffer)
        targets.append(whole(buffer, type_.shape) if type_.rank else None)
        for extent in type_.shape:
            lowering.extents.setdefault(extent)
    results = lowering.region(graph.region, bindings, targets)
    for buffer, target, result in zip(outputs, targets, results, strict=True):
        if target is not None:
            lowering.put(target, result)
        else:
            assert not isinstance(result, View) and not hasattr(result, "rows")
            lowering.emit(Store(buffer, number(0), result))
    body = (*_extent_checks(lowering, graph), *lowering.out)
    return Program(
        graph.name,
        graph.sizes,
        tuple(inputs),
        tuple(outputs),
        body,
        tuple(_shape(value) for value in graph.region.inputs),
        tuple(_shape(value) for value in graph.region.outputs),
        graph.told_sizes,
        tuple(lowering.checks),
        lowering.rows,
        blocks=tuple(dict.fromkeys(lowering.blocks)),
        tapes=tuple(lowering.tapes.values()),
        copies=_copies(lowering, body),
    )


def _copies(lowering: Lowering, body: tuple[Statement, ...]) -> tuple[Copied, ...]:
    """What was copied because it could not be updated in place, and whether loops do it again and again."""
    loops = (
        statement
        for statement in walk(body)
        if isinstance(statement, While) or (isinstance(statement, Loop) and statement.kind == "sequential")
    )
    repeated = {inner for loop in loops for block in blocks_of(loop) for inner in walk(block)}
    return tuple(replace(copied, each_step=statement in repeated) for statement, copied in lowering.copied)


def _shape(value: Value) -> Shape:
    assert isinstance(value.type, Array)
    return value.type.shape


def _extent_checks(lowering: Lowering, graph: Graph) -> list[Statement]:
    """No array may have a negative extent."""
    with lowering.block() as checks:
        for extent in lowering.extents:
            if not extent.is_nonnegative():
                holds = Apply("greater_equal", "bool", (Extent(extent), number(0)))
                check = Check(f"the size {extent} would be negative", (str(extent),), ("i64",), graph.span)
                lowering.fail_unless(holds, check, [Extent(extent)])
    return checks


def _is_scalar(node: Node) -> bool:
    if not is_scalar_op(node.op.name) or len(node.results) != 1:
        return False
    return all(isinstance(value.type, Array) and not value.type.shape for value in (*node.operands, *node.results))


def _live_nodes(region: Region) -> set[Node]:
    """The nodes that an output or a check needs."""
    needed = set(region.outputs)
    live = set()
    for node in reversed(region.nodes):
        if node.op.effect != "pure" or node.regions or any(result in needed for result in node.results):
            live.add(node)
            needed.update(node.operands)
    return live


def _length(expression: Expression) -> int:
    """Number of operations in an index expression."""
    return 1 + sum(map(_length, expression.operands)) if isinstance(expression, Apply) else 1


def _named(region: Region, node: Node) -> Region:
    """The region with the names of a node's results on the values that stand for them."""
    names = {
        output: result.name
        for output, result in zip(region.outputs, node.results, strict=True)
        if result.name and not output.name
    }
    if not names:
        return region
    renamed = {value: Value(value.type, name) for value, name in names.items()}
    nodes = []
    for inner in region.nodes:
        operands = tuple(renamed.get(value, value) for value in inner.operands)
        results = tuple(renamed.get(value, value) for value in inner.results)
        nodes.append(Node(inner.op, operands, results, inner.regions, inner.span, inner.scope, inner.derived))
    inputs = tuple(renamed.get(value, value) for value in region.inputs)
    return Region(inputs, tuple(nodes), tuple(renamed.get(value, value) for value in region.outputs))
