"""Binders, defaults, functions of functions, what they capture, and their derivatives."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "any shape",
        """
def g[*s](x: f64[*s], y: f64[*s]) -> f64[*s] = x * y
def f[n, m](x: f64[n], y: f64[n, m]) -> (f64[n], f64[n, m], f64) = g(x, x), g(y, y), g(2.0, 3.0)
""",
        "f",
        x,
        x[:, None],
        expect=[x * x, (x * x)[:, None], 6.0],
    ),
    Case(
        "any leading shape",
        """
def g[*s, n](x: f64[*s, n], w: f64[n]) -> f64[*s] = sum(x * w, axis=-1)
def f[a, b, n](x: f64[a, b, n], w: f64[n]) -> f64[a, b] = g(x, w)
""",
        "f",
        np.ones((2, 3, 4)),
        x,
        expect=np.full((2, 3), 10.0),
    ),
    Case(
        "n - 1",
        """
def g[n](x: f64[n - 1], y: f64[n]) -> f64[n] = concat(x, [0.0]) + y
def f[n](x: f64[n]) -> f64[n] = g(x[1:], x)
""",
        "f",
        x,
        expect=np.append(x[1:], 0) + x,
    ),
    Case(
        "2h",
        """
def g[h](x: f64[2 * h]) -> f64[h] = x[:h] + x[h:]
def f[n](x: f64[2 * n]) -> f64[n] = g(x)
""",
        "f",
        x,
        expect=x[:2] + x[2:],
    ),
    Case(
        "size default",
        """
