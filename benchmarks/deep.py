"""Training steps of networks beside PyTorch and JAX: perceptrons, LeNet, a block of convolutions, an LSTM.

    python benchmarks/deep.py             # prints, and writes its section of docs/benchmarks.md
    python benchmarks/deep.py --quick --alone     # tiny sizes, no peers, nothing written

A step is a loss, its gradient and the update. Peers: PyTorch eager and jitted JAX where installed. One thread on one
core for all; losses and updated weights are compared before anything is timed.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from measure import Row, fastest, machine, pin_to_one_core, table, versions, write_section

pin_to_one_core()

import deep_jax  # noqa: E402
import deep_torch  # noqa: E402
import numpy as np  # noqa: E402

import dgraph as dg  # noqa: E402

PROGRAM = Path(__file__).with_name("deep.dg")
RATE = np.float32(0.1)
TOLERANCE = 2e-4
"""Of the largest entry: sums of single-precision numbers are added in different orders."""


@dataclass(frozen=True)
class Case:
    """A network: the function of `deep.dg`, the shapes of its weights by dotted name, its data, and sizes in words."""

    name: str
    words: str
    weights: dict[str, tuple[int, ...]]
    data: list[Any]


def dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """The shapes of an affine map."""
    return {f"{name}.w": (inputs, outputs), f"{name}.b": (outputs,)}


def conv(name: str, kernel: int, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a convolution."""
    return {f"{name}.w": (kernel, kernel, inputs, outputs), f"{name}.b": (outputs,)}


def cases(is_quick: bool) -> list[Case]:
    """What is measured."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    batch, width, steps, side = (4, 8, 5, 6) if is_quick else (64, 128, 100, 32)
    few, sequences, channels = (2, 3, 4) if is_quick else (8, 32, 64)
    label = rng.integers(0, 10, batch).astype(np.int32)
    lenet = conv("conv1", 5, 1, 6) | conv("conv2", 5, 6, 16)
    lenet |= dense("dense1", 256, 120) | dense("dense2", 120, 84) | dense("dense3", 84, 10)
    block = conv("conv1", 3, channels, channels) | conv("conv2", 3, channels, channels)
    deep = {"layers.w": (10, width, width), "layers.b": (10, width)}
    lstm = {"w": (width, 4 * width), "u": (width, 4 * width), "b": (4 * width,)}
    return [
        Case(
            "mlp",
            f"MLP 784-128-10, batch {batch}",
            dense("layer1", 784, 128) | dense("layer2", 128, 10),
            [normal(batch, 784), label],
        ),
        Case("deep", f"10 layers of {width}, batch {batch}", deep, [normal(batch, width), normal(batch, width)]),
        Case("lenet", f"LeNet, batch {batch}", lenet, [normal(batch, 28, 28, 1), label]),
        Case(
            "block",
            f"two 3x3 convolutions of {channels} channels, {side}x{side}, batch {few}",
            block,
            [normal(few, side, side, channels)],
        ),
        Case(
            "lstm",
            f"LSTM of {width}, {steps} steps, batch {sequences}",
            lstm,
            [normal(steps, sequences, width), normal(steps, sequences, width)],
        ),
    ]


def weights_of(case: Case) -> dict[str, np.ndarray]:
    """Weights that keep numbers about as large as they were."""
    rng = np.random.default_rng(1)
    found = {}
    for name, shape in case.weights.items():
        is_bias = name.endswith("b")
        scale = 0.1 if is_bias else 1.0 / np.sqrt(shape[-2] if case.name == "deep" else np.prod(shape[:-1]))
        found[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return found


def nested(weights: dict[str, np.ndarray]) -> Any:
    """Dotted names as records."""
    found: dict[str, Any] = {}
    for name, array in weights.items():
        *path, last = name.split(".")
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[last] = array
    return found


def flat(value: Any, name: str) -> np.ndarray:
    """The array of a dotted name in what a step returned."""
    for part in name.split("."):
        value = getattr(value, part)
    return np.asarray(value)


def calls_of(case: Case, is_alone: bool) -> dict[str, Callable[[], object]]:
    """The same step by everyone, answers compared."""
    weights = weights_of(case)
    step = dg.compile(getattr(dg.load(PROGRAM), case.name))
    model = nested(weights)
    value, after = step(model, *case.data, RATE)
    answers = {"dgraph": [np.asarray(value), *(flat(after, name) for name in weights)]}
    calls: dict[str, Callable[[], object]] = {"dgraph": step.bind(model, *case.data, RATE)}
    for title, peer in (("PyTorch eager", deep_torch), ("JAX jit", deep_jax)):
        if is_alone or not peer.is_installed():
            continue
        call, read = peer.step_of(case.name, weights, case.data, float(RATE))
        answers[title] = read(call())
        calls[title] = call
    compare(case, answers)
    return calls


def compare(case: Case, answers: dict[str, list[np.ndarray]]) -> None:
    """Stop unless all agree on the loss and on what was added to each weight."""
    before = [np.zeros(()), *weights_of(case).values()]
    names = ["loss", *case.weights]
    for title, theirs in answers.items():
        for name, start, one, other in zip(names, before, answers["dgraph"], theirs, strict=True):
            scale = max(float(np.abs(other - start).max()), 1e-4 * float(np.abs(start).max(initial=0.0)), 1e-30)
            worst = float(np.abs(one - other).max()) / scale
            if not worst <= TOLERANCE:
                raise SystemExit(f"{case.name}: dgraph and {title} differ in {name} by {worst:.1e} (relative)")


def main() -> None:
    """Measure everything, print it, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; write nothing")
    parser.add_argument("--alone", action="store_true", help="no peers")
    options = parser.parse_args()
    rounds = 2 if options.quick else 7
    rows = [Row(case.words, fastest(calls_of(case, options.alone), rounds)) for case in cases(options.quick)]
    lines = [
        "Written by `python benchmarks/deep.py`. A step is a loss, its gradient and the update; dgraph's is bound.",
        "",
        f"{date.today().isoformat()}; {machine()};",
        f"dgraph {dg.__version__}, {versions('numpy', 'llvmlite', 'torch', 'jax')}",
        "",
        *table(rows, 1e-6, "µs"),
        "",
    ]
    if options.quick:
        print("\n".join(lines))
    else:
        write_section("Networks", lines)


if __name__ == "__main__":
    main()
