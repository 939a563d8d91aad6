"""The programs of `control_flow.dg` as users of JAX, Equinox, PyTorch and C write them."""

import ctypes
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Peer:
    """One way to write a program: calls for the value and for value and derivatives (as a flat list of arrays).

    `warm` compiles what the gradient needs without running it, as far as that can be done. `part` is the part of the
    steps that is run where all would take too long; times are scaled by it.
    """

    name: str
    primal: Callable[[], Any] | None
    gradient: Callable[[], Any] | None
    warm: Callable[[], Any] = lambda: None
    part: float = 1.0


# ---- JAX and Equinox -------------------------------------------------------------------------------------------------


def jitted(name: str, primal: Any, gradient: Any, *arguments: Any) -> Peer:
    """A peer of two functions compiled by JAX."""
    import jax

    moved = [jax.tree.map(jax.numpy.asarray, argument) for argument in arguments]
    compiled: dict[str, Any] = {}

    def calling(function: Any, key: str) -> Any:
        def call() -> Any:
            if key not in compiled:
                compiled[key] = jax.jit(function).lower(*moved).compile()
            return jax.block_until_ready(compiled[key](*moved))

        return call if function is not None else None

    def warm() -> None:
        compiled["gradient"] = jax.jit(gradient).lower(*moved).compile()

    return Peer(name, calling(primal, "primal"), calling(gradient, "gradient"), warm)


