"""The problems of GradBench once more in NumPy: functions that also take complex numbers, and derivatives by hand.

Where no formula for the derivative is at hand, a step of 1e-30 along the imaginary axis gives it to rounding.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np


def complex_step(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """The Jacobian of f, axes of the result first."""
    columns = []
    for at in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[at] += 1e-30j
        columns.append(np.asarray(f(moved)).imag / 1e-30)
    stacked = np.stack(columns, axis=-1)
    return stacked.reshape(*stacked.shape[:-1], *x.shape)


def softmax(v: np.ndarray) -> np.ndarray:
    e = np.exp(v - v.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_sum_exp(v: np.ndarray) -> np.ndarray:
    top = v.max(axis=-1)
    return top + np.log(np.exp(v - top[..., None]).sum(axis=-1))


def gmm_triangles(q: np.ndarray, packed: np.ndarray) -> np.ndarray:
    """The lower triangles, filled column by column."""
    k, d = q.shape
    triangles = np.zeros((k, d, d))
    for c in range(k):
        entries = iter(packed[c])
        for column in range(d):
            triangles[c, column, column] = np.exp(q[c, column])
            for row in range(column + 1, d):
                triangles[c, row, column] = next(entries)
    return triangles


def gmm(g: dict[str, np.ndarray], x: np.ndarray, gamma: float, m: int) -> tuple[float, dict[str, np.ndarray]]:
    """The log posterior and its gradient by hand."""
    n, d = x.shape
    k = len(g["alpha"])
    triangles = gmm_triangles(g["q"], g["l"])
    away = x[:, None] - g["mu"]
    y = np.einsum("crs,ics->icr", triangles, away)
    beta = g["alpha"] + g["q"].sum(axis=1) - 0.5 * (y**2).sum(axis=2)
    freedom = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + sum(math.lgamma(0.5 * freedom - 0.5 * j) for j in range(d))
    prior = k * (freedom * d * math.log(gamma / math.sqrt(2)) - log_gamma)
    prior -= 0.5 * gamma**2 * ((np.exp(g["q"]) ** 2).sum() + (g["l"] ** 2).sum()) - m * g["q"].sum()
    fit = log_sum_exp(beta).sum() - n * (0.5 * d * math.log(2 * math.pi) + log_sum_exp(g["alpha"]))
    share = softmax(beta)
    below = -np.einsum("ic,ics,icr->csr", share, away, y)
    slope = {
        "alpha": share.sum(axis=0) - n * softmax(g["alpha"]),
        "mu": np.einsum("ic,crs,icr->cs", share, triangles, y),
        "q": share.sum(axis=0)[:, None]
        + np.exp(g["q"]) * np.einsum("crr->cr", below)
        - gamma**2 * np.exp(g["q"]) ** 2
        + m,
        "l": np.stack([below[:, s, r] for s in range(d) for r in range(s + 1, d)], axis=1) - gamma**2 * g["l"]
        if d > 1
        else np.zeros((k, 0)),
    }
    return fit + prior, slope


def ba_error(unknowns: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """The error of one observation by its 11 numbers of the camera, 3 of the point and the weight."""
    r, centre, focal, offset = unknowns[0:3], unknowns[3:6], unknowns[6], unknowns[7:9]
    k1, k2, x, w = unknowns[9], unknowns[10], unknowns[11:14], unknowns[14]
    away = x - centre
    square = r @ r
    if np.any(r.real != 0):
        angle = np.sqrt(square)
        axis = r / angle
        seen = away * np.cos(angle) + np.cross(axis, away) * np.sin(angle)
        seen = seen + axis * ((axis @ away) * (1 - np.cos(angle)))
    else:
        seen = away + np.cross(r, away)
    p = seen[:2] / seen[2]
    s = p @ p
    return w * (focal * (1 + k1 * s + k2 * s**2) * p + offset - feature)


def ba(cams, x, w, cam, point, feature):
    """The errors, those of the weights, and the Jacobian as a dense matrix with the pattern of its entries."""
    n, m, p = len(cams), len(x), len(w)
    errors = np.zeros((p, 2))
    dense = np.zeros((3 * p, 11 * n + 3 * m + p))
    pattern = np.zeros(dense.shape, dtype=bool)
    for j in range(p):
        unknowns = np.concatenate([cams[cam[j]], x[point[j]], [w[j]]])
        errors[j] = ba_error(unknowns, feature[j])
        columns = [*(11 * cam[j] + np.arange(11)), *(11 * n + 3 * point[j] + np.arange(3)), 11 * n + 3 * m + j]
        dense[2 * j : 2 * j + 2, columns] = complex_step(lambda u, j=j: ba_error(u, feature[j]), unknowns)
        pattern[2 * j : 2 * j + 2, columns] = True
        dense[2 * p + j, 11 * n + 3 * m + j] = -2 * w[j]
        pattern[2 * p + j, 11 * n + 3 * m + j] = True
    return errors, 1 - w**2, dense, pattern


def turn(axis: int, angle: complex) -> np.ndarray:
    """A rotation by an angle about one of the axes."""
    matrix = np.eye(4, dtype=complex)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def ht_skin(hand: dict, theta: np.ndarray) -> np.ndarray:
    """The vertices of the hand."""
    angles = np.zeros((22, 3), dtype=complex)
    unused = iter(theta[6:])
    for finger in range(5):
        for joint in range(3):
            bone = 2 + 4 * finger + joint
            angles[bone, 0] = next(unused)
            if joint == 0:
                angles[bone, 1] = next(unused)
    absolute = []
    for bone, (a, b, c) in enumerate(angles):
        relative = hand["base_relative"][bone] @ turn(2, b) @ turn(1, c) @ turn(0, a)
        parent = hand["parent"][bone]
        absolute.append(relative if parent < 0 else absolute[parent] @ relative)
    moves = np.array(absolute) @ hand["inverse_absolute"]
    p = np.einsum("vb,brc,vc->vr", hand["weight"], moves[:, :3], hand["position"])
    if hand["mirrored"]:
        p = p * [-1, 1, 1]
    v = theta[:3]
    t = np.sqrt(v @ v)
    rotation = np.eye(3)
    if t.real >= 1e-4:
        x, y, z = v / t
        skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        rotation = np.eye(3) + np.sin(t) * skew + (1 - np.cos(t)) * skew @ skew
    return p @ rotation.T + theta[3:6]


def ht(hand: dict, theta: np.ndarray, us: np.ndarray, points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The errors, where `corners` are the vertices of the triangle of each point."""
    p = ht_skin(hand, theta)
    u, v = us[:, :1], us[:, 1:]
    return points - (u * p[corners[:, 0]] + v * p[corners[:, 1]] + (1 - u - v) * p[corners[:, 2]])


