"""The first side-by-side: a training step, a fused elementwise chain, compile time, warm start, call overhead.

    python benchmarks/spine.py            # prints, and writes its section of docs/benchmarks.md

Peers: PyTorch eager and jitted JAX where installed (`pip install -e ".[bench]"`). One thread on one core for all;
answers are compared before anything is timed.
"""

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

from measure import Row, fastest, machine, pin_to_one_core, table, versions, write_section

pin_to_one_core()

import numpy as np  # noqa: E402
from starts import fewest  # noqa: E402

import dgraph as dg  # noqa: E402

HERE = Path(__file__).parent
PROGRAM = HERE / "spine.dg"
BATCHES = (16, 64, 256)
LENGTHS = (1_000, 100_000, 1_000_000)


def peers() -> dict[str, object]:
    """The peers that are installed."""
    found: dict[str, object] = {}
    try:
        import torch

        torch.set_num_threads(1)
        found["PyTorch eager"] = torch
    except ImportError:
        pass
    try:
        import jax

        jax.config.update("jax_enable_x64", True)
        found["JAX jit"] = jax
    except ImportError:
        pass
    return found


def step_calls(batch: int, known: dict[str, object]) -> dict[str, Callable[[], object]]:
    """The same training step by everyone, answers compared."""
    random = np.random.default_rng(0)
    arrays = [
        random.standard_normal(shape).astype(np.float32) * 0.05 for shape in ((784, 128), (128,), (128, 10), (10,))
    ]
    x = random.standard_normal((batch, 784)).astype(np.float32)
    label = random.integers(0, 10, batch).astype(np.int32)
    rate = np.float32(0.1)
    w1, b1, w2, b2 = arrays
    model = {"layer1": {"w": w1, "b": b1}, "layer2": {"w": w2, "b": b2}}
    step = dg.compile(dg.load(PROGRAM).step)
    value, after = step(model, x, label, rate)
    answers = {"dgraph": [value, after.layer1.w, after.layer1.b, after.layer2.w, after.layer2.b]}
    calls: dict[str, Callable[[], object]] = {
        "dgraph": lambda: step(model, x, label, rate),
        "dgraph bound": step.bind(model, x, label, rate),
    }
    if "PyTorch eager" in known:
        import torch

        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        tx, tl = torch.tensor(x), torch.tensor(label, dtype=torch.int64)

        def torch_step() -> list[object]:
            a, b, c, d = tensors
            loss = torch.nn.functional.cross_entropy(torch.relu(tx @ a + b) @ c + d, tl)
            slopes = torch.autograd.grad(loss, tensors)
            with torch.no_grad():
                return [loss.detach(), *(t - 0.1 * s for t, s in zip(tensors, slopes, strict=True))]

        answers["PyTorch eager"] = [np.asarray(t.numpy()) for t in torch_step()]  # type: ignore[attr-defined]
        calls["PyTorch eager"] = torch_step
    if "JAX jit" in known:
        import jax
        import jax.numpy as jnp

        def loss(parts: list[object], x: object, label: object) -> object:
            a, b, c, d = parts
            z = jnp.maximum(x @ a + b, 0) @ c + d
            return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[jnp.arange(z.shape[0]), label])

        @jax.jit
        def jax_step(parts: list[object], x: object, label: object) -> list[object]:
            value, slopes = jax.value_and_grad(loss)(parts, x, label)
            return [value, *(p - jnp.float32(0.1) * s for p, s in zip(parts, slopes, strict=True))]

        parts = [jnp.asarray(a) for a in arrays]
        jx, jl = jnp.asarray(x), jnp.asarray(label)
        answers["JAX jit"] = [np.asarray(a) for a in jax_step(parts, jx, jl)]
        calls["JAX jit"] = lambda: jax.block_until_ready(jax_step(parts, jx, jl))
    compare(answers, 2e-5)
    return calls