def scanned(step: Any, steps: int, block: int = 1) -> Any:
    """`steps` steps as a scan; with a block as a checkpointed scan over blocks."""
    import jax

    def one(y: Any, _: None) -> tuple[Any, None]:
        return step(y), None

    def run(y: Any) -> Any:
        if block == 1:
            return jax.lax.scan(one, y, None, length=steps)[0]
        inner = jax.checkpoint(lambda y, _: (jax.lax.scan(one, y, None, length=block)[0], None))
        return jax.lax.scan(inner, y, None, length=steps // block)[0]

    return run


def counted(step: Any, steps: int) -> Any:
    """`steps` steps as a `fori_loop`."""
    import jax

    return lambda y: jax.lax.fori_loop(0, steps, lambda _, y: step(y), y)


def equinox_loop(step: Any, steps: int, slots: int | None) -> Any:
    """`steps` steps as Equinox's checkpointed `while_loop`."""
    from equinox.internal import while_loop

    def run(y: Any) -> Any:
        final = while_loop(
            lambda s: s[0] < steps,
            lambda s: (s[0] + 1, step(s[1])),
            (0, y),
            max_steps=steps,
            kind="checkpointed",
            checkpoints=slots,
        )
        return final[1]

    return run


def jax_loops(step: Any, close: Any, arguments: tuple[Any, ...], steps: int, slots: int, wrt: Any = 0) -> list[Peer]:
    """`close(run, ...)` is a scalar of a loop; by `fori_loop` and scan, checkpointed scan and Equinox."""
    import jax

    block = math.isqrt(steps)
    made = []
    for name, primal, gradient in (
        ("JAX fori / grad of scan", counted, scanned),
        ("JAX checkpointed scan", None, lambda s, n: scanned(s, n, block)),
        ("Equinox checkpointed while", None, lambda s, n: equinox_loop(s, n, slots)),
    ):
        if name.startswith("Equinox") and not has("equinox"):
            continue

        def closed(maker: Any) -> Any:
            return lambda *given: close(lambda y, *rest: maker(lambda s: step(s, *rest), steps)(y), *given)

        slope = jax.value_and_grad(closed(gradient), argnums=wrt)
        made.append(jitted(name, closed(primal) if primal else None, slope, *arguments))
    return made


def has(module: str) -> bool:
    """Whether a module is installed."""
    from importlib.util import find_spec

    return find_spec(module) is not None


def jax_peers(case: str, data: dict[str, Any]) -> list[Peer]:
    """The JAX and Equinox forms of a case."""
    if not has("jax"):
        return []
    import jax

    jax.config.update("jax_enable_x64", True)
    return JAX[case](data)


def _jax_lorenz(data: dict[str, Any]) -> list[Peer]:
    import jax.numpy as jnp

    h = data["h"]

    def slope(y: Any, p: Any) -> Any:
        return jnp.array([p[0] * (y[1] - y[0]), y[0] * (p[1] - y[2]) - y[1], y[0] * y[1] - p[2] * y[2]])

    def step(y: Any, p: Any) -> Any:
        k1 = slope(y, p)
        k2 = slope(y + 0.5 * h * k1, p)
        k3 = slope(y + 0.5 * h * k2, p)
        k4 = slope(y + h * k3, p)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def close(run: Any, y: Any, p: Any) -> Any:
        return run(y, p).sum()

    return jax_loops(step, close, (data["y"], data["p"]), data["steps"], data["slots"], (0, 1))


def _jax_roots(data: dict[str, Any]) -> list[Peer]:
    import jax
    import jax.numpy as jnp

    def newton(a: Any, s: Any) -> Any:
        change = (s[0] + 0.5 * jnp.sin(s[0]) - a) / (1 + 0.5 * jnp.cos(s[0]))
        return s[0] - change, change

    def root(a: Any) -> Any:
        return jax.lax.while_loop(lambda s: jnp.abs(s[1]) > 1e-10, lambda s: newton(a, s), (1.0, 1.0))[0]

    def implicit(a: Any) -> Any:
        return jax.lax.custom_root(
            lambda x: x + 0.5 * jnp.sin(x) - a, 1.0, lambda _, __: root(a), lambda g, y: y / g(1.0)
        )

    def forward(a: Any) -> Any:
        value, slope = jax.jvp(jax.vmap(root), (a,), (jnp.ones_like(a),))
        return value.sum(), slope

    def summed(f: Any) -> Any:
        return lambda a: jax.vmap(f)(a).sum()

    found = [
        jitted("JAX vmap of while, forward mode", summed(root), forward, data["a"]),
        jitted("JAX custom_root", summed(implicit), jax.value_and_grad(summed(implicit)), data["a"]),
    ]
    if has("equinox"):
        from equinox.internal import while_loop

        def checkpointed(a: Any) -> Any:
            condition, step = (lambda s: jnp.abs(s[1]) > 1e-10), (lambda s: newton(a, s))
            return while_loop(condition, step, (1.0, 1.0), max_steps=64, kind="checkpointed")[0]

        found.append(jitted("Equinox checkpointed while", None, jax.value_and_grad(summed(checkpointed)), data["a"]))
    return found


def _jax_heat(data: dict[str, Any]) -> list[Peer]:
    r = data["r"]

    def step(u: Any) -> Any:
        k = 1 + 0.5 * u * u
        flow = 0.5 * (k[1:] + k[:-1]) * (u[1:] - u[:-1])
        return u.at[1:-1].add(r * (flow[1:] - flow[:-1]))

    def close(run: Any, u: Any) -> Any:
        end = run(u)
        return (end * end).sum()

    return jax_loops(step, close, (data["u"],), data["steps"], data["slots"])[1:]


def _jax_heat_primal(data: dict[str, Any]) -> list[Peer]:
    first, *rest = _jax_heat(data)
    import jax.numpy as jnp

    r = data["r"]

    def step(u: Any) -> Any:
        k = 1 + 0.5 * u * u
        flow = 0.5 * (k[1:] + k[:-1]) * (u[1:] - u[:-1])
        return u.at[1:-1].add(r * (flow[1:] - flow[:-1]))

    def value(u: Any) -> Any:
        end = counted(step, data["steps"])(u)
        return jnp.sum(end * end)

    primal = jitted("primal", value, None, data["u"]).primal
    return [Peer(first.name, primal, first.gradient, first.warm), *rest]


def _jax_lstm(data: dict[str, Any]) -> list[Peer]:
    import jax
    import jax.numpy as jnp

    h = data["h"]

    def value(w: Any, u: Any, b: Any, x: Any) -> Any:
        def step(state: Any, row: Any) -> Any:
            out, memory = state
            z = (row @ w.reshape(-1, 4 * h) + out @ u.reshape(-1, 4 * h)).reshape(4, h) + b
            memory = jax.nn.sigmoid(z[0]) * memory + jax.nn.sigmoid(z[1]) * jnp.tanh(z[2])
            return (jax.nn.sigmoid(z[3]) * jnp.tanh(memory), memory), None

        (out, _), _ = jax.lax.scan(step, (jnp.zeros(h), jnp.zeros(h)), x)
        return (out * out).sum()

    slope = jax.value_and_grad(value, argnums=(0, 1, 2))
    return [jitted("JAX grad of scan", value, slope, data["w"], data["u"], data["b"], data["x"])]


def _jax_edit(data: dict[str, Any]) -> list[Peer]:
    import jax
    import jax.numpy as jnp

    gap, n, m = data["gap"], len(data["x"]), len(data["y"])

    def soft(a: Any, b: Any, c: Any) -> Any:
        low = jnp.minimum(jnp.minimum(a, b), c)
        return low - jnp.log(jnp.exp(low - a) + jnp.exp(low - b) + jnp.exp(low - c))

    def by_rows(x: Any, y: Any) -> Any:
        def row(up: Any, pair: Any) -> Any:
            xi, first = pair

            def cell(left: Any, near: Any) -> Any:
                corner, above, yj = near
                value = soft(corner + (xi - yj) ** 2, above + gap, left + gap)
                return value, value

            _, cells = jax.lax.scan(cell, first, (up[:-1], up[1:], y))
            return jnp.concatenate([first[None], cells]), None

        start = gap * jnp.arange(m + 1.0)
        return jax.lax.scan(row, start, (x, gap * (jnp.arange(n) + 1.0)))[0][m]

    def by_diagonals(x: Any, y: Any) -> Any:
        """Cells of a diagonal at once: entry i of diagonal k is the cell (i, k - i), of n + 1 lanes."""
        lanes = jnp.arange(n + 1)
        padded = jnp.concatenate([x[:1], x])

        def diagonal(pair: Any, k: Any) -> Any:
            before, last = pair
            other = y[jnp.clip(k - lanes - 1, 0, m - 1)]
            inside = (lanes >= 1) & (k - lanes >= 1) & (k - lanes <= m)
            above, corner = jnp.roll(last, 1), jnp.roll(before, 1)
            ways = (jnp.where(inside, w, 0.0) for w in (corner + (padded - other) ** 2, above + gap, last + gap))
            value = jnp.where(inside, soft(*ways), gap * jnp.maximum(lanes, k - lanes))
            return (last, value), None

        start = (gap * jnp.zeros(n + 1), gap * jnp.ones(n + 1))
        return jax.lax.scan(diagonal, start, jnp.arange(2, n + m + 1))[0][1][n]

    return [
        jitted(name, value, jax.value_and_grad(value, argnums=(0, 1)), data["x"], data["y"])
        for name, value in (("JAX scan over rows", by_rows), ("JAX scan over diagonals", by_diagonals))
    ]


def _jax_sines(data: dict[str, Any]) -> list[Peer]:
    import jax.numpy as jnp

    def step(y: Any, c: Any) -> Any:
        return jnp.sin(y) + c

    def close(run: Any, y: Any, c: Any) -> Any:
        return run(y, c)

    return jax_loops(step, close, (data["y"], data["c"]), data["steps"], data["slots"], (0, 1))


JAX: dict[str, Callable[[dict[str, Any]], list[Peer]]] = {
    "lorenz": _jax_lorenz,
    "roots": _jax_roots,
    "heat": _jax_heat_primal,
    "lstm": _jax_lstm,
    "edit": _jax_edit,
    "sines": _jax_sines,
}


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def torch_peers(case: str, data: dict[str, Any]) -> list[Peer]:
    """The PyTorch form of a case, of few steps where all would take minutes."""
    if not has("torch") or case not in TORCH:
        return []
    import torch

    torch.set_num_threads(1)
    return [TORCH[case](data)]


def eager(value: Callable[[], Any], wrt: list[Any], part: float) -> Peer:
    """A PyTorch peer that runs a part of the steps."""
    import torch

    def primal() -> Any:
        with torch.no_grad():
            return value()

    def gradient() -> Any:
        found = value()
        return [found.detach(), *torch.autograd.grad(found, wrt)]

    name = "PyTorch eager" if part == 1 else f"PyTorch eager, {part:g} of the steps, scaled"
    return Peer(name, primal, gradient, part=part)


def _torch_lorenz(data: dict[str, Any]) -> Peer:
    import torch

    steps = min(data["steps"], 1_000)
    start, p = (torch.tensor(data[name], requires_grad=True) for name in ("y", "p"))
    h = data["h"]

    def slope(y: Any) -> Any:
        return torch.stack([p[0] * (y[1] - y[0]), y[0] * (p[1] - y[2]) - y[1], y[0] * y[1] - p[2] * y[2]])

    def value() -> Any:
        y = start
        for _ in range(steps):
            k1 = slope(y)
            k2 = slope(y + 0.5 * h * k1)
            k3 = slope(y + 0.5 * h * k2)
            k4 = slope(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y.sum()

    return eager(value, [start, p], steps / data["steps"])


def _torch_heat(data: dict[str, Any]) -> Peer:
    import torch

    steps = min(data["steps"], 200)
    start, r = torch.tensor(data["u"], requires_grad=True), data["r"]

    def value() -> Any:
        u = start
        for _ in range(steps):
            k = 1 + 0.5 * u * u
            flow = 0.5 * (k[1:] + k[:-1]) * (u[1:] - u[:-1])
            u = torch.cat([u[:1], u[1:-1] + r * (flow[1:] - flow[:-1]), u[-1:]])
        return (u * u).sum()

    return eager(value, [start], steps / data["steps"])


def _torch_lstm(data: dict[str, Any]) -> Peer:
    import torch

    h = data["h"]
    order = [1, 0, 2, 3]
    w, u = (torch.tensor(data[k].reshape(-1, 4, h)[:, order].reshape(-1, 4 * h).T.copy()) for k in ("w", "u"))
    b = torch.tensor(data["b"][order].reshape(4 * h))
    cell = torch.nn.LSTM(w.shape[1], h).double()
    with torch.no_grad():
        for own, given in ((cell.weight_ih_l0, w), (cell.weight_hh_l0, u), (cell.bias_ih_l0, b)):
            own.copy_(given)
        cell.bias_hh_l0.zero_()
    x = torch.tensor(data["x"])
    wrt = [cell.weight_ih_l0, cell.weight_hh_l0, cell.bias_ih_l0]

    def back(slope: Any) -> Any:
        return slope.reshape(4, h, -1)[order].reshape(4 * h, -1).T.reshape(-1, 4, h)

    def value() -> Any:
        out = cell(x)[0][-1]
        return (out * out).sum()

    plain = eager(value, wrt, 1)

    def gradient() -> Any:
        found, *slopes = plain.gradient()  # type: ignore[misc]
        return [found, back(slopes[0]), back(slopes[1]), back(slopes[2])[0]]

    return Peer("PyTorch nn.LSTM", plain.primal, gradient)


def _torch_sines(data: dict[str, Any]) -> Peer:
    import torch

    steps = min(data["steps"], 10_000)
    start, c = (torch.tensor(data[name], requires_grad=True, dtype=torch.float64) for name in ("y", "c"))

    def value() -> Any:
        y = start
        for _ in range(steps):
            y = torch.sin(y) + c
        return y

    return eager(value, [start, c], steps / data["steps"])


TORCH: dict[str, Callable[[dict[str, Any]], Peer]] = {
    "lorenz": _torch_lorenz,
    "heat": _torch_heat,
    "lstm": _torch_lstm,
    "sines": _torch_sines,
}


# ---- C ---------------------------------------------------------------------------------------------------------------


def library() -> ctypes.CDLL | None:
    """`control_flow.c` compiled; None without gcc."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    source = Path(__file__).with_name("control_flow.c")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "control_flow.so"
        options = ["-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run([compiler, *options, "-o", str(made), str(source), "-lm"], check=True)
        return ctypes.CDLL(str(made))


def c_peers(case: str, data: dict[str, Any]) -> list[Peer]:
    """The C form of a case."""
    code = library()
    if code is None:
        return []
    arrays = {name: np.ascontiguousarray(value) for name, value in data.items() if isinstance(value, np.ndarray)}

    def call(function: str, *names: Any, out: tuple[tuple[int, ...], ...] = ()) -> list[Any]:
        run = getattr(code, function)
        run.restype = ctypes.c_double
        results = [np.empty(shape) for shape in out]
        given: list[Any] = []
        for name in (*names, *results):
            value = arrays.get(name, data.get(name)) if isinstance(name, str) else name
            if isinstance(value, np.ndarray):
                given.append(ctypes.c_void_p(value.ctypes.data))
            else:
                given.append(ctypes.c_double(value) if isinstance(value, float) else ctypes.c_long(value))
        return [run(*given), *results]

    return [Peer("C, gcc -O3", *C[case](call, data))]


def _c_lstm(call: Any, data: dict[str, Any]) -> tuple[Any, Any]:
    sizes = (*data["x"].shape, data["h"])
    shapes = tuple(data[name].shape for name in ("w", "u", "b"))
    return (
        lambda: call("lstm_gradient", "w", "u", "b", "x", *sizes, 0, 0, 0),
        lambda: call("lstm_gradient", "w", "u", "b", "x", *sizes, out=shapes),
    )


def _c_sines(call: Any, _data: dict[str, Any]) -> tuple[Any, Any]:
    def gradient() -> Any:
        value, slopes = call("sines_gradient", "y", "c", "steps", out=((2,),))
        return [value, *slopes]

    return (lambda: call("sines", "y", "c", "steps")), gradient


def _c_heat(call: Any, data: dict[str, Any]) -> tuple[Any, Any]:
    n, steps = len(data["u"]), data["steps"]
    block = max(1, math.isqrt(steps))
    return (
        lambda: call("heat", "u", "r", n, steps),
        lambda: call("heat_gradient", "u", "r", n, steps, block, out=((n,),)),
    )


C: dict[str, Callable[[Any, dict[str, Any]], tuple[Any, Any]]] = {
    "lorenz": lambda call, _data: (
        lambda: call("lorenz", "y", "p", "h", "steps"),
        lambda: call("lorenz_gradient", "y", "p", "h", "steps", out=((3,), (3,))),
    ),
    "roots": lambda call, data: (
        lambda: call("roots", "a", len(data["a"])),
        lambda: call("roots_gradient", "a", len(data["a"]), out=((len(data["a"]),),)),
    ),
    "heat": _c_heat,
    "lstm": _c_lstm,
    "edit": lambda call, data: (
        lambda: call("edit", "x", "y", "gap", len(data["x"]), len(data["y"])),
        lambda: call(
            "edit_gradient", "x", "y", "gap", len(data["x"]), len(data["y"]), out=((len(data["x"]),), (len(data["y"]),))
        ),
    ),
    "sines": _c_sines,
}
