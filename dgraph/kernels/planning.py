"""From a graph to a loop program whose kernels are taken out and whose memory is planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph
    from dgraph.kernels.nests import Program
    from dgraph.kernels.steering import Steering


def plan_graph(
    graph: Graph, *, checks: str = "on", math: str = "fast", schedule: Mapping[str, str] | None = None
) -> Program:
    """The loop program of a graph: kernels taken out, memory planned. `schedule` steers choices, as `Steering` says."""
    from dgraph.kernels.lower import lower_graph
    from dgraph.kernels.outline import outline
    from dgraph.kernels.plan import plan
    from dgraph.kernels.point_blocks import in_blocks
    from dgraph.kernels.registers import in_registers
    from dgraph.kernels.small_totals import with_small_totals
    from dgraph.kernels.steering import Steering
    from dgraph.kernels.tidy import tidy

    steering = Steering.of(schedule)
    lowered = lower_graph(graph, checks == "on", steering.products != "off", math == "precise")
    program = in_registers(with_small_totals(lowered))
    if steering.blocks != "off":
        program = in_blocks(program)
    program = plan(tidy(outline(program, steering.lanes)))
    return program if steering.threads != "on" else plan_in_parts(program, steering)


def plan_in_parts(program: Program, steering: Steering) -> Program:
    """A planned program with its loops cut into parts that threads share, planned anew."""
    from dgraph.kernels.plan import plan
    from dgraph.kernels.split import LEAST
    from dgraph.kernels.threads import in_threads

    if steering.threads == "off" or program.splits:
        return program
    return plan(in_threads(program, LEAST if steering.threads == "auto" else 1))