def lstm(main: np.ndarray, extra: np.ndarray, state: np.ndarray, sequence: np.ndarray) -> complex:
    """The loss."""

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    layers = len(main) // 2
    state = state.astype(complex)
    total = 0
    for now, then in pairwise(sequence):
        x = now * extra[0]
        for layer in range(layers):
            weights, biases = np.split(main[2 * layer], 4), np.split(main[2 * layer + 1], 4)
            hidden, cell = state[2 * layer], state[2 * layer + 1]
            inputs = (x, hidden, x, hidden)
            f, i, o, c = (v * w + b for v, w, b in zip(inputs, weights, biases, strict=True))
            cell = cell * sigmoid(f) + sigmoid(i) * np.tanh(c)
            x = sigmoid(o) * np.tanh(cell)
            state[2 * layer], state[2 * layer + 1] = x, cell
        y = x * extra[1] + extra[2]
        total = total + (then * (y - np.log(2 + np.exp(y).sum()))).sum()
    return -total / (sequence.shape[1] * (len(sequence) - 1))


def llsq(x: np.ndarray, n: int) -> tuple[float, np.ndarray]:
    t = -1 + 2 * np.arange(n) / (n - 1)
    powers = t[:, None] ** np.arange(len(x))
    r = np.sign(t) - powers @ x
    return 0.5 * r @ r, -powers.T @ r


def ode(x: np.ndarray, steps: int) -> np.ndarray:
    y = np.zeros(len(x), dtype=x.dtype)
    h = 2 / steps

    def flow(y: np.ndarray) -> np.ndarray:
        return x * np.concatenate([[1], y[:-1]])

    for _ in range(steps):
        k1 = flow(y)
        k2 = flow(y + h / 2 * k1)
        k3 = flow(y + h / 2 * k2)
        k4 = flow(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def kmeans(points: np.ndarray, centroids: np.ndarray) -> tuple[float, np.ndarray]:
    """The cost and, in closed form, from each centre the way back from the mean of its points."""
    squares = ((points[:, None] - centroids) ** 2).sum(axis=2)
    nearest = squares.argmin(axis=1)
    means = np.stack([points[nearest == c].mean(axis=0) for c in range(len(centroids))])
    return squares.min(axis=1).sum(), centroids - means


def particle_miss(w: complex) -> complex:
    """The square of the place where the particle comes down, with the force by hand."""
    charges = np.array([[10, 10 - w], [10, 0]])
    x, v = np.array([0, 8], dtype=complex), np.array([0.75, 0], dtype=complex)
    while True:
        away = x - charges
        force = (away / (np.sqrt((away**2).sum(axis=1)) ** 3)[:, None]).sum(axis=0)
        x = x + 0.1 * v
        if x[1].real <= 0:
            return (x - x[1] / v[1] * v)[0] ** 2
        v = v + 0.1 * force
