"""Programs in which many rules meet."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "types change",
        """
def f(a: f32, b: f64[3]) -> f64:
    total: f64 = 0.0
    for p in (a, b, 3, True):
        q = p
        total += 1.0
    return total
""",
        "f",
        np.float32(1),
        x[:3],
        expect=4.0,
    ),
    Case(
        "tuple of records",
        """
record L[i, o]:
    w: f64[i, o]
def f[a, b, c](ls: (L[a, b], L[b, c]), x: f64[a]) -> f64[c]:
    h = ls[0].w.T @ x
    return h @ ls[1].w
""",
        "f",
        ({"w": np.ones((2, 3))}, {"w": np.ones((3, 4))}),
        x[:2],
        expect=np.full(4, 9.0),
    ),
    Case(
        "unrolled nets",
        """
record L[i, o]:
    w: f64[i, o]
def f[a, b, c](ls: (L[a, b], L[b, c]), x: f64[a]) -> f64[c]:
    for l in ls:
        x = x @ l.w
    return x
""",
        "f",
        ({"w": np.ones((2, 3))}, {"w": np.ones((3, 4))}),
        x[:2],
        expect=np.full(4, 9.0),
    ),
    Case(
        "keys",
        """
def f(k: key, n: size) -> f64:
    s = 0.0
    for own in split(k, n):
        z: f64 = normal(own)
        s += z * 0.0
    a, b = split(k)
    w: f64[2] = normal(a)
    return s + sum(w) * 0.0
""",
        "f",
        1,
        3,
        expect=0.0,
    ),
    Case(
        "key carried",
        """
def f(k: key) -> f64:
    s = 0.0
    for i in range(3):
        k, own = split(k)
        z: f64 = uniform(own)
        s += z * 0.0
    return s
""",
        "f",
        1,
        expect=0.0,
    ),
    Case(
        "nested formula",
        """
def f[n, m](a: f64[n, m], b: f64[m, n]) -> f64[n, n]:
    z[i, j] = max(a[i, k] * b[k, j] for k)
    return z
""",
        "f",
        np.arange(6.0).reshape(2, 3),
        np.arange(6.0).reshape(3, 2),
        expect=(np.arange(6.0).reshape(2, 3)[:, :, None] * np.arange(6.0).reshape(3, 2)[None]).max(1),
    ),
    Case(
        "formula calls fn",
        """
def g[m](v: f64[m]) -> f64 = sum(v * v)
def f[n, m](a: f64[n, m]) -> f64[n]:
    z[i] = g(a[i]) + g(a[i, 1:])
    return z
""",
        "f",
        np.arange(6.0).reshape(2, 3),
        expect=(np.arange(6.0).reshape(2, 3) ** 2).sum(1) + (np.arange(6.0).reshape(2, 3)[:, 1:] ** 2).sum(1),
    ),
    Case(
        "loop inside formula",
        """
def g(v: f64, s: size) -> f64:
    for t in range(s):
        v = v * 2
    return v
def f[n](a: f64[n]) -> f64[n] = [g(v, 3) for v in a]
""",
        "f",
        x,
        expect=8 * x,
    ),
    Case(
        "if in formula",
        """
def f[n](a: f64[n]) -> f64[n]:
    z[i] = a[i] if i % 2 == 0 else -a[i]
    return z
""",
        "f",
        x,
        expect=x * np.array([1, -1, 1, -1]),
    ),
    Case(
        "stencil choice reads untaken",
        """
def f[n](a: f64[n]) -> f64[n]:
    z[i] = a[i - 1] if i > 0 else 0.0 for i in range(n)
    return z
""",
        "f",
        x,
        expect=np.array([0.0, 1, 2, 3]),
    ),
    Case(
        "size default formal uses other",
        """
def f(n: size, m: size = 3) -> f64[n, m] = ones(n, m)
""",
        "f",
        2,
        expect=np.ones((2, 3)),
    ),
    Case(
        "default uses earlier formal",
        """
def g(x: f64, y: f64 = 2.0, z: f64 = pi) -> f64 = x * y * z
def f(x: f64) -> f64 = g(x, z=1.0)
""",
        "f",
        2.0,
        expect=4.0,
    ),
    Case(
        "P with axes",
        """
record S[n]:
    a: f64[n]
def tot[P: record, k](ps: P[k]) -> P = sum(p for p in ps)
def f[n, k](ps: S[n][k]) -> S[n] = tot(ps)
""",
        "f",
        {"a": np.arange(6.0).reshape(3, 2)},
        expect=[np.arange(6.0).reshape(3, 2).sum(0)],
    ),
    Case(
        "*s scalars",
        """
def g[*s](x: f64[*s], k: f64[*s]) -> f64[*s] = x * k
def f[n](x: f64[n], y: f64) -> (f64[n], f64) = g(x, x), g(y, y)
""",
        "f",
        x,
        2.0,
        expect=[x * x, 4.0],
    ),
    Case(
        "T and size",
        """
def g[n, T: number](x: T[n]) -> T = sum(x) / T(1) if False else x[0]
def f[n](x: i32[n]) -> i32 = g(x)
""",
        "f",
        np.array([3, 4], np.int32),
        expect=3,
    ),
    Case(
        "nested def in loop w/ default",
        """
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for i in range(n):
        def g(v: f64, k: f64 = x[i]) -> f64 = v * k
        s += g(2.0)
    return s
""",
        "f",
        x,
        expect=20.0,
    ),
    Case(
        "fn under const if",
        """
use_tanh = False
def act(x: f64) -> f64 = x * x
def f[n](x: f64[n]) -> f64[n]:
    if use_tanh:
        a = tanh
    elif 1 < 2:
        a = act
    else:
        a = relu
    return vmap(a)(x)
