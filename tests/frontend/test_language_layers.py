"""Arrays of records: indexed, looped over, mapped, sliced, updated, built."""

import numpy as np
from language_run import Case, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])
weights = np.arange(18.0).reshape(2, 3, 3) / 10
b = np.arange(6.0).reshape(2, 3)
layers = {"w": weights, "b": b}
short = np.array([1.0, 2.0, 3.0])


def net(w, b, v):
    for k in range(len(w)):
        v = np.tanh(v @ w[k] + b[k])
    return v


@cases(
    Case(
        "loop",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d], v: f64[h]) -> f64[h]:
    for l in ls:
        v = tanh(v @ l.w + l.b)
    return v
""",
        "f",
        layers,
        short,
        expect=net(weights, b, short),
    ),
    Case(
        "index",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d], v: f64[h]) -> f64[h]:
    for k in range(d):
        l = ls[k]
        v = tanh(v @ l.w + ls[k].b)
    return v
""",
        "f",
        layers,
        short,
        expect=net(weights, b, short),
    ),
    Case(
        "update field",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d], v: f64[h, h]) -> L[h, h][d]:
    ls[1].w -= 0.1 * v
    return ls
""",
        "f",
        layers,
        weights[0],
        expect=[np.stack([weights[0], weights[1] - 0.1 * weights[0]]), b],
    ),
    Case(
        "update in loop",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d], v: f64[h, h]) -> L[h, h][d]:
    for i in range(d):
        ls[i].w -= 0.1 * v * i
    return ls
""",
        "f",
        layers,
        weights[0],
        expect=[np.stack([weights[0], weights[1] - 0.1 * weights[0]]), b],
    ),
    Case(
        "set entry",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> L[h, h][d]:
    for i in range(d):
        l = ls[i]
        ls[i] = 2 * l
    return ls
""",
        "f",
        layers,
        expect=[2 * weights, 2 * b],
    ),
    Case(
        "slice",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> L[h, h][d - 1] = ls[1:]
""",
        "f",
        layers,
        expect=[weights[1:], b[1:]],
    ),
    Case(
        "vmap",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def one[h](l: L[h, h], v: f64[h]) -> f64[h] = v @ l.w + l.b
def f[h, d](ls: L[h, h][d], v: f64[h]) -> f64[d, h] = vmap(one, over=l)(ls, v)
""",
        "f",
        layers,
        short,
        expect=np.stack([short @ weights[k] + b[k] for k in range(2)]),
    ),
    Case(
        "formula",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> f64[d]:
    z[k] = sum(ls[k].w[i, j] for i, j)
    return z
""",
        "f",
        layers,
        expect=weights.sum((1, 2)),
    ),
    Case(
        "comprehension",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> f64[d] = [sum(l.w) + sum(l.b) for l in ls]
""",
        "f",
        layers,
        expect=weights.sum((1, 2)) + b.sum(1),
    ),
    Case(
        "comprehension of records",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> L[h, h][d] = [2 * l for l in ls]
""",
        "f",
        layers,
        expect=[2 * weights, 2 * b],
    ),
    Case(
        "comprehension build",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> L[h, h][d] = [L(w=l.w.T, b=-l.b) for l in ls]
""",
        "f",
        layers,
        expect=[weights.transpose(0, 2, 1), -b],
    ),
    Case(
        "grad",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d], v: f64[h]) -> f64:
    for l in ls:
        v = v @ l.w + l.b
    return sum(v)
""",
        "f",
        {"w": weights[:1], "b": b[:1]},
        short,
        expect=[np.repeat(short[:, None], 3, 1)[None], np.ones((1, 3))],
        wrt="ls",
    ),
    Case(
        "arithmetic",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> L[h, h][d] = ls - 0.5 * ls
""",
        "f",
        layers,
        expect=[0.5 * weights, 0.5 * b],
    ),
    Case(
        "collected records",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h](l: L[h, h], s: size) -> L[h, h][s]:
    for t in range(s):
        l = 2 * l
        track[t] = l
    return track
""",
        "f",
        {"w": weights[0], "b": b[0]},
        2,
        expect=[np.stack([2 * weights[0], 4 * weights[0]]), np.stack([2 * b[0], 4 * b[0]])],
    ),
    Case(
        "len",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d]) -> i64 = len(ls)
