"""Reverse mode: jvp, unzip, transpose."""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ad.cotangents import Reach
from dgraph.ad.jvp import Jvp, tangent_input
from dgraph.ad.prepare import prepare
from dgraph.ad.transpose import Transpose
from dgraph.ad.unzip import Unzip
from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Node, Region, Value


@dataclass(frozen=True)
class Linearized:
    """A region at a point: primal nodes and linear nodes that read them, in an order that can run.

    `tangents` has one entry per input, `moved` one per output: the tangent, or None for a structural zero.
    """

    inputs: tuple[Value, ...]
    tangents: tuple[Value | None, ...]
    nodes: tuple[Node, ...]
    linear: frozenset[Value]
    outputs: tuple[Value, ...]
    moved: tuple[Value | None, ...]


def linearize(region: Region, active: Sequence[bool]) -> Linearized:
    """Values and tangents of a region, every node purely primal or purely linear in the tangents."""
    region = prepare(region)
    g = Builder()
    primals = [g.input(value.type, value.name) for value in region.inputs]
    tangents = [tangent_input(g, value, flag) for value, flag in zip(region.inputs, active, strict=True)]
    outputs, moved = Jvp().run(g, region, primals, tangents)
    joint = remove_dead_code(g.close([*outputs, *(value for value in moved if value is not None)]))
    given = {value for value in tangents if value is not None}
    halves = Unzip().halves(joint, [value in given for value in joint.inputs])
    return Linearized(tuple(primals), tuple(tangents), halves.nodes, halves.values, tuple(outputs), tuple(moved))


def vjp(region: Region, wrt: Sequence[bool], seeded: Sequence[bool]) -> Region:
    """The region that takes its inputs and a cotangent for each output marked in `seeded`, and returns its outputs
    and a cotangent for each input marked in `wrt`."""
    line = linearize(region, wrt)
    g = Builder()
    inputs = [g.input(value.type, value.name) for value in line.inputs]
    seeds = [
        (moved, g.input(output.type, f"{output.name}_bar" if output.name else ""))
        for output, moved, flag in zip(line.outputs, line.moved, seeded, strict=True)
        if flag
    ]
    run = Transpose(g, dict(zip(line.inputs, inputs, strict=True)), line.linear, Reach())
    with g.at(derived="adjoint"):
        for moved, seed in seeds:
            if moved is not None and moved in line.linear:
                run.cotangents.add(moved, seed)
        run.run(line.nodes)
        cotangents = [
            run.cotangents.get(tangent) or g.zeros(tangent.type) for tangent in line.tangents if tangent is not None
        ]
    outputs = [run.primal[output] for output in line.outputs]
    return remove_dead_code(g.close([*outputs, *cotangents]))
