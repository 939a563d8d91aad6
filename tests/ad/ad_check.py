"""Identities that hold for every region with one float scalar result, and the runs they need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgraph.ad import jvp, vjp
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.graph import Node, Region, Value, walk
from dgraph.ir.verify import verify_region
from dgraph.types import F64, I64, Array


@dataclass(frozen=True)
class Example:
    """A region with one float scalar result, arguments, the inputs to differentiate for, and the sizes."""

    region: Region
    arguments: tuple[Any, ...]
    wrt: tuple[int, ...] = (0,)
    sizes: tuple[tuple[str, int], ...] = ()

    @property
    def flags(self) -> list[bool]:
        return [at in self.wrt for at in range(len(self.arguments))]


def build(types: Sequence[Array], body: Callable[..., Value]) -> Region:
    """A region from a function of a builder and its inputs."""
    g = Builder()
    region = g.close([body(g, *(g.input(type_) for type_ in types))])
    verify_region(region)
    return region


def real(h: Builder, number: float) -> Value:
    return h.constant(number, F64)


def whole(h: Builder, number: int) -> Value:
    return h.constant(number, I64)


def run(region: Region, arguments: Sequence[Any], sizes: Sequence[tuple[str, int]] = ()) -> list[Any]:
    """The outputs of a legal region."""
    verify_region(region)
    values = [
        np.asarray(argument, value.type.dtype.numpy)[()]
        for argument, value in zip(arguments, region.inputs, strict=True)
        if isinstance(value.type, Array)
    ]
    return list(Interpreter(dict(sizes)).run(region, values))


def ops(region: Region) -> list[str]:
    """Names of all nodes, nested ones too."""
    return [node.op.name for node in walk(region)]


def tapes(region: Region) -> list[Node]:
    """The loops that write tapes."""
    return [node for node in walk(region) if getattr(node.op, "tapes", 0)]


def gradient(example: Example) -> Region:
    """The region that returns value and gradients; it takes the seed last."""
    return vjp(example.region, example.flags, [True])


def forward_over_reverse(example: Example, reverse: Region) -> Region:
    return jvp(reverse, [*example.flags, False])


def reverse_over_reverse(example: Example, reverse: Region) -> Region:
    """Takes the arguments, the seed, and a cotangent for each gradient."""
    return vjp(reverse, [*example.flags, False], [False, *(True for _ in example.wrt)])


def directions(example: Example, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(np.shape(example.arguments[at])) for at in example.wrt]


def moved(example: Example, along: Sequence[Any], step: float) -> list[Any]:
    """The arguments a step along a direction."""
    arguments = list(example.arguments)
    for at, direction in zip(example.wrt, along, strict=True):
        arguments[at] = np.asarray(arguments[at], float) + step * direction
    return arguments


def error(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference relative to the size of what is expected; NaN counts as infinite."""
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        difference = np.max(np.abs(np.asarray(one) - other), initial=0) / (1 + np.max(np.abs(other), initial=0))
        worst = max(worst, float(difference) if np.isfinite(difference) else np.inf)
    return worst


def central(
    example: Example, region: Region, along: Sequence[Any], step: float, extra: Sequence[Any] = ()
) -> list[Any]:
    """The central difference of the outputs of a region along a direction."""
    up, down = (run(region, [*moved(example, along, s), *extra], example.sizes) for s in (step, -step))
    return [(a - b) / (2 * step) for a, b in zip(up, down, strict=True)]


def gradient_by_differences(example: Example) -> list[Any]:
    found = []
    for at in example.wrt:
        shape = np.shape(example.arguments[at])
        entries = []
        for place in range(int(np.prod(shape))):
            along = [np.zeros(np.shape(example.arguments[k])) for k in example.wrt]
            unit = np.zeros(int(np.prod(shape)))
            unit[place] = 1
            along[example.wrt.index(at)] = unit.reshape(shape)
            entries.append(central(example, example.region, along, 1e-6)[0])
        found.append(np.array(entries).reshape(shape))
    return found


def first_order(example: Example) -> dict[str, float]:
    """Gradient against differences, jvp against vjp."""
    reverse = gradient(example)
    value, *found = run(reverse, [*example.arguments, 1.0], example.sizes)
    along = directions(example)
    forward = run(jvp(example.region, example.flags), [*example.arguments, *along], example.sizes)
    product = sum(np.sum(one * other) for one, other in zip(found, along, strict=True))
    return {
        "value": error([value], run(example.region, example.arguments, example.sizes)),
        "differences": error(found, gradient_by_differences(example)),
        "forward": error([forward[1]], [product]),
    }


def second_order(example: Example) -> dict[str, float]:
    """Forward over reverse against differences, reverse over reverse and reverse over forward against it."""
    reverse = gradient(example)
    along = directions(example)
    count = len(example.wrt)
    over = forward_over_reverse(example, reverse)
    hessian_vector = run(over, [*example.arguments, 1.0, *along], example.sizes)[-count:]
    twice = run(reverse_over_reverse(example, reverse), [*example.arguments, 1.0, *along], example.sizes)[-count:]
    forward = jvp(example.region, example.flags)
    mixed = vjp(forward, [*example.flags, *(False for _ in along)], [False, True])
    swapped = run(mixed, [*example.arguments, *along, 1.0], example.sizes)[-count:]
    return {
        "differences": error(hessian_vector, central(example, reverse, along, 1e-5, [1.0])[1:]),
        "reverse over reverse": error(twice, hessian_vector),
        "reverse over forward": error(swapped, hessian_vector),
    }
