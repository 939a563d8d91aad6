"""What a legal graph is, checked after every stage of the pipeline and, where a pass is tested, around every pass."""

from __future__ import annotations

from collections import Counter

from dgraph.errors import InvalidGraph
from dgraph.ir.graph import Graph, Region, Value
from dgraph.ir.op import require
from dgraph.types import Accumulator, Array, leaves


def verify(graph: Graph) -> Graph:
    """The graph itself if it is legal. Raises `InvalidGraph`.

    Every value is defined once and before it is read, in its own region; result types are what the op infers;
    an accumulator is used exactly once; inputs and outputs are the leaves of the formals and of the result.
    """
    formals = [type_ for formal in graph.formals for _, type_ in leaves(formal.type, formal.name)]
    require(formals == [value.type for value in graph.region.inputs], f"{graph.name}: inputs differ from the formals")
    results = [type_ for _, type_ in leaves(graph.result)]
    require(results == [value.type for value in graph.region.outputs], f"{graph.name}: outputs differ from the result")
    for wish in graph.wishes:
        require(wish.name in graph.sizes, f"{graph.name}: the wish {wish.name} is no size")
    for value in graph.region.inputs:
        assert isinstance(value.type, Array)
        for extent in value.type.shape:
            unknown = [atom for atom in extent.atoms() if isinstance(atom, str) and atom not in graph.sizes]
            require(not unknown, f"{graph.name}: {value!r} has the undeclared size {unknown}")
    verify_region(graph.region)
    return graph


def verify_region(region: Region) -> None:
    """Raise `InvalidGraph` if a region, or one inside it, is not legal."""
    defined: set[Value] = set()

    def define(values: tuple[Value, ...]) -> None:
        for value in values:
            if value in defined:
                raise InvalidGraph(f"{value!r} is defined twice")
            defined.add(value)

    uses: Counter[Value] = Counter(region.outputs)
    define(region.inputs)
    for node in region.nodes:
        for operand in node.operands:
            if operand not in defined:
                raise InvalidGraph(f"{node!r} reads {operand!r} before it is defined, or outside its region")
        uses.update(operand for operand in node.operands if isinstance(operand.type, Accumulator))
        for inner in node.regions:
            verify_region(inner)
        try:
            types = node.op.infer([operand.type for operand in node.operands], node.regions)
        except InvalidGraph as fault:
            raise InvalidGraph(f"{node!r}: {fault}") from None
        if types != tuple(value.type for value in node.results):
            raise InvalidGraph(f"{node!r}: results should be {types}")
        define(node.results)
    for output in region.outputs:
        if output not in defined:
            raise InvalidGraph(f"the output {output!r} is not defined")
    for value in defined:
        if isinstance(value.type, Accumulator):
            require(uses[value] <= 1, f"the accumulator {value!r} is used {uses[value]} times")
