"""The problems of the AD benchmark as users of JAX write them, in the fastest forms known; float64, jitted."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gradbench_data import Form, Workload
from gradbench_minors import minors, signed_permutations
from measure import versions

jax.config.update("jax_enable_x64", True)

VERSIONS = versions("jax", "jaxlib")


def forms(work: Workload) -> dict[str, Form]:
    """The forms of a problem by name."""
    return FORMS[work.problem](work)


def jitted(primal: Any, derivative: Any, *arguments: Any) -> Form:
    """A form of two functions of the same arguments."""
    moved = [jax.tree.map(jnp.asarray, argument) for argument in arguments]
    value, slope = jax.jit(primal), jax.jit(derivative)
    return Form(lambda: jax.block_until_ready(value(*moved)), lambda: jax.block_until_ready(slope(*moved)))


def log_sum_exp(values: Any, axis: int) -> Any:
    most = jnp.max(values, axis=axis, keepdims=True)
    return jnp.squeeze(most, axis) + jnp.log(jnp.sum(jnp.exp(values - most), axis=axis))


# ---- gmm -------------------------------------------------------------------------------------------------------------


def _gmm(work: Workload) -> dict[str, Form]:
    x, m, gamma = (work.inputs[name] for name in ("x", "m", "gamma"))
    n, d = x.shape
    k = len(work.inputs["alpha"])
    columns, rows = np.triu_indices(d, 1)
    degrees = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + sum(math.lgamma(degrees / 2 - j / 2) for j in range(d))
    constant = k * (degrees * d * math.log(gamma / math.sqrt(2)) - log_gamma) - n * d / 2 * math.log(2 * math.pi)

    def objective(alpha: Any, mu: Any, q: Any, lower: Any, x: Any) -> Any:
        diagonal = jnp.exp(q)
        factor = jnp.zeros((k, d, d)).at[:, rows, columns].set(lower)
        factor = factor.at[:, np.arange(d), np.arange(d)].set(diagonal)
        moved = (x @ factor.reshape(k * d, d).T).reshape(n, k, d) - jnp.einsum("kij,kj->ki", factor, mu)
        total = q.sum(1)
        beta = alpha + total - 0.5 * (moved * moved).sum(2)
        prior = 0.5 * gamma**2 * ((diagonal * diagonal).sum() + (lower * lower).sum()) - m * total.sum()
        return constant - n * log_sum_exp(alpha, 0) + log_sum_exp(beta, 1).sum() - prior

    arguments = [work.inputs[name] for name in ("alpha", "mu", "q", "l", "x")]
    return {"JAX gemm": jitted(objective, jax.grad(objective, argnums=(0, 1, 2, 3)), *arguments)}


# ---- ba --------------------------------------------------------------------------------------------------------------


def rotated(r: Any, x: Any) -> Any:
    """A point turned about an axis of length the angle."""
    square = r @ r
    is_zero = square == 0
    angle = jnp.sqrt(jnp.where(is_zero, 1.0, square))
    axis = r / angle
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    turned = x * cosine + jnp.cross(axis, x) * sine + axis * ((axis @ x) * (1 - cosine))
    return jnp.where(is_zero, x + jnp.cross(r, x), turned)


def reprojection(camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    seen = rotated(camera[:3], point - camera[3:6])
    flat = seen[:2] / seen[2]
    square = flat @ flat
    distortion = 1 + camera[9] * square + camera[10] * square * square
    return weight * (camera[6] * distortion * flat + camera[7:9] - feature)


def _ba(work: Workload) -> dict[str, Form]:
    n, m, p = (len(work.inputs[name]) for name in ("cams", "x", "w"))

    def primal(cams: Any, x: Any, w: Any, feats: Any, obs: Any) -> Any:
        errors = jax.vmap(reprojection)(cams[obs[:, 0]], x[obs[:, 1]], w, feats)
        return errors.reshape(-1), 1 - w * w

    def jacobian(cams: Any, x: Any, w: Any, feats: Any, obs: Any) -> Any:
        by_one = jax.jacrev(reprojection, argnums=(0, 1, 2))
        by_camera, by_point, by_weight = jax.vmap(by_one)(cams[obs[:, 0]], x[obs[:, 1]], w, feats)
        block = jnp.concatenate([by_camera, by_point, by_weight[:, :, None]], axis=2)
        values = jnp.concatenate([block.reshape(-1), -2 * w])
        place = jnp.arange(p, dtype=jnp.int32)
        camera = 11 * obs[:, :1].astype(jnp.int32) + jnp.arange(11, dtype=jnp.int32)
        point = 11 * n + 3 * obs[:, 1:].astype(jnp.int32) + jnp.arange(3, dtype=jnp.int32)
        weight = 11 * n + 3 * m + place
        columns = jnp.tile(jnp.concatenate([camera, point, weight[:, None]], axis=1)[:, None, :], (1, 2, 1))
        rows = jnp.concatenate([15 * jnp.arange(2 * p + 1, dtype=jnp.int32), 30 * p + 1 + place])
        return rows, jnp.concatenate([columns.reshape(-1), weight]), values

    arguments = [work.inputs[name] for name in ("cams", "x", "w", "feats", "obs")]
    return {"JAX reverse": jitted(primal, jacobian, *arguments)}


# ---- ht --------------------------------------------------------------------------------------------------------------


def angle_axis(r: Any) -> Any:
    norm = jnp.sqrt(r @ r)
    x, y, z = r / norm
    c, s = jnp.cos(norm), jnp.sin(norm)
    full = jnp.array(
        [
            [x * x + (1 - x * x) * c, x * y * (1 - c) - z * s, x * z * (1 - c) + y * s],
            [x * y * (1 - c) + z * s, y * y + (1 - y * y) * c, y * z * (1 - c) - x * s],
            [x * z * (1 - c) - y * s, z * y * (1 - c) + x * s, z * z + (1 - z * z) * c],
        ]
    )
    return jnp.where(norm < 1e-4, jnp.eye(3), full)


def bone_rotation(a: Any) -> Any:
    (cx, cz, cy), (sx, sz, sy) = jnp.cos(a), jnp.sin(a)
    about_x = jnp.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = jnp.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = jnp.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return jnp.zeros((4, 4)).at[:3, :3].set(about_z @ about_y @ about_x).at[3, 3].set(1.0)


def _ht(work: Workload) -> dict[str, Form]:
    given = work.inputs
    parents = [int(parent) for parent in given["parents"]]
    is_simple, is_mirrored = given["us"] is None, bool(given["is_mirrored"])
    names = ("base_relatives", "inverse_base_absolutes", "base_positions", "weights", "triangles")

    def positions(theta: Any, model: Any, by_columns: bool) -> Any:
        pose = jnp.zeros((len(parents) + 3, 3)).at[1].set(1.0).at[0].set(theta[:3]).at[2].set(theta[3:6])
        for finger in range(5):
            at, row = 6 + 4 * finger, 5 + 4 * finger
            pose = pose.at[row, :2].set(theta[at : at + 2])
            pose = pose.at[row + 1, 0].set(theta[at + 2]).at[row + 2, 0].set(theta[at + 3])
        relative = model["base_relatives"] @ jax.vmap(bone_rotation)(pose[3:])
        absolute: list[Any] = []
        for bone, parent in enumerate(parents):
            absolute.append(relative[bone] if parent < 0 else absolute[parent] @ relative[bone])
        transform = jnp.stack(absolute) @ model["inverse_base_absolutes"]
        by_bone = transform[:, :3].reshape(len(parents), 12)
        mirror = jnp.array([-1.0 if is_mirrored else 1.0, 1.0, 1.0])
        turn = angle_axis(pose[0]) * pose[1]
        if by_columns:
            mixed = (by_bone.T @ model["weights"].T).reshape(3, 4, -1)
            return (turn @ ((mixed * model["base_positions"].T).sum(1) * mirror[:, None]) + pose[2][:, None]).T
        mixed = (model["weights"] @ by_bone).reshape(-1, 3, 4)
        return (jnp.einsum("vij,vj->vi", mixed, model["base_positions"]) * mirror) @ turn.T + pose[2]

    def errors(by_columns: bool, theta: Any, us: Any, model: Any, correspondences: Any, points: Any) -> Any:
        place = positions(theta, model, by_columns)
        if is_simple:
            return (points - place[correspondences]).reshape(-1)
        corners = place[model["triangles"][correspondences]]
        u, v = us[:, :1], us[:, 1:]
        return (points - (u * corners[:, 0] + v * corners[:, 1] + (1 - u - v) * corners[:, 2])).reshape(-1)

    def jacobian(by_columns: bool, theta: Any, us: Any, *rest: Any) -> Any:
        directions = jnp.eye(len(theta))
        if is_simple:

            def one(direction: Any) -> Any:
                return jax.jvp(lambda t: errors(by_columns, t, us, *rest), (theta,), (direction,))[1]

            return jax.vmap(one, 0, 1)(directions)
        zero = jnp.zeros((2, len(theta)))
        colours = jnp.concatenate([jnp.eye(2), jnp.zeros((len(theta), 2))])

        def along(direction: Any, colour: Any) -> Any:
            tangents = (direction, jnp.broadcast_to(colour, us.shape))
            return jax.jvp(lambda t, u: errors(by_columns, t, u, *rest), (theta, us), tangents)[1]

        return jax.vmap(along, 0, 1)(jnp.concatenate([zero, directions]), colours)

    us = np.zeros((0, 2)) if is_simple else given["us"]
    model = {name: given[name] for name in names}
    arguments = (given["theta"], us, model, given["correspondences"], given["points"])
    return {
        name: jitted(partial(errors, by_columns), partial(jacobian, by_columns), *arguments)
        for name, by_columns in (("JAX forward, vertices by rows", False), ("JAX forward, by columns", True))
    }


# ---- lstm ------------------------------------------------------------------------------------------------------------


def _lstm(work: Workload) -> dict[str, Form]:
    layers = len(work.inputs["state"]) // 2
    names = ("main_params", "extra_params", "state", "sequence")

    def with_unroll(unroll: int) -> Form:
        def loss(main: Any, extra: Any, state: Any, sequence: Any) -> Any:
            bits = sequence.shape[1]
            gates = main.reshape(layers, 2, 4, bits)

            def step(carry: Any, rows: Any) -> Any:
                row, target = rows
                x, after = row * extra[0], []
                for layer, (hidden, cell) in enumerate(carry):
                    weight, bias = gates[layer]
                    forget = jax.nn.sigmoid(x * weight[0] + bias[0])
                    ingate = jax.nn.sigmoid(hidden * weight[1] + bias[1])
                    outgate = jax.nn.sigmoid(x * weight[2] + bias[2])
                    change = jnp.tanh(hidden * weight[3] + bias[3])
                    cell = cell * forget + ingate * change
                    x = outgate * jnp.tanh(cell)
                    after.append((x, cell))
                predicted = x * extra[1] + extra[2]
                scale = jnp.log(2 + jnp.exp(predicted).sum())
                return after, (target * (predicted - scale)).sum()

            start = [(state[2 * layer], state[2 * layer + 1]) for layer in range(layers)]
            _, parts = jax.lax.scan(step, start, (sequence[:-1], sequence[1:]), unroll=unroll)
            return -parts.sum() / (bits * (len(sequence) - 1))

        return jitted(loss, jax.grad(loss, argnums=(0, 1)), *(work.inputs[name] for name in names))

    found = {"JAX scan": with_unroll(1)}
    if layers * len(work.inputs["sequence"]) <= 2048:
        found["JAX scan, unrolled by 8"] = with_unroll(8)
    return found


# ---- det -------------------------------------------------------------------------------------------------------------


def _det(work: Workload) -> dict[str, Form]:
    ell = len(work.inputs["a"])

    def by_permutations(a: Any, every: Any, signs: Any) -> Any:
        product = signs
        for row in range(ell):
            product = product * a[row, every[:, row]]
        return product.sum()

    def by_minors(a: Any, levels: Any) -> Any:
        below = jnp.ones(1)
        for row, (columns, smaller, signs) in enumerate(levels):
            below = (signs * a[row, columns] * below[smaller]).sum(1)
        return below[0]

    found = {"JAX minors": jitted(by_minors, jax.grad(by_minors), work.inputs["a"], minors(ell))}
    if ell <= 8:
        every = signed_permutations(ell)
        found["JAX permutations"] = jitted(by_permutations, jax.grad(by_permutations), work.inputs["a"], *every)
    return found


# ---- kmeans, llsq, lse, ode ------------------------------------------------------------------------------------------


def _kmeans(work: Workload) -> dict[str, Form]:
    def by_product(points: Any, centroids: Any) -> Any:
        squares = (points * points).sum(1)[:, None] + (centroids * centroids).sum(1) - 2 * points @ centroids.T
        return squares.min(1).sum()

    def direct(points: Any, centroids: Any) -> Any:
        apart = points[:, None, :] - centroids
        return (apart * apart).sum(2).min(1).sum()

    def newton(cost: Any) -> Any:
        def direction(points: Any, centroids: Any) -> Any:
            slope = jax.grad(cost, argnums=1)
            ones = jnp.ones_like(centroids)
            gradient, diagonal = jax.jvp(lambda c: slope(points, c), (centroids,), (ones,))
            return gradient / diagonal

        return direction

    arguments = (work.inputs["points"], work.inputs["centroids"])
    found = {"JAX gemm": jitted(by_product, newton(by_product), *arguments)}
    if len(arguments[1]) < 1000:
        found["JAX direct"] = jitted(direct, newton(direct), *arguments)
    return found


def _llsq(work: Workload) -> dict[str, Form]:
    n = work.inputs["n"]

    def objective(x: Any) -> Any:
        t = -1 + jnp.arange(n) * 2.0 / (n - 1)
        value, _ = jax.lax.scan(lambda total, c: (total * t + c, None), jnp.zeros(n), x, reverse=True)
        rest = jnp.sign(t) - value
        return 0.5 * (rest * rest).sum()

    return {"JAX Horner": jitted(objective, jax.grad(objective), work.inputs["x"])}


def _lse(work: Workload) -> dict[str, Form]:
    def objective(x: Any) -> Any:
        return log_sum_exp(x, 0)

    return {"JAX": jitted(objective, jax.grad(objective), work.inputs["x"])}


def _ode(work: Workload) -> dict[str, Form]:
    steps = work.inputs["s"]
    h = 2.0 / steps

    def primal(x: Any) -> Any:
        def slope(y: Any) -> Any:
            return x * jnp.concatenate([jnp.ones(1), y[:-1]])

        def step(y: Any, _: None) -> tuple[Any, None]:
            k1 = slope(y)
            k2 = slope(y + h / 2 * k1)
            k3 = slope(y + h / 2 * k2)
            k4 = slope(y + h * k3)
            return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        return jax.lax.scan(step, jnp.zeros_like(x), None, length=steps)[0]

    return {"JAX scan": jitted(primal, jax.grad(lambda x: primal(x)[-1]), work.inputs["x"])}


# ---- particle, saddle ------------------------------------------------------------------------------------------------

Function = Callable[[Any], Any]


def forward(f: Function) -> Function:
    """The gradient by forward mode."""
    return lambda x: jax.jacfwd(f)(x)


def descended(f: Function, slope: Function, start: Any) -> Any:
    """Where gradient descent on `f` ends; reverse mode of JAX cannot go through it."""

    def norm(x: Any) -> Any:
        return jnp.sqrt(jnp.sum(x * x))

    def step(state: Any) -> Any:
        x, value, gradient, good, rate, _ = state
        grown, tried = good == 10, x - rate * gradient
        is_near = norm(x - tried) <= 1e-5
        after = f(tried)
        is_less = after < value
        taken = ~grown & ~is_near & is_less
        rate = jnp.where(grown, rate * 2, jnp.where(is_near | is_less, rate, rate / 2))
        good = jnp.where(taken, good + 1, jnp.where(~grown & is_near, good, 0))
        gradient = jax.lax.cond(taken, lambda: slope(tried), lambda: gradient)
        return (
            jnp.where(taken, tried, x),
            jnp.where(taken, after, value),
            gradient,
            good,
            rate,
            ~grown & is_near | (norm(gradient) <= 1e-5),
        )

    first = slope(start)
    state = (start, f(start), first, jnp.int64(0), jnp.float64(1e-5), norm(first) <= 1e-5)
    return jax.lax.while_loop(lambda s: ~s[5], step, state)[0]


def _particle(work: Workload) -> dict[str, Form]:
    def landing(inner: Any) -> Function:
        def f(w: Any) -> Any:
            def potential(x: Any) -> Any:
                charges = (jnp.stack([10.0 + 0 * w, 10.0 - w]), jnp.array([10.0, 0.0]))
                return sum(1 / jnp.sqrt(((x - charge) ** 2).sum()) for charge in charges)

            slope = inner(potential)

            def step(state: Any) -> Any:
                x, v = state
                return x + 0.1 * v, v - 0.1 * slope(x)

            start = (jnp.array([0.0, 8.0]), jnp.array([0.75, 0.0]))
            x, v = jax.lax.while_loop(lambda s: s[0][1] + 0.1 * s[1][1] > 0, step, start)
            x = x + 0.1 * v
            end = x - x[1] / v[1] * v
            return end[0] ** 2

        return f

    found = {}
    for name, inner in (("JAX, forward over forward", forward), ("JAX, forward over reverse", jax.grad)):
        f = landing(inner)
        found[name] = jitted(f, lambda w, f=f: descended(f, forward(f), w), work.inputs["w"])
    return found


def _saddle(work: Workload) -> dict[str, Form]:
    def value(p: Any, q: Any) -> Any:
        return (p * p).sum() - (q * q).sum()

    def solved(start: Any) -> Any:
        def highest(p: Any) -> Any:
            best = descended(lambda q: -value(p, q), forward(lambda q: -value(p, q)), start)
            return value(p, best)

        low = descended(highest, forward(highest), start)
        return low, descended(lambda q: -value(low, q), forward(lambda q: -value(low, q)), start)

    whole = jitted(solved, solved, work.inputs["start"])
    return {"JAX, forward over forward": replace(whole, parts=("derivative",))}


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
    "saddle": _saddle,
}
