"""Habits of Python, NumPy and other languages: the message says what is written here instead."""

import pytest
from damage import found_in

from dgraph.frontend.context import BUILTINS
from dgraph.frontend.habits import MEMBERS, MODULES, NAMES
from dgraph.types import DTYPES

HEAD = "def f[n](x: f64[n], a: f64) -> f64:\n    "

HABITS = [
    # names
    ("y = np.exp(a)", "`exp(x)`"),
    ("y = torch.sum(x)", "`sum(x)`"),
    ("y = ln(a)", "`log`"),
    ("y = pow(a, 2)", "`x ** n`"),
    ("y = true", "`True`"),
    ("y = None", "`nan`"),
    ("y = null", "`nan`"),
    ("y = float(a)", "`f64`"),
    ("y = int(a)", "`i32`"),
    ("y = array([a, a])", "`[a, b]`"),
    ("y = list(x)", "`[a, b]`"),
    ("y = matmul(x, x)", "`a @ b`"),
    ("y = arctan(a)", "`atan`"),
    ("y = average(x)", "`mean`"),
    ("y = linspace(0, 1, 5)", "range(n)"),
    ("y = rand(3)", "normal(key)"),
    ("y = self.w", "formals"),
    ("y = mea(x)", "did you mean `mean`?"),
    ("y = relo(a)", "did you mean `relu`?"),
    ("y = map(exp, x)", "vmap"),
    # members
    ("y = x.shape[0]", "`len(x)`"),
    ("y = x.sum()", "`sum(x)`"),
    ("y = x.mean(axis=0)", "`mean(x)`"),
    ("y = x.astype(f32)", "`f32(x)`"),
    ("y = x.append(a)", "`concat(x, [v])`"),
    ("y = x.copy()", "leave it out"),
    ("y = x.reshape(n)", "`reshape(x)`"),
    ("y = x.size", "`len(x)`"),
    ("x.append(a)", "`concat(x, [v])`"),
    # operators and statements
    ("y = a ^ 2", "`**`"),
    ("y = !a", "`not`"),
    ("y = a && a", "`and`"),
    ("y = a & a", "`and`"),
    ("y = a || a", "`or`"),
    ("y = ~a", "`not`"),
    ("y := a", "`=`"),
    ("if (y := a) > 0:\n        a = y", "`=`"),
    ("a++", "`a += 1`"),
    ("a--", "`a -= 1`"),
    ("a **= 2", "`a = a ** ...`"),
    ("y = a => 1", "`>=`"),
    ("y = a; z = a", "end the line"),
    ("assert a > 0, 'positive'", '`"`'),
    ('assert a > 0, f"{a}"', "leave out the `f`"),
    ("print(a)", "return the value"),
    ("y = [v for v in x if v > 0]", "`[x[i] if x[i] > 0 else 0.0 for i]`"),
    ("y = x[x > 0]", "where"),
    ("y = a is None", "`==`"),
    ("y = a if a > 0", "`else`"),
    ("y = a ? 1 : 0", "`a if c else b`"),
    ("if a > 0:\n        a = 1.0\n    else if a < 0:\n        a = 2.0", "`elif`"),
    ("if a > 0 {\n        a = 1.0\n    }", "indent"),
    ("let y = a", "leave it out"),
    ("double y = a", "`y: f64 = ...`"),
    ("y = *x", "one by one"),
    ("y = {1: a}", "record"),
    ("y = lambda z: float: z", "`def`"),
    ("y = x[1..3]", "`:`"),
    ("y = 2a", "`2 * ...`"),
    ("y = 0x1F", "decimal"),
    ("del a", "leave this line out"),
    ("global a", "return the new value"),
    ("try:\n        y = a\n    except:\n        y = a", "assert"),
    ("yield a", "collects"),
    ("for i in 10:\n        a = a + i", "`range`"),
    ("for i, j in range(3):\n        a = a + i", "enumerate"),
]


@pytest.mark.parametrize(("line", "advice"), HABITS, ids=[line for line, _ in HABITS])
def test_a_habit_is_met_with_advice(line: str, advice: str) -> None:
    first = found_in(f"{HEAD}{line}\n    return a\n")[0]
    assert advice in f"{first.labels[0].words} {first.note}", first.render()


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("import numpy as np\n", "need no import"),
        ("from typing import List\n", "need no import"),
        ("import nn.layer as layers\n", "did you mean `nn.layers`?"),
        ("from optim import adams\n", "did you mean `adam`?"),
        ("def f(x: float) -> float = x\n", "`f64`"),
        ("def f(x: int) -> int = x\n", "`i32`"),
        ("def f(x: List[float]) -> f64 = 1.0\n", "`f64[n, m]`"),
        ("def f(x: np.array) -> f64 = 1.0\n", "no prefix"),
        ("def f(x: Tensor) -> f64 = 1.0\n", "`f64[n, m]`"),
        ("def f(x: float64) -> f64 = 1.0\n", "`f64`"),
        ("def f(x: f64) -> None = x\n", "every name has a value"),
        ("def f(x: f64 | None) -> f64 = 1.0\n", "has a default"),
        ("def f(x):\n    return x\n", "write a type"),
        ("function f(x: f64) -> f64 = x\n", "`def`"),
        ("def f(x: f64) => f64:\n    return x\n", "`->`"),
        ("class A:\n    x: f64\n", "`record`"),
        ("record A:\n    x: f64\ndef f(self, y: f64) -> f64 = y\n", "leave it out"),
        ("@jit\ndef f(x: f64) -> f64 = x\n", ""),
        ("@entri\ndef f(x: f64) -> f64 = x\n", "did you mean `@entry`?"),
        ("import math\ndef f(x: f64) -> f64 = math.sqrt(x)\n", "`sqrt(...)`"),
        ("def g(rate: f64) -> f64 = rate\ndef f(x: f64) -> f64 = g(rat=x)\n", "did you mean `rate`?"),
        ("record A:\n    weight: f64\ndef f(a: A) -> f64 = a.wieght\n", "did you mean `weight`?"),
    ],
)
def test_a_habit_of_declarations_is_met_with_advice(text: str, advice: str) -> None:
    first = found_in(text)[0]
    assert advice in f"{first.labels[0].words} {first.note}", first.render()


def test_true_and_false_are_written_as_in_python() -> None:
    assert found_in("def f(x: f64) -> bool = True and not False\n") == []


def test_no_habit_is_a_word_of_the_language() -> None:
    assert not set(NAMES) & {*BUILTINS, *DTYPES}
    assert len(NAMES) > 80 and len(MEMBERS) > 25 and "numpy" in MODULES
