"""The programs of `control_flow.dg` as users of PyTorch and C write them."""

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
    steps that is run where all would take too long; times are scaled by it. `foretold` are the bytes that the gradient
    says it takes, `slowdown` how many times as long as a gradient that keeps all it says that it takes.
    """

    name: str
    primal: Callable[[], Any] | None
    gradient: Callable[[], Any] | None
    warm: Callable[[], Any] = lambda: None
    part: float = 1.0
    foretold: int | None = None
    slowdown: float | None = None


def has(module: str) -> bool:
    """Whether a module is installed."""
    from importlib.util import find_spec

    return find_spec(module) is not None


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
    b = torch.tensor(data["b"].reshape(4, h)[order].reshape(4 * h))
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


def _c_map(name: str) -> Callable[[Any, dict[str, Any]], tuple[Any, Any]]:
    """A loop over one number."""

    def calls(call: Any, _data: dict[str, Any]) -> tuple[Any, Any]:
        def gradient() -> Any:
            value, slopes = call(f"{name}_gradient", "y", "c", "steps", out=((2,),))
            return [value, *slopes]

        return (lambda: call(name, "y", "c", "steps")), gradient

    return calls


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
    "sines": _c_map("sines"),
    "logistic": _c_map("logistic"),
}