def g[n](x: f64[n], stride: size = 2) -> f64[n // stride]:
    z[i] = x[i * stride] for i in range(n // stride)
    return z
def f[n](x: f64[n]) -> (f64[n // 2], f64[n]) = g(x), g(x, stride=1)
""",
        "f",
        x,
        expect=[x[::2], x],
    ),
    Case(
        "size default host",
        """
def g[n](x: f64[n], stride: size = 2) -> f64[n // stride]:
    z[i] = x[i * stride] for i in range(n // stride)
    return z
""",
        "g",
        x,
        expect=x[::2],
    ),
    Case(
        "size default host 2",
        """
def g[n](x: f64[n], stride: size = 2) -> f64[n // stride]:
    z[i] = x[i * stride] for i in range(n // stride)
    return z
""",
        "g",
        x,
        4,
        expect=x[:1],
    ),
    Case(
        "fn formals",
        """
def twice[*s](h: fn(f64[*s]) -> f64[*s], x: f64[*s]) -> f64[*s] = h(h(x))
def f[n](x: f64[n]) -> f64[n] = twice(sin, x) + twice(lambda v: v * 2, x)
""",
        "f",
        x,
        expect=np.sin(np.sin(x)) + 4 * x,
    ),
    Case(
        "generic callee as fn",
        """
def gen[*s, T: float](x: T[*s]) -> T[*s] = x * x
def ap[n](h: fn(f64[n]) -> f64[n], x: f64[n]) -> f64[n] = h(x)
def f[n](x: f64[n]) -> f64[n] = ap(gen, x)
""",
        "f",
        x,
        expect=x * x,
    ),
    Case(
        "lambda captures loop var",
        """
def ap(h: fn(f64) -> f64, x: f64) -> f64 = h(x)
def f(x: f64, s: size) -> f64:
    for t in range(s):
        x = ap(lambda v: v + t, x)
    return x
""",
        "f",
        1.0,
        4,
        expect=7.0,
    ),
    Case(
        "nested def default",
        """
def f(x: f64) -> f64:
    a = 3.0
    def g(v: f64, k: f64 = a) -> f64 = v * k
    a = 5.0
    return g(x) + g(x, 1.0) + g(x, k=a)
""",
        "f",
        1.0,
        expect=9.0,
    ),
    Case(
        "name to function const if",
        """
flag = True
def f(x: f64) -> f64:
    if flag:
        g = sin
    else:
        g = cos
    return g(x)
""",
        "f",
        1.0,
        expect=np.sin(1),
    ),
    Case(
        "choose const",
        """
flag = False
def f(x: f64) -> f64:
    g = sin if flag else cos
    return g(x)
""",
        "f",
        1.0,
        expect=np.cos(1),
    ),
    Case(
        "nested def under if",
        """
def f(x: f64, n: size) -> f64:
    if x > 0:
        def g(v: f64) -> f64 = v * 2
        y = g(x)
    else:
        y = 0.0
    return y
""",
        "f",
        1.0,
        2,
        expect=2.0,
    ),
    Case(
        "fn returning fn",
        """
def adder(a: f64) -> fn(f64) -> f64 = lambda v: v + a
def f(x: f64) -> f64 = adder(2.0)(x)
""",
        "f",
        1.0,
        expect=3.0,
    ),
    Case(
        "record var array",
        """
record A[n]:
    v: f64[n]
record B[P: record]:
    inner: P
    step: f64
def mk[P: record](p: P) -> B[P] = B(inner=p, step=1.0)
def f[n](a: A[n]) -> A[n]:
    b = mk(a)
    return b.inner * b.step
""",
        "f",
        {"v": x},
        expect=[x],
    ),
    Case(
        "literal to T",
        """
def g[T: float](x: T, y: T) -> T = x + y
def f(x: f32) -> f32 = g(x, 2.0) + g(1.0, x) + g(1, x)
""",
        "f",
        np.float32(1),
        expect=np.float32(3 + 2 + 2),
    ),
    Case(
        "T int",
        """
def g[T: int](x: T) -> T = x * 2
def f(x: u8, n: size) -> (u8, i64) = g(x), g(n)
""",
        "f",
        np.uint8(200),
        3,
        expect=[np.uint8(144), 6],
    ),
    Case(
        "T number",
        """
def g[T: number](x: T) -> T = x * 2
def f(x: f32, n: i32) -> (f32, i32) = g(x), g(n)
""",
        "f",
        np.float32(2),
        3,
        expect=[4.0, 6],
    ),
    Case(
        "jvp of generic",
        """
def g[*s](x: f64[*s]) -> f64[*s] = x * x * x
def f[n](x: f64[n]) -> (f64[n], f64[n]) = jvp(g)(x, x)
""",
        "f",
        x,
        expect=[x**3, 3 * x**3],
    ),
    Case(
        "grad of lambda",
        """
def f(x: f64) -> f64 = grad(lambda v: v * v * x)(x)
""",
        "f",
        3.0,
        expect=18.0,
    ),
    Case(
        "grad in loop capturing",
        """
def f(x: f64, s: size) -> f64:
    for t in range(s):
        x = x - 0.1 * grad(lambda v: (v - t) ** 2)(x)
    return x
""",
        "f",
        1.0,
        3,
        expect=0.8**3,
        wrt="x",
    ),
    Case(
        "nested def captures size",
        """
def f[n](x: f64[n]) -> f64:
    def g(v: f64[n]) -> f64[n] = v * n
    return sum(g(x))
""",
        "f",
        x,
        expect=40.0,
    ),
    Case(
        "nested generic",
        """
def f[n](x: f64[n]) -> f64:
    def g[m](v: f64[m]) -> f64 = sum(v) * m
    return g(x) + g(x[1:])
""",
        "f",
        x,
        expect=40.0 + 27,
    ),
    Case(
        "alias",
        """
type V[n] = f64[n]
type Pair[n] = (V[n], i32)
def g[n](p: Pair[n]) -> V[n] = p[0] * p[1]
def f[n](x: V[n]) -> V[n] = g((x, 3))
""",
        "f",
        x,
        expect=3 * x,
    ),
    Case(
        "fn alias",
        """
type F[n] = fn(f64, f64[n]) -> f64[n]
def e[n](h: F[n], y: f64[n]) -> f64[n] = y + h(1.0, y)
def f[n](y: f64[n]) -> f64[n] = e(lambda t, v: t * v, y)
""",
        "f",
        x,
        expect=2 * x,
    ),
    Case(
        "size as number",
        """
def f[n, m](x: f64[n, m]) -> f64 = sum(x) / (n * m) + n // 2 + n % 3
""",
        "f",
        np.ones((4, 2)),
        expect=1.0 + 2 + 1,
    ),
    Case(
        "shape splice prod",
        """
def f[*s](x: f64[*s]) -> f64[*s]:
    y: f64[*s] = ones()
    return x + y
""",
        "f",
        x,
        expect=x + 1,
    ),
    Case(
        "size expr i32",
        """
def f[n](x: f64[n], k: i32) -> i32 = n + k
""",
        "f",
        x,
        3,
        expect=7,
    ),
    Case(
        "unannotated default",
        """
def f(x: f64, k: f64 = 2 * 3.0) -> f64 = x * k
""",
        "f",
        2.0,
        expect=12.0,
    ),
    Case(
        "default const",
        """
rate = 0.5
def f(x: f64, k: f64 = rate) -> f64 = x * k
""",
        "f",
        2.0,
        expect=1.0,
    ),
    Case(
        "if const elif",
        """
def f(x: f64, mode: size = 1) -> f64:
    if mode == 0:
        return x
    elif mode == 1:
        return 2 * x
    return 3 * x
""",
        "f",
        2.0,
        expect=4.0,
    ),
    Case(
        "tuple formal",
        """
def f(p: (f64, f64)) -> f64 = p[0] * p[1]
""",
        "f",
        (2.0, 3.0),
        expect=6.0,
    ),
    Case(
        "fn with tuple result",
        """
def ap(h: fn(f64) -> (f64, f64), x: f64) -> f64:
    a, b = h(x)
    return a * b
def f(x: f64) -> f64 = ap(lambda v: (v, v + 1), x)
""",
        "f",
        2.0,
        expect=6.0,
    ),
)
def test_functions(case: Case):
    case.run()


@cases(
    Refused(
        "2h odd",
        """
def g[h](x: f64[2 * h]) -> f64[h] = x[:h] + x[h:]
""",
        "g",
        x[:3],
        says="`x` has an axis of length 3 where 2 * h is declared",
    ),
    Refused(
        "runtime fn",
        """
def f(x: f64) -> f64:
    if x > 0:
        g = sin
    else:
        g = cos
    return g(x)
""",
        "f",
        1.0,
        says="`g` is not visible here",
    ),
    Refused(
        "loop carry fn",
        """
def f(x: f64) -> f64:
    g = sin
    for i in range(3):
        g = cos
    return g(x)
""",
        "f",
        1.0,
        says="`g` is a function and changes in a loop",
    ),
    Refused(
        "dtype var mixes",
        """
def g[T: float](x: T, y: T) -> T = x + y
def f(x: f32, y: f64) -> f64 = g(x, y)
""",
        "f",
        np.float32(1),
        1.0,
        says="f32 is wanted here",
    ),
    Refused(
        "recursion",
        """
def f(x: f64) -> f64 = f(x)
""",
        "f",
        1.0,
        says="`f` calls itself",
    ),
    Refused(
        "mutual",
        """
def g(x: f64) -> f64 = f(x)
def f(x: f64) -> f64 = g(x)
""",
        "f",
        1.0,
        says="`g` calls itself",
    ),
    Refused(
        "n in two",
        """
def g[n](x: f64[n], y: f64[n]) -> f64 = dot(x, y)
def f[n, m](x: f64[n], y: f64[m]) -> f64 = g(x, y)
""",
        "f",
        x,
        y,
        says="f64[n] is wanted here",
    ),
)
def test_functions_refused(case: Refused):
    case.run()
