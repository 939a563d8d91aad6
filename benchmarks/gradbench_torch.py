"""The problems of the AD benchmark as users of PyTorch write them: eager, and through `torch.compile`; float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gradbench_data import Form, Workload
from gradbench_minors import minors, signed_permutations
from measure import versions

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

VERSIONS = versions("torch")


def forms(work: Workload) -> dict[str, Form]:
    """The forms of a problem by name; eager ones first."""
    return FORMS[work.problem](work)


def tensors(work: Workload, *names: str) -> list[Any]:
    """Inputs as tensors."""
    return [torch.tensor(work.inputs[name]) for name in names]


def without_graph(call: Callable[[], Any]) -> Callable[[], Any]:
    """A call that records nothing."""

    def run() -> Any:
        with torch.no_grad():
            return call()

    return run


def both(name: str, primal: Any, derivative: Any, *arguments: Any) -> dict[str, Form]:
    """Eager and compiled forms of two functions of the same arguments."""
    found = {}
    for title, by in ((f"PyTorch eager{name}", lambda f: f), (f"torch.compile{name}", compiled)):
        value, slope = by(primal), by(derivative)
        found[title] = Form(without_graph(lambda value=value: value(*arguments)), lambda slope=slope: slope(*arguments))
    return found


def compiled(function: Any) -> Any:
    """A function compiled for its shapes."""
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


def gradients(name: str, value: Any, given: list[Any], *rest: Any) -> dict[str, Form]:
    """Forms of a scalar of `given` and `rest` by the tape of PyTorch; the compiled one compiles value and tape."""
    leaves = [tensor.clone().requires_grad_() for tensor in given]
    found = {}
    for title, by in ((f"PyTorch eager{name}", lambda f: f), (f"torch.compile{name}", compiled)):
        made = by(value)

        def primal(made: Any = made) -> Any:
            return made(*given, *rest)

        def derivative(made: Any = made) -> Any:
            return torch.autograd.grad(made(*leaves, *rest), leaves)

        found[title] = Form(without_graph(primal), derivative)
    return found


def log_sum_exp(values: Any, axis: int) -> Any:
    most = values.amax(axis, keepdim=True)
    return most.squeeze(axis) + torch.log(torch.exp(values - most).sum(axis))


# ---- gmm -------------------------------------------------------------------------------------------------------------


def _gmm(work: Workload) -> dict[str, Form]:
    m, gamma = work.inputs["m"], work.inputs["gamma"]
    n, d = work.inputs["x"].shape
    k = len(work.inputs["alpha"])
    columns, rows = (torch.tensor(index) for index in np.triu_indices(d, 1))
    diagonals = torch.arange(d)
    degrees = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + sum(math.lgamma(degrees / 2 - j / 2) for j in range(d))
    constant = k * (degrees * d * math.log(gamma / math.sqrt(2)) - log_gamma) - n * d / 2 * math.log(2 * math.pi)

    def objective(alpha: Any, mu: Any, q: Any, lower: Any, x: Any) -> Any:
        diagonal = torch.exp(q)
        factor = torch.zeros(k, d, d)
        factor[:, rows, columns] = lower
        factor[:, diagonals, diagonals] = diagonal
        moved = (x @ factor.reshape(k * d, d).T).reshape(n, k, d) - torch.einsum("kij,kj->ki", factor, mu)
        total = q.sum(1)
        beta = alpha + total - 0.5 * (moved * moved).sum(2)
        prior = 0.5 * gamma**2 * ((diagonal * diagonal).sum() + (lower * lower).sum()) - m * total.sum()
        return constant - n * log_sum_exp(alpha, 0) + log_sum_exp(beta, 1).sum() - prior

    return gradients(" gemm", objective, tensors(work, "alpha", "mu", "q", "l"), *tensors(work, "x"))


# ---- ba --------------------------------------------------------------------------------------------------------------


def reprojection(camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    r, x = camera[:3], point - camera[3:6]
    square = (r * r).sum()
    is_zero = square == 0
    angle = torch.sqrt(torch.where(is_zero, 1.0, square))
    axis = r / angle
    cosine, sine = torch.cos(angle), torch.sin(angle)
    turned = x * cosine + torch.linalg.cross(axis, x) * sine + axis * ((axis * x).sum() * (1 - cosine))
    seen = torch.where(is_zero, x + torch.linalg.cross(r, x), turned)
    flat = seen[:2] / seen[2]
    square = (flat * flat).sum()
    distortion = 1 + camera[9] * square + camera[10] * square * square
    return weight * (camera[6] * distortion * flat + camera[7:9] - feature)


def _ba(work: Workload) -> dict[str, Form]:
    n, m, p = (len(work.inputs[name]) for name in ("cams", "x", "w"))

    def primal(cams: Any, x: Any, w: Any, feats: Any, obs: Any) -> Any:
        errors = torch.vmap(reprojection)(cams[obs[:, 0]], x[obs[:, 1]], w, feats)
        return errors.reshape(-1), 1 - w * w

    def jacobian(cams: Any, x: Any, w: Any, feats: Any, obs: Any) -> Any:
        by_one = torch.func.jacrev(reprojection, argnums=(0, 1, 2))
        by_camera, by_point, by_weight = torch.vmap(by_one)(cams[obs[:, 0]], x[obs[:, 1]], w, feats)
        block = torch.cat([by_camera, by_point, by_weight[:, :, None]], dim=2)
        values = torch.cat([block.reshape(-1), -2 * w])
        place = torch.arange(p, dtype=torch.int32)
        camera = 11 * obs[:, :1].int() + torch.arange(11, dtype=torch.int32)
        point = 11 * n + 3 * obs[:, 1:].int() + torch.arange(3, dtype=torch.int32)
        weight = 11 * n + 3 * m + place
        columns = torch.cat([camera, point, weight[:, None]], dim=1)[:, None, :].expand(p, 2, 15)
        rows = torch.cat([15 * torch.arange(2 * p + 1, dtype=torch.int32), 30 * p + 1 + place])
        return rows, torch.cat([columns.reshape(-1), weight]), values

    return both(" reverse", primal, jacobian, *tensors(work, "cams", "x", "w", "feats", "obs"))


# ---- ht --------------------------------------------------------------------------------------------------------------


def angle_axis(r: Any) -> Any:
    norm = torch.sqrt((r * r).sum())
    x, y, z = (r / norm).unbind()
    c, s = torch.cos(norm), torch.sin(norm)
    entries = [
        x * x + (1 - x * x) * c,
        x * y * (1 - c) - z * s,
        x * z * (1 - c) + y * s,
        x * y * (1 - c) + z * s,
        y * y + (1 - y * y) * c,
        y * z * (1 - c) - x * s,
        x * z * (1 - c) - y * s,
        z * y * (1 - c) + x * s,
        z * z + (1 - z * z) * c,
    ]
    return torch.where(norm < 1e-4, torch.eye(3), torch.stack(entries).reshape(3, 3))


def bone_rotations(pose: Any) -> Any:
    """The 4 by 4 rotations of all bones."""
    (cx, cz, cy), (sx, sz, sy) = torch.cos(pose).unbind(1), torch.sin(pose).unbind(1)
    no, one = torch.zeros_like(cx), torch.ones_like(cx)
    about_x = torch.stack([one, no, no, no, cx, -sx, no, sx, cx], 1).reshape(-1, 3, 3)
    about_y = torch.stack([cy, no, sy, no, one, no, -sy, no, cy], 1).reshape(-1, 3, 3)
    about_z = torch.stack([cz, -sz, no, sz, cz, no, no, no, one], 1).reshape(-1, 3, 3)
    upper = torch.cat([about_z @ about_y @ about_x, torch.zeros_like(pose)[:, :, None]], dim=2)
    return torch.cat([upper, torch.stack([no, no, no, one], 1)[:, None, :]], dim=1)


def _ht(work: Workload) -> dict[str, Form]:
    given = work.inputs
    parents = [int(parent) for parent in given["parents"]]
    is_simple = given["us"] is None
    names = ("base_relatives", "inverse_base_absolutes", "base_positions", "weights", "triangles", "correspondences")
    relatives, inverses, places, weights, triangles, picked = tensors(work, *names)
    points, theta = tensors(work, "points", "theta")
    mirror = torch.tensor([-1.0 if given["is_mirrored"] else 1.0, 1.0, 1.0])[:, None]

    def errors(theta: Any, us: Any) -> Any:
        no = torch.zeros(1)
        rows = [torch.zeros(3), torch.zeros(3)]
        for at in range(6, 26, 4):
            rows += [torch.cat([theta[at : at + 2], no])]
            rows += [torch.cat([theta[at + i : at + i + 1], no, no]) for i in (2, 3)] + [torch.zeros(3)]
        relative = relatives @ bone_rotations(torch.stack(rows[: len(parents)]))
        absolute: list[Any] = []
        for bone, parent in enumerate(parents):
            absolute.append(relative[bone] if parent < 0 else absolute[parent] @ relative[bone])
        transform = torch.stack(absolute) @ inverses
        mixed = (transform[:, :3].reshape(-1, 12).T @ weights.T).reshape(3, 4, -1)
        place = (mixed * places.T).sum(1) * mirror
        moved = (angle_axis(theta[:3]) @ place + theta[3:6, None]).T
        if is_simple:
            return (points - moved[picked]).reshape(-1)
        corners = moved[triangles[picked]]
        u, v = us[:, :1], us[:, 1:]
        return (points - (u * corners[:, 0] + v * corners[:, 1] + (1 - u - v) * corners[:, 2])).reshape(-1)

    us = torch.zeros((0, 2)) if is_simple else torch.tensor(given["us"])
    directions = torch.eye(len(theta))
    colours = torch.zeros((len(theta), 2))
    if not is_simple:
        directions = torch.cat([torch.zeros((2, len(theta))), directions])
        colours = torch.cat([torch.eye(2), colours])

    def jacobian(theta: Any, us: Any) -> Any:
        def along(direction: Any, colour: Any) -> Any:
            return torch.func.jvp(errors, (theta, us), (direction, colour.expand_as(us)))[1]

        return torch.vmap(along, out_dims=1)(directions, colours)

    return both(" forward", errors, jacobian, theta, us)


# ---- lstm ------------------------------------------------------------------------------------------------------------


def _lstm(work: Workload) -> dict[str, Form]:
    main, extra, state, sequence = tensors(work, "main_params", "extra_params", "state", "sequence")
    layers, bits = len(state) // 2, sequence.shape[1]

    def step(gates: Any, extra: Any, carried: Any, row: Any) -> Any:
        x, after = row * extra[0], []
        for layer in range(layers):
            weight, bias = gates[layer, 0], gates[layer, 1]
            hidden, cell = carried[2 * layer], carried[2 * layer + 1]
            entry = torch.stack([x, hidden, x]) * weight[:3] + bias[:3]
            forget, ingate, outgate = torch.sigmoid(entry).unbind()
            cell = cell * forget + ingate * torch.tanh(hidden * weight[3] + bias[3])
            x = outgate * torch.tanh(cell)
            after += [x, cell]
        return torch.stack(after), x

    def loss(run: Any, main: Any, extra: Any) -> Any:
        gates, carried, outs = main.reshape(layers, 2, 4, bits), state, []
        for row in sequence[:-1].unbind():
            carried, out = run(gates, extra, carried, row)
            outs.append(out)
        predicted = torch.stack(outs) * extra[1] + extra[2]
        scale = torch.log(2 + torch.exp(predicted).sum(1, keepdim=True))
        return -(sequence[1:] * (predicted - scale)).sum() / (bits * (len(sequence) - 1))

    found = {}
    for title, run in (("PyTorch eager", step), ("torch.compile of a step", compiled(step))):
        leaves = [main.clone().requires_grad_(), extra.clone().requires_grad_()]
        found[title] = Form(
            without_graph(lambda run=run: loss(run, main, extra)),
            lambda run=run, leaves=leaves: torch.autograd.grad(loss(run, *leaves), leaves),
        )
    return found


# ---- det, kmeans, llsq, lse, ode -------------------------------------------------------------------------------------


def _det(work: Workload) -> dict[str, Form]:
    ell = len(work.inputs["a"])
    levels = [tuple(torch.tensor(array) for array in level) for level in minors(ell)]

    def by_minors(a: Any) -> Any:
        below = torch.ones(1)
        for row, (columns, smaller, signs) in enumerate(levels):
            below = (signs * a[row][columns] * below[smaller]).sum(1)
        return below[0]

    found = gradients(" minors", by_minors, tensors(work, "a"))
    if ell <= 8:
        every, signs = (torch.tensor(array) for array in signed_permutations(ell))

        def by_permutations(a: Any) -> Any:
            product = signs
            for row in range(ell):
                product = product * a[row][every[:, row]]
            return product.sum()

        found |= gradients(" permutations", by_permutations, tensors(work, "a"))
    return found


def _kmeans(work: Workload) -> dict[str, Form]:
    def cost(points: Any, centroids: Any) -> Any:
        squares = (points * points).sum(1)[:, None] + (centroids * centroids).sum(1) - 2 * points @ centroids.T
        return squares.amin(1).sum()

    def direction(points: Any, centroids: Any) -> Any:
        slope = torch.func.grad(lambda c: cost(points, c))
        gradient, diagonal = torch.func.jvp(slope, (centroids,), (torch.ones_like(centroids),))
        return gradient / diagonal

    return both(" gemm", cost, direction, *tensors(work, "points", "centroids"))


def _llsq(work: Workload) -> dict[str, Form]:
    n = work.inputs["n"]

    def objective(x: Any) -> Any:
        t = -1 + torch.arange(n) * (2.0 / (n - 1))
        powers = torch.cumprod(torch.cat([torch.ones((1, n)), t.expand(len(x) - 1, n)]), 0)
        rest = torch.sign(t) - x @ powers
        return 0.5 * (rest * rest).sum()

    def by_horner(x: Any) -> Any:
        t = -1 + torch.arange(n) * (2.0 / (n - 1))
        value = torch.zeros(n)
        for c in x.flip(0).unbind():
            value = value * t + c
        rest = torch.sign(t) - value
        return 0.5 * (rest * rest).sum()

    found = gradients(" cumprod", objective, tensors(work, "x"))
    return found | gradients(" Horner", by_horner, tensors(work, "x"))


def _lse(work: Workload) -> dict[str, Form]:
    return gradients("", lambda x: log_sum_exp(x, 0), tensors(work, "x"))


def _ode(work: Workload) -> dict[str, Form]:
    steps = work.inputs["s"]
    h = 2.0 / steps

    def step(y: Any, x: Any) -> Any:
        def slope(y: Any) -> Any:
            return x * torch.cat([torch.ones(1), y[:-1]])

        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def solved(run: Any, x: Any) -> Any:
        y = torch.zeros_like(x)
        for _ in range(steps):
            y = run(y, x)
        return y

    (x,) = tensors(work, "x")
    leaf = x.clone().requires_grad_()
    return {
        title: Form(
            without_graph(lambda run=run: solved(run, x)),
            lambda run=run: torch.autograd.grad(solved(run, leaf)[-1], leaf),
        )
        for title, run in (("PyTorch eager", step), ("torch.compile of a step", compiled(step)))
    }


# ---- particle, saddle ------------------------------------------------------------------------------------------------


def value_and_slope(f: Any, x: Any) -> tuple[float, Any]:
    leaf = x.detach().clone().requires_grad_()
    value = f(leaf)
    return float(value.detach()), torch.autograd.grad(value, leaf)[0]


def descended(f: Any, start: Any) -> Any:
    """Where gradient descent on `f` ends."""
    x, (value, gradient) = start.detach(), value_and_slope(f, start)
    good, rate = 0, 1e-5
    while gradient.norm() > 1e-5:
        if good == 10:
            rate, good = rate * 2, 0
            continue
        tried = x - rate * gradient
        if (x - tried).norm() <= 1e-5:
            break
        after = float(f(tried.detach()))
        if after < value:
            x, good = tried, good + 1
            value, gradient = value_and_slope(f, x)
        else:
            rate, good = rate / 2, 0
    return x


def _particle(work: Workload) -> dict[str, Form]:
    def f(w: Any) -> Any:
        ten, no = torch.tensor(10.0), torch.tensor(0.0)
        x, v = torch.tensor([0.0, 8.0]), torch.tensor([0.75, 0.0])
        charges = (torch.stack([ten, 10 - w]), torch.stack([ten, no]))
        while True:
            with torch.enable_grad():
                here = x if x.requires_grad else x.clone().requires_grad_()
                potential = sum(1 / torch.sqrt(((here - charge) ** 2).sum()) for charge in charges)
                (slope,) = torch.autograd.grad(potential, here, create_graph=w.requires_grad)
            x = x + 0.1 * v
            if x[1] <= 0:
                return (x[0] - x[1] / v[1] * v[0]) ** 2
            v = v - 0.1 * slope

    w = torch.tensor(work.inputs["w"])
    return {"PyTorch eager, reverse over reverse": Form(without_graph(lambda: f(w)), lambda: descended(f, w))}


FORMS: dict[str, Callable[[Workload], dict[str, Form]]] = {
    "gmm": _gmm,
    "ba": _ba,
    "ht": _ht,
    "lstm": _lstm,
    "det": _det,
    "kmeans": _kmeans,
    "llsq": _llsq,
    "lse": _lse,
    "ode": _ode,
    "particle": _particle,
    "saddle": lambda _: {},
}
