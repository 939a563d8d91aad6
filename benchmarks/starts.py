"""The first result of a fresh process: what is run in it, and how it is timed.

    python benchmarks/starts.py "JAX jit" gmm 10_25_1000     # prints the seconds of the parts of a start as JSON

A training step is a text to run; a problem of the AD benchmark is the derivative of its first form.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROGRAM = HERE / "spine.dg"
MODULES = {"dgraph": "gradbench_dgraph", "JAX jit": "gradbench_jax", "PyTorch eager": "gradbench_torch"}
PACKAGES = {"dgraph": "dgraph", "JAX jit": "jax.numpy", "PyTorch eager": "torch"}
STEP = {
    "dgraph": (
        "import numpy as np, dgraph as dg\n"
        "step = dg.load({program!r}).step\n"
        "d = lambda i, o: dict(w=np.zeros((i, o), np.float32), b=np.zeros(o, np.float32))\n"
        "step(dict(layer1=d(784, 128), layer2=d(128, 10)), np.ones((64, 784), np.float32),"
        " np.zeros(64, np.int32), 0.1)\n"
    ),
    "JAX jit": (
        "import numpy as np, jax, jax.numpy as jnp\n"
        "def loss(p, x, l):\n"
        "    z = jnp.maximum(x @ p[0] + p[1], 0) @ p[2] + p[3]\n"
        "    return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[jnp.arange(z.shape[0]), l])\n"
        "@jax.jit\n"
        "def step(p, x, l):\n"
        "    v, s = jax.value_and_grad(loss)(p, x, l)\n"
        "    return v, [a - 0.1 * b for a, b in zip(p, s)]\n"
        "p = [np.zeros(s, np.float32) for s in ((784, 128), (128,), (128, 10), (10,))]\n"
        "jax.block_until_ready(step(p, np.ones((64, 784), np.float32), np.zeros(64, np.int32)))\n"
    ),
    "PyTorch eager": (
        "import torch\n"
        "p = [torch.zeros(s, requires_grad=True) for s in ((784, 128), (128,), (128, 10), (10,))]\n"
        "x, l = torch.ones(64, 784), torch.zeros(64, dtype=torch.int64)\n"
        "torch.autograd.grad(torch.nn.functional.cross_entropy(torch.relu(x @ p[0] + p[1]) @ p[2] + p[3], l), p)\n"
    ),
}


def environment(folder: Path, caches: str) -> dict[str, str]:
    """Variables that put all caches into a folder. Bytecode is kept, as an installation leaves it."""
    variables = os.environ | {
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "DGRAPH_CACHE_DIR": str(folder / caches / "dgraph"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / caches / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def begun(tool: str, case: Sequence[str], variables: dict[str, str]) -> dict[str, float]:
    """Seconds of a process of its own: of the parts it tells of, and the `whole` without the making of the inputs."""
    command = [sys.executable, str(Path(__file__)), tool, *case]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, env=variables, capture_output=True, text=True)
    whole = time.perf_counter() - started
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds | {"whole": whole - seconds["inputs"]}


def fewest(
    tools: Sequence[str], case: Sequence[str], empty: int, filled: int
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """The least seconds by tool and part, in processes with empty caches and in as many with filled ones, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for tool in tools:
            begun(tool, case, environment(folder, "0"))
        cold = [{tool: begun(tool, case, environment(folder, f"{at + 1}")) for tool in tools} for at in range(empty)]
        warm = [{tool: begun(tool, case, environment(folder, "0")) for tool in tools} for _ in range(filled)]
    least = [
        {tool: {part: min(run[tool][part] for run in runs) for part in runs[0][tool]} for tool in tools}
        for runs in (cold, warm)
    ]
    return least[0], least[1]


def started(tool: str, problem: str, size: str) -> dict[str, float]:
    """Seconds of the parts of a start in this process."""
    seconds = {"inputs": 0.0}

    def timed(part: str, make: Callable[[], Any]) -> Any:
        before = time.perf_counter()
        made = make()
        seconds[part] = time.perf_counter() - before
        return made

    def form() -> Any:
        from gradbench_data import workload

        return next(iter(import_module(MODULES[tool]).forms(workload(problem, size)).values()))

    timed("import", lambda: (import_module("numpy"), import_module(PACKAGES[tool])))
    if problem == "step":
        text = STEP[tool].format(program=str(PROGRAM)) if tool == "dgraph" else STEP[tool]
        timed("first", lambda: exec(text, {}))
    else:
        made = timed("inputs", form)
        timed("first", lambda: made.derivative())
    return seconds


if __name__ == "__main__":
    print(json.dumps(started(*sys.argv[1:4])))
