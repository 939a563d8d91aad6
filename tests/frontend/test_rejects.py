"""Programs that are refused: the title, the words at the first place, and what the note advises."""

import pytest
from frontend_run import faults

REJECTS = [
    # names
    ("def f(x: f64) -> f64 = sum1(x)", "`sum1` is not defined", "", "did you mean `sum`?"),
    ("def f(x: f64) -> f64 = f(x - 1)", "`f` calls itself", "through this call", "use `for` or `while`"),
    ("def f(x: Foo) -> f64 = 1.0", "`Foo` is not defined", "", ""),
    ("def f(x: f64[q]) -> f64 = 1.0", "`q` is not a size here", "", "[q]"),
    ("def f(a: f64, a: f64) -> f64 = a", "`a` is declared twice", "", ""),
    ("record A:\n    x: f64\n    x: f64\n", "`x` is declared twice", "", ""),
    ("record A:\n    x: f64\ndef f(a: A) -> f64 = a.y", "the record `A` has no field `y`", "", ""),
    ("record A:\n    a: A\n", "the type `A` contains itself", "", ""),
    ("x = y\ny = x\n", "the constant `x` needs itself", "", ""),
    ("param w: f64 = 0.0\ndef f(w: f64) -> f64 = w", "the formal `w` hides a param", "", "rename the formal"),
    ("param w: f64 = 0.0\ndef f() -> f64:\n    w = 1.0\n    return w", "`w` is a param", "", ""),
    ("param w: f64[3]\n", "`w` has no initial value", "", "give it a default"),
    # dtypes
    ("def f[n](x: f32[n], y: f64[n]) -> f32[n] = x + y", "f32 and f64 do not mix", "f64[n]", "cast one of them"),
    ("def f(x: f64) -> i32 = x", "i32 is wanted here", "f64", ""),
    ("def f(x: bool) -> f64 = x + 1", "a bool is not a number", "this is a bool", "1.0 if c else 0.0"),
    ("def f(k: key) -> f64 = k + 1", "a key is not a number", "", "normal(key)"),
    ("def f() -> i32 = 3000000000", "3000000000 does not fit in i32", "", ""),
    ("def f(x: f64) -> f64:\n    assert x\n    return x", "a condition is one bool", "this is f64", "compare it"),
    # shapes
    (
        "def f[n, m](x: f64[n], y: f64[m]) -> f64[n] = x + y",
        "the shapes [n] and [m] do not fit",
        "shape [m]",
        "literal 1",
    ),
    ("def f[n](x: f64[n]) -> f64[n + 1] = x", "f64[n + 1] is wanted here", "f64[n]", "not the same size"),
    ("def f[n](x: f64[n, 3]) -> f64[n] = x @ x", "`@` sums over axes of lengths 3 and n", "", "last axis"),
    ("def f(x: f64[3]) -> f64 = x[3]", "this index is out of range", "entry 3 of an axis of length 3", ""),
    ("def f[n](x: f64[n]) -> f64 = x[-1, 0]", "2 subscripts for 1 axis", "the shape is [n]", ""),
    ("def f[n](x: f64[n]) -> f64[3] = x[0:3:0]", "the step of a slice is a literal that is not 0", "", ""),
    (
        "def f[n](x: f64[n], k: i32) -> f64[n] = x[k:]",
        "the length of this slice is not a size",
        "it is",
        "index formula",
    ),
    ("def f[n](x: f64[n], m: bool[n]) -> f64[n] = x[m]", "a mask is not a subscript", "bool[n]", "where"),
    ("def f[n](x: f64[n]) -> f64[n, 2] = reshape(x, (n, 2))", "[n] does not have as many entries as [n, 2]", "", ""),
    ("def f[n](x: f64[n]) -> f64:\n    x[0] = [1.0, 2.0]\n    return x[0]", "one number is wanted here", "", ""),
    (
        "def f() -> f64:\n    w = zeros()\n    return w + 1",
        "`zeros` has no shape here",
        "takes the type it meets",
        "typed",
    ),
    ("def f[n](x: f64[2 * n]) -> f64[n]:\n    a, b, c = split(x, 2)\n    return a", "3 names for 2 values", "", ""),
    (
        "def f[n](x: f64[n]) -> f64[n] = concat(x, [[1.0]])",
        "the shapes [n] and [1, 1] do not join along axis 0",
        "",
        "",
    ),
    ("def f[n](x: f64[n]) -> f64 = x[1 - 2]", "this index is out of range", "entry -1", ""),
    (
        "def f[n](x: f64[n, n], p: i32[3]) -> f64[3] = x[p, p]",
        "two arrays of indices in one subscript",
        "",
        "entries meet",
    ),
    # indices
    (
        "def f[n](x: f64[n]) -> f64[n]:\n    z[i] = x[i - 1]\n    return z",
        "`i` would not start at 0",
        "entry -1",
        "guard",
    ),
    ("def f[n](x: f64[n]) -> f64 = sum(x[i] for n)", "the index `n` hides a name", "fresh", ""),
    ("def f[n](x: f64[n]) -> f64 = sum(1.0 for i)", "the range of `i` cannot be found", "no subscript", "range(...)"),
    ("def f[n, m](x: f64[n], y: f64[m]) -> f64 = sum(x[i] * y[i] for i)", "`i` reads axes of lengths n and m", "", ""),
    (
        "def f[n](x: f64[n]) -> f64[n]:\n    z[i] = x[i] for i if x[i] > 0\n    return z",
        "holes in the definition",
        "",
        "",
    ),
    ("def f(x: f64) -> f64:\n    y[0] = x\n    return x", "`y` is not bound", "only a bound array", "bind it first"),
    # loops and branches
    (
        "def f[n](x: f64[n]) -> f64:\n    h: f64[3] = zeros()\n    for i in range(n):\n        h = concat(h, [x[i]])\n"
        "    return sum(h)",
        "`h` changes type inside the loop",
        "f64[4] at the end of the body",
        "collect with",
    ),
    (
        "def f[n](x: f64[n]) -> f64:\n    for i in range(n):\n        y = x[i]\n    return y",
        "`y` is not visible here",
        "",
        "bind it before",
    ),
    (
        "def f(x: f64) -> f64:\n    if x > 0:\n        y = x\n    return y",
        "`y` is not visible here",
        "",
        "every branch",
    ),
    (
        "def f(x: f64) -> f64:\n    if x > 0:\n        x = 1.0\n    else:\n        x = [x, x]\n    return x",
        "`x` has different types",
        "f64[2]",
        "one type",
    ),
    (
        "def f(n: size) -> f64:\n    for t in range(n):\n        if t > 1:\n            ys[t] = 1.0\n    return 0.0",
        "`ys` cannot be collected under `if`",
        "",
        "every step",
    ),
    (
        "def f[n](x: f64[n]) -> f64:\n    for t in range(1, n):\n        ys[t] = x[t]\n    return sum(ys)",
        "`ys` cannot be collected in a range that does not count up from 0",
        "",
        "entry",
    ),
    (
        "def f(s: i32) -> f64:\n    for t in range(s):\n        ys[t] = 1.0\n    return sum(ys)",
        "cannot be collected",
        "not a size",
        "",
    ),
    (
        "def f[n](x: f64[n]) -> f64:\n    for i in range(n):\n        return x[i]\n    return 0.0",
        "inside a loop",
        "",
        "carry",
    ),
    ("def f(x: f64) -> f64:\n    return x\n    y = x", "nothing runs after `return`", "never reached", ""),
    ("def f(x: f64) -> f64:\n    y = x", "this function returns nothing", "ends here", "end every branch"),
    ("def f(x: f64) -> f64:\n    while True:\n        y = x\n    return x", "this loop never ends", "", ""),
    (
        "def f(x: f64) -> f64:\n    g = lambda z: z\n    for i in range(3):\n        g = lambda z: z\n    return g(x)",
        "`g` is a function and changes in a loop",
        "",
        "",
    ),
    # calls and transforms
    ("def f(x: f64) -> f64 = g(x, 1.0)\ndef g(y: f64) -> f64 = y", "`g` takes 1 argument, not 2", "one too many", ""),
    ("def f(x: f64) -> f64 = g()\ndef g(y: f64) -> f64 = y", "`g` needs an argument `y`", "", ""),
    ("def f(x: f64) -> f64 = g(z=x)\ndef g(y: f64) -> f64 = y", "`g` has no formal `z`", "", ""),
    ("def f(x: f64) -> f64 = x(1)", "this is called but is not a function", "f64", ""),
    ("def f(x: f64) -> f64 = grad(g, wrt=z)(x)\ndef g(y: f64) -> f64 = y", "`g` has no formal `z`", "", ""),
    (
        "def f(x: f64[3]) -> f64[3] = grad(g)(x)\ndef g(y: f64[3]) -> f64[3] = y",
        "scalar float result",
        "it gives f64[3]",
        "",
    ),
    ("def f(x: i32) -> i32 = grad(g, wrt=y)(x)\ndef g(y: i32) -> f64 = 1.0 * y", "holds no floats", "`y` is i32", ""),
    (
        "param w: f64 = 0.0\ndef f(x: f64) -> f64 = g(x, w=2.0)\ndef g(x: f64) -> f64 = x",
        "`g` does not read the param `w`",
        "",
        "",
    ),
    # annotations
    ("@foo\ndef f(x: f64) -> f64 = x", "there is no annotation `@foo`", "", ""),
    ("@bound(3)\ndef f(x: f64) -> f64 = x", "`@bound` does not belong on a function", "", ""),
    ("@entry\n@entry\ndef f(x: f64) -> f64 = x", "`@entry` stands here twice", "", ""),
    (
        "def f(x: f64) -> f64:\n    @unroll(4)\n    for i in range(3):\n        x += 1\n    return x",
        "`@unroll` is not supported",
        "",
        "",
    ),
    (
        "def f(x: f64) -> f64:\n    @checkpoint(evry=4)\n    for i in range(3):\n        x += 1\n    return x",
        "`@checkpoint` has no option `evry`",
        "",
        "did you mean `every`?",
    ),
    # arithmetic on literals
    ("def f(x: f64) -> f64 = 9 ** 99999", "this power does not fit in 64 bits", "", ""),
    ("def f(x: f64) -> f64 = 1 // 0 + x", "division by zero", "", ""),
]


@pytest.mark.parametrize(("text", "title", "words", "note"), REJECTS, ids=[row[1] for row in REJECTS])
def test_is_refused(text, title, words, note):
    found = faults(text)
    assert found, "this program should be refused"
    assert any(title in fault.title for fault in found), [fault.title for fault in found]
    fault = next(fault for fault in found if title in fault.title)
    assert fault.labels and fault.labels[0].span.source.path == "test.dg"
    assert words in fault.labels[0].words
    assert note in fault.note


def test_independent_faults_are_reported_together_in_order():
    found = faults("def f(x: f64) -> f64 = a\ndef g(x: f64) -> f64 = b\ndef h(x: f64) -> f64 = 1.0\n")
    assert [fault.title for fault in found] == ["`a` is not defined", "`b` is not defined"]


def test_at_most_ten_faults():
    assert len(faults("".join(f"def f{i}(x: f64) -> f64 = a{i}\n" for i in range(30)))) == 10


def test_a_mismatch_shows_the_declaration():
    (fault,) = faults("def g(y: f32) -> f32 = y\ndef f(x: f64) -> f32 = g(x)\n")
    assert [label.span.text for label in fault.labels] == ["x", "f32"]
    assert [label.span.line for label in fault.labels] == [2, 1]