""",
        "f",
        x,
        expect=x * x,
    ),
    Case(
        "tuple of functions",
        """
def f(x: f64) -> f64:
    for g in (sin, cos, lambda v: v * 2):
        x = g(x)
    return x
""",
        "f",
        1.0,
        expect=2 * np.cos(np.sin(1)),
    ),
    Case(
        "fn in a tuple result",
        """
def pair(a: f64) -> (fn(f64) -> f64, fn(f64) -> f64) = (lambda v: v + a, lambda v: v * a)
def f(x: f64) -> f64:
    g, h = pair(3.0)
    return g(h(x))
""",
        "f",
        2.0,
        expect=9.0,
    ),
    Case(
        "assert value eq does not confuse",
        """
def f[n](x: f64[n], k: i32) -> f64:
    assert k == n
    return sum(x)
""",
        "f",
        x,
        4,
        expect=10.0,
    ),
    Case(
        "size square",
        """
def f(n: size) -> f64[n ** 2] = zeros(n * n)
""",
        "f",
        2,
        expect=np.zeros(4),
    ),
    Case(
        "mod dim",
        """
def f[n](x: f64[n]) -> f64[n % 3] = x[: n % 3]
""",
        "f",
        x,
        expect=x[:1],
    ),
    Case(
        "type alias generic",
        """
type M[n, m] = f64[n, m]
def f[a](x: M[a, 2 * a]) -> M[2 * a, a] = x.T
""",
        "f",
        np.arange(8.0).reshape(2, 4),
        expect=np.arange(8.0).reshape(2, 4).T,
    ),
    Case(
        "chained fields",
        """
record A:
    b: f64[2]
record B:
    a: A[3]
def f(x: B) -> f64:
    x.a[1].b[0] = 5.0
    x.a[2].b *= 2.0
    return sum(x.a.b)
""",
        "f",
        {"a": {"b": np.ones((3, 2))}},
        expect=6 + 4 + 2.0,
    ),
    Case(
        "swap places computed",
        """
def f[n](x: f64[n], i: i64, j: i64) -> f64[n]:
    x[i], x[j] = x[j], x[i]
    return x
""",
        "f",
        x,
        0,
        3,
        expect=np.array([4.0, 2, 3, 1]),
    ),
    Case(
        "else returned loops",
        """
def f(x: f64, n: i32) -> f64:
    if n > 3:
        for i in range(n):
            x += 1
        return x
    return -x
""",
        "f",
        1.0,
        5,
        expect=6.0,
    ),
    Case(
        "matmul chain shapes",
        """
def f[n](a: f64[n, n], x: f64[n]) -> f64 = x @ a @ x
""",
        "f",
        np.eye(4),
        x,
        expect=30.0,
    ),
    Case(
        "len tuple",
        """
def f(p: (f64, f64, f64)) -> i64 = len(p)
""",
        "f",
        (1.0, 2.0, 3.0),
        expect=3,
    ),
    Case(
        "for over shape",
        """
def f[*s](x: f64[*s]) -> i64:
    t = 1
    for d in s:
        t = t * d
    return t
""",
        "f",
        np.ones((2, 3)),
        expect=6,
    ),
    Case(
        "enumerate string",
        """
def f[n](x: f64[n]) -> f64:
    best = 0
    for i, v in enumerate(x):
        if v > x[best]:
            best = i
    return x[best]
""",
        "f",
        x,
        expect=4.0,
    ),
)
def test_programs(case: Case):
    case.run()


@cases(
    Refused(
        "guard in definition",
        """
def f[n](x: f64[n]) -> f64[n]:
    z[i] = x[i] for i if x[i] > 0
    return z
""",
        "f",
        x,
        says="a guard would leave holes in the definition",
    ),
    Refused(
        "stencil inferred refused",
        """
def f[n](a: f64[n]) -> f64[n]:
    z[i] = a[i - 1] if i > 0 else 0.0
    return z
""",
        "f",
        x,
        says="`i` would not start at 0",
    ),
    Refused(
        "disagree",
        """
def f[n, m](a: f64[n], b: f64[m]) -> f64 = sum(a[i] * b[i] for i)
""",
        "f",
        x,
        y,
        says="`i` reads axes of lengths n and m",
    ),
    Refused(
        "integer pow sizes",
        """
def f[n](x: f64[n ** 2]) -> f64[n, n] = reshape(x, n, n)
""",
        "f",
        x,
        says="the size `n` of f cannot be found from its arguments",
    ),
    Refused(
        "strings",
        """
def f(x: f64) -> f64 = "a"
""",
        "f",
        1.0,
        says="f64 is wanted here",
    ),
    Refused(
        "effect",
        """
def f(x: f64) -> f64:
    sin(x)
    return x
""",
        "f",
        1.0,
        says="this computes a value that nobody uses",
    ),
    Refused(
        "checks in vmap",
        """
def g(v: f64) -> f64:
    assert v > 0, "positive"
    return log(v)
def f[n](x: f64[n]) -> f64[n] = vmap(g)(x)
""",
        "f",
        -x,
        says="positive",
    ),
    Refused(
        "precision",
        """
def f[n](x: f64[n]) -> f64 = sum(x ** 2 for x in x)
""",
        "f",
        x,
        says="the index `x` hides a name",
    ),
    Refused(
        "record == refused",
        """
record P:
    a: f64
def f(p: P) -> bool = p == p
""",
        "f",
        {"a": 1.0},
        says="a number is wanted here",
    ),
    Refused(
        "count loop collects refused",
        """
def f(n: i32) -> f64:
    for t in range(n):
        y[t] = 1.0
    return sum(y)
""",
        "f",
        3,
        says="`y` cannot be collected",
    ),
)
def test_programs_refused(case: Refused):
    case.run()
