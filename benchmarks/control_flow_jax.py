"""The programs of `control_flow.dg` as users of JAX and Equinox write them."""

import math
from collections.abc import Callable
from typing import Any

from control_flow_peers import Peer, has


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


def jax_loops(
    step: Any,
    close: Any,
    arguments: tuple[Any, ...],
    steps: int,
    slots: int,
    wrt: Any = 0,
    keeps_all: bool = True,
) -> list[Peer]:
    """`close(run, ...)` is a scalar of a loop; by `fori_loop` and scan, checkpointed scan and Equinox."""
    import jax

    block = math.isqrt(steps)
    made = []
    for name, primal, gradient in (
        ("JAX fori / grad of scan", counted, scanned if keeps_all else None),
        ("JAX checkpointed scan", None, lambda s, n: scanned(s, n, block)),
        ("Equinox checkpointed while", None, lambda s, n: equinox_loop(s, n, slots)),
    ):
        if name.startswith("Equinox") and not has("equinox"):
            continue

        def closed(maker: Any) -> Any:
            return lambda *given: close(lambda y, *rest: maker(lambda s: step(s, *rest), steps)(y), *given)

        slope = jax.value_and_grad(closed(gradient), argnums=wrt) if gradient else None
        made.append(jitted(name, closed(primal) if primal else None, slope, *arguments))
    return made


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

    # A plain scan would keep gigabytes.
    return jax_loops(step, close, (data["u"],), data["steps"], data["slots"], keeps_all=False)


def _jax_lstm(data: dict[str, Any]) -> list[Peer]:
    import jax
    import jax.numpy as jnp

    h = data["h"]

    def value(w: Any, u: Any, b: Any, x: Any) -> Any:
        def step(state: Any, row: Any) -> Any:
            out, memory = state
            z = (row @ w + out @ u + b).reshape(4, h)
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


def _jax_logistic(data: dict[str, Any]) -> list[Peer]:
    def step(y: Any, c: Any) -> Any:
        return c * y * (1 - y)

    def close(run: Any, y: Any, c: Any) -> Any:
        return run(y, c)

    return jax_loops(step, close, (data["y"], data["c"]), data["steps"], data["slots"], (0, 1))


JAX: dict[str, Callable[[dict[str, Any]], list[Peer]]] = {
    "lorenz": _jax_lorenz,
    "roots": _jax_roots,
    "heat": _jax_heat,
    "lstm": _jax_lstm,
    "edit": _jax_edit,
    "sines": _jax_sines,
    "logistic": _jax_logistic,
}
