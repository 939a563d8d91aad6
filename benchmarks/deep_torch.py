"""The networks of `deep.dg` in PyTorch, eager."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

Read = Callable[[Any], list[np.ndarray]]


def is_installed() -> bool:
    """Whether PyTorch is there."""
    return find_spec("torch") is not None


def step_of(name: str, weights: dict[str, np.ndarray], data: list[Any], rate: float) -> tuple[Callable[[], Any], Read]:
    """A training step, and what reads loss and weights from its result in the order of the weights."""
    import torch

    torch.set_num_threads(1)
    if name == "lstm":
        return _lstm(weights, data, rate)
    if name == "deep":
        weights = apart(weights)
    loss = {"mlp": _mlp, "deep": _deep, "lenet": _lenet, "block": _block}[name]
    tensors = {key: torch.tensor(array, requires_grad=True) for key, array in weights.items()}
    arrays = [torch.tensor(array.astype(np.int64) if array.dtype == np.int32 else array) for array in data]
    if name in ("lenet", "block"):
        arrays[0] = arrays[0].permute(0, 3, 1, 2).contiguous()

    def step() -> Any:
        value = loss(tensors, *arrays)
        slopes = torch.autograd.grad(value, list(tensors.values()))
        with torch.no_grad():
            return [value.detach(), *(t - rate * s for t, s in zip(tensors.values(), slopes, strict=True))]

    def read(found: Any) -> list[np.ndarray]:
        value, *after = (np.asarray(tensor) for tensor in found)
        return [value, np.stack(after[0::2]), np.stack(after[1::2])] if name == "deep" else [value, *after]

    return step, read


def apart(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of layers that have the same shapes, each by itself: `layers.0.w`, `layers.0.b` and so on."""
    count = len(weights["layers.w"])
    return {f"layers.{at}.{part}": weights[f"layers.{part}"][at] for at in range(count) for part in "wb"}


def _mlp(p: dict[str, Any], x: Any, label: Any) -> Any:
    import torch

    hidden = torch.relu(x @ p["layer1.w"] + p["layer1.b"])
    return torch.nn.functional.cross_entropy(hidden @ p["layer2.w"] + p["layer2.b"], label)


def _deep(p: dict[str, Any], x: Any, target: Any) -> Any:
    import torch

    for at in range(10):
        x = torch.tanh(x @ p[f"layers.{at}.w"] + p[f"layers.{at}.b"])
    return ((x - target) ** 2).mean()


def _conv(p: dict[str, Any], name: str, x: Any, padding: int = 0) -> Any:
    import torch

    return torch.nn.functional.conv2d(x, p[f"{name}.w"].permute(3, 2, 0, 1), p[f"{name}.b"], padding=padding)


def _lenet(p: dict[str, Any], x: Any, label: Any) -> Any:
    import torch

    pool = torch.nn.functional.max_pool2d
    x = pool(torch.relu(_conv(p, "conv1", x)), 2)
    x = pool(torch.relu(_conv(p, "conv2", x)), 2)
    h = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
    h = torch.relu(h @ p["dense1.w"] + p["dense1.b"])
    h = torch.relu(h @ p["dense2.w"] + p["dense2.b"])
    return torch.nn.functional.cross_entropy(h @ p["dense3.w"] + p["dense3.b"], label)


def _block(p: dict[str, Any], x: Any) -> Any:
    import torch

    y = _conv(p, "conv2", torch.relu(_conv(p, "conv1", x, 1)), 1)
    return (torch.relu(x + y) ** 2).mean()


def _lstm(weights: dict[str, np.ndarray], data: list[Any], rate: float) -> tuple[Callable[[], Any], Read]:
    """PyTorch's own LSTM layer, whose gates stand in the same order and whose weights are transposed."""
    import torch

    inputs, hidden = weights["w"].shape[0], weights["u"].shape[0]
    layer = torch.nn.LSTM(inputs, hidden)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor(weights["w"].T.copy()))
        layer.weight_hh_l0.copy_(torch.tensor(weights["u"].T.copy()))
        layer.bias_ih_l0.copy_(torch.tensor(weights["b"]))
        layer.bias_hh_l0.zero_()
    tensors = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
    xs, target = map(torch.tensor, data)

    def step() -> Any:
        ys, _ = layer(xs)
        value = ((ys - target) ** 2).mean()
        slopes = torch.autograd.grad(value, tensors)
        with torch.no_grad():
            return [value.detach(), *(t - rate * s for t, s in zip(tensors, slopes, strict=True))]

    return step, lambda found: [np.asarray(tensor).T for tensor in found]