""",
        "f",
        layers,
        expect=2,
    ),
    Case(
        "enumerate",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> f64:
    s = 0.0
    for k, l in enumerate(ls):
        s += k * sum(l.w)
    return s
""",
        "f",
        layers,
        expect=weights[1].sum(),
    ),
    Case(
        "zip",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d], x: f64[d]) -> f64:
    s = 0.0
    for k, l in zip(x, ls):
        s += k * sum(l.w)
    return s
""",
        "f",
        layers,
        np.array([2.0, 3]),
        expect=2 * weights[0].sum() + 3 * weights[1].sum(),
    ),
    Case(
        "last",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d]) -> L[h, h] = ls[-1]
""",
        "f",
        layers,
        expect=[weights[1], b[1]],
    ),
    Case(
        "gather",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d, k](ls: L[h, h][d], p: i64[k]) -> L[h, h][k] = ls[p]
""",
        "f",
        layers,
        np.array([1, 0, 1]),
        expect=[weights[[1, 0, 1]], b[[1, 0, 1]]],
    ),
    Case(
        "2 axes",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, a, c](ls: L[h, h][a, c]) -> f64[a, c]:
    z[i, j] = sum(ls[i, j].b)
    return z
""",
        "f",
        {"w": np.zeros((2, 3, 2, 2)), "b": np.ones((2, 3, 2))},
        expect=np.full((2, 3), 2.0),
    ),
    Case(
        "update by formula",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d]) -> L[h, h][d]:
    ls[k].b = 0.0 * ls[k].b for k
    return ls
""",
        "f",
        layers,
        expect=[weights, 0 * b],
    ),
    Case(
        "update of all entries by a formula",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d]) -> L[h, h][d]:
    ls[k] = 2 * ls[k] for k
    return ls
""",
        "f",
        layers,
        expect=[2 * weights, 2 * b],
    ),
    Case(
        "update of a field by a formula",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d]) -> L[h, h][d]:
    ls.b[k, i] += 1.0 for k, i
    return ls
""",
        "f",
        layers,
        expect=[weights, b + 1],
    ),
    Case(
        "slice update",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d]) -> L[h, h][d]:
    ls[1:] = 2 * ls[1:]
    return ls
""",
        "f",
        layers,
        expect=[np.stack([weights[0], 2 * weights[1]]), np.stack([b[0], 2 * b[1]])],
    ),
    Case(
        "list literal",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h](a: L[h, h], c: L[h, h]) -> L[h, h][2] = [a, c]
""",
        "f",
        {"w": weights[0], "b": b[0]},
        {"w": weights[1], "b": b[1]},
        expect=[weights, b],
    ),
    Case(
        "typed zero",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f(h: size, d: size) -> L[h, h][d]:
    z: L[h, h][d] = zeros()
    z[0].b += 1.0
    return z
""",
        "f",
        2,
        2,
        expect=[np.zeros((2, 2, 2)), np.array([[1.0, 1], [0, 0]])],
    ),
    Case(
        "field of array",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d]) -> f64[d, h] = ls.b
""",
        "f",
        layers,
        expect=b,
    ),
    Case(
        "if chosen",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d], c: bool) -> L[h, h]:
    return ls[0] if c else ls[1]
""",
        "f",
        layers,
        False,
        expect=[weights[1], b[1]],
    ),
    Case(
        "vmap formula",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d], x: f64[d, h]) -> f64[d, h] = vmap(lambda l, v: v @ l.w + l.b, over=(l, v))(ls, x)
""",
        "f",
        layers,
        b,
        expect=np.stack([b[k] @ weights[k] + b[k] for k in range(2)]),
    ),
    Case(
        "zeros_like norm dot",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]
def f[h, d](ls: L[h, h][d]) -> (f64, f64) = norm(ls), dot(ls, zeros_like(ls) + ls)
""",
        "f",
        layers,
        expect=[np.sqrt((weights**2).sum() + (b**2).sum()), (weights**2).sum() + (b**2).sum()],
    ),
)
def test_layers(case: Case):
    case.run()
