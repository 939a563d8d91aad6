"""The networks of `deep.dg` in JAX, jitted; loops over time as `scan`."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from deep_torch import apart

Read = Callable[[Any], list[np.ndarray]]


def is_installed() -> bool:
    """Whether JAX is there."""
    return find_spec("jax") is not None


def step_of(name: str, weights: dict[str, np.ndarray], data: list[Any], rate: float) -> tuple[Callable[[], Any], Read]:
    """A training step, and what reads loss and weights from its result in the order of the weights."""
    import jax
    import jax.numpy as jnp

    loss = {"mlp": _mlp, "deep": _deep, "lenet": _lenet, "block": _block, "lstm": _lstm}[name]

    @jax.jit
    def step(p: dict[str, Any], *arrays: Any) -> Any:
        value, slopes = jax.value_and_grad(loss)(p, *arrays)
        return value, {key: p[key] - jnp.float32(rate) * slopes[key] for key in p}

    if name == "deep":
        weights = apart(weights)
    held = {key: jnp.asarray(array) for key, array in weights.items()}
    arrays = [jnp.asarray(array) for array in data]

    def read(found: Any) -> list[np.ndarray]:
        value, after = np.asarray(found[0]), [np.asarray(found[1][key]) for key in weights]
        return [value, np.stack(after[0::2]), np.stack(after[1::2])] if name == "deep" else [value, *after]

    return lambda: jax.block_until_ready(step(held, *arrays)), read


def _cross_entropy(z: Any, label: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[jnp.arange(z.shape[0]), label])


def _dense(p: dict[str, Any], name: str, x: Any) -> Any:
    return x @ p[f"{name}.w"] + p[f"{name}.b"]


def _mlp(p: dict[str, Any], x: Any, label: Any) -> Any:
    import jax

    return _cross_entropy(_dense(p, "layer2", jax.nn.relu(_dense(p, "layer1", x))), label)


def _deep(p: dict[str, Any], x: Any, target: Any) -> Any:
    import jax.numpy as jnp

    for at in range(10):
        x = jnp.tanh(_dense(p, f"layers.{at}", x))
    return jnp.mean((x - target) ** 2)


def _conv(p: dict[str, Any], name: str, x: Any, padding: str) -> Any:
    import jax

    kinds = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, p[f"{name}.w"], (1, 1), padding, dimension_numbers=kinds) + p[f"{name}.b"]


def _pool(x: Any) -> Any:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def _lenet(p: dict[str, Any], x: Any, label: Any) -> Any:
    import jax

    x = _pool(jax.nn.relu(_conv(p, "conv1", x, "VALID")))
    x = _pool(jax.nn.relu(_conv(p, "conv2", x, "VALID")))
    h = x.reshape(x.shape[0], -1)
    h = jax.nn.relu(_dense(p, "dense2", jax.nn.relu(_dense(p, "dense1", h))))
    return _cross_entropy(_dense(p, "dense3", h), label)


def _block(p: dict[str, Any], x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    y = _conv(p, "conv2", jax.nn.relu(_conv(p, "conv1", x, "SAME")), "SAME")
    return jnp.mean(jax.nn.relu(x + y) ** 2)


def _lstm(p: dict[str, Any], xs: Any, target: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def step(carry: Any, x: Any) -> Any:
        out, memory = carry
        i, f, g, o = jnp.split(x @ p["w"] + out @ p["u"] + p["b"], 4, axis=1)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        out = jax.nn.sigmoid(o) * jnp.tanh(memory)
        return (out, memory), out

    start = jnp.zeros((xs.shape[1], p["u"].shape[0]), xs.dtype)
    _, ys = jax.lax.scan(step, (start, start), xs)
    return jnp.mean((ys - target) ** 2)