def chain_calls(length: int, dtype: type, known: dict[str, object]) -> dict[str, Callable[[], object]]:
    """tanh(x * w + b) * sigmoid(x) + exp(-x * x) by everyone, answers compared."""
    random = np.random.default_rng(0)
    x, w, b = (random.standard_normal(length).astype(dtype) for _ in range(3))
    program = dg.load(PROGRAM)
    chain = dg.compile(program.chain32 if dtype is np.float32 else program.chain64)
    answers = {"dgraph": [chain(x, w, b)]}
    calls: dict[str, Callable[[], object]] = {"dgraph": lambda: chain(x, w, b), "dgraph bound": chain.bind(x, w, b)}
    if "PyTorch eager" in known:
        import torch

        tx, tw, tb = map(torch.tensor, (x, w, b))

        def torch_chain() -> object:
            return torch.tanh(tx * tw + tb) * torch.sigmoid(tx) + torch.exp(-tx * tx)

        answers["PyTorch eager"] = [torch_chain().numpy()]  # type: ignore[attr-defined]
        calls["PyTorch eager"] = torch_chain
    if "JAX jit" in known:
        import jax
        import jax.numpy as jnp

        jax_chain = jax.jit(lambda x, w, b: jnp.tanh(x * w + b) * jax.nn.sigmoid(x) + jnp.exp(-x * x))
        jx, jw, jb = map(jnp.asarray, (x, w, b))
        answers["JAX jit"] = [np.asarray(jax_chain(jx, jw, jb))]
        calls["JAX jit"] = lambda: jax_chain(jx, jw, jb).block_until_ready()
    compare(answers, 2e-6 if dtype is np.float32 else 1e-14)
    return calls


def overhead_calls(known: dict[str, object]) -> dict[str, Callable[[], object]]:
    """Five arrays of one entry: nothing but the call."""
    arrays = [np.full(1, float(k)) for k in range(5)]
    five = dg.compile(dg.load(PROGRAM).five)
    calls: dict[str, Callable[[], object]] = {"dgraph": lambda: five(*arrays), "dgraph bound": five.bind(*arrays)}
    if "PyTorch eager" in known:
        import torch

        tensors = [torch.tensor(a) for a in arrays]
        calls["PyTorch eager"] = lambda: tensors[0] + tensors[1] + tensors[2] + tensors[3] + tensors[4]
    if "JAX jit" in known:
        import jax

        jitted = jax.jit(lambda a, b, c, d, e: a + b + c + d + e)
        moved = [jax.numpy.asarray(a) for a in arrays]
        calls["JAX jit"] = lambda: jitted(*moved).block_until_ready()
    return calls


def compare(answers: dict[str, list[object]], tolerance: float) -> None:
    """Stop unless all answers agree, relative to the largest entry."""
    ours = answers["dgraph"]
    for name, theirs in answers.items():
        for one, other in zip(ours, theirs, strict=True):
            scale = float(np.abs(other).max(initial=1e-30))
            worst = float(np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max(initial=0)) / scale
            if not worst <= tolerance:
                sys.exit(f"dgraph and {name} differ by {worst:.1e} (relative), over {tolerance:.0e}")


def starts(known: dict[str, object]) -> list[Row]:
    """Seconds of a whole fresh process from start to the first training step, with empty and with filled caches."""
    found = fewest(["dgraph", *known], ("step", "64"), 3, 5)
    names = ("fresh process, empty caches", "fresh process, second and later")
    return [
        Row(name, {tool: parts["whole"] for tool, parts in seconds.items()})
        for name, seconds in zip(names, found, strict=True)
    ]


def main() -> None:
    """Measure everything, print it, write the page."""
    known = peers()
    steps = [Row(f"MLP 784-128-10, batch {n}", fastest(step_calls(n, known))) for n in BATCHES]
    chains = [
        Row(f"chain of {n:,} {dtype.__name__}", fastest(chain_calls(n, dtype, known)))
        for dtype in (np.float32, np.float64)
        for n in LENGTHS
    ]
    calls = [Row("sum of five arrays of one entry", fastest(overhead_calls(known)))]
    begin = starts(known)
    lines = [
        "Written by `python benchmarks/spine.py`. `bound` is a call without checks on fixed arrays.",
        "",
        f"{date.today().isoformat()}; {machine()};",
        f"dgraph {dg.__version__}, {versions('numpy', 'llvmlite', 'torch', 'jax')}",
        "",
        "### Training step: loss, gradient and update",
        "",
        *table(steps, 1e-6, "µs"),
        "",
        "### Fused elementwise chain: tanh(x * w + b) * sigmoid(x) + exp(-x * x)",
        "",
        *table(chains, 1e-6, "µs"),
        "",
        "### Call overhead",
        "",
        *table(calls, 1e-6, "µs"),
        "",
        "### Start: a whole process from nothing to its first MLP step",
        "",
        *table(begin, 1.0, "s"),
        "",
    ]
    write_section("Spine", lines)


if __name__ == "__main__":
    main()
