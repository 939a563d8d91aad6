"""Literals take the dtype of what they meet, also through loops, branches and lambdas."""

import numpy as np
import pytest
from frontend_run import run

from dgraph.errors import DgraphError
from dgraph.frontend import lower_function, parse_program
from dgraph.ir.graph import walk
from dgraph.types import F32, F64, Array


def dtypes(text: str) -> set[str]:
    """The float dtypes of all values in the graph of `f`."""
    graph = lower_function(parse_program(text), "f")
    values = [value for node in walk(graph.region) for value in node.results]
    found = {value.type.dtype for value in values if isinstance(value.type, Array)}
    return {dtype.name for dtype in found if dtype.is_float}


@pytest.mark.parametrize(
    "body",
    [
        "def f(x: f32) -> f32 = 2 * x + 1.5",
        "def f[n](x: f32[n]) -> f32:\n    total = 0.0\n    for i in range(n):\n        total += x[i]\n    return total",
        "def f(x: f32) -> f32:\n    if x > 0:\n        y = 1.0\n    else:\n        y = 2.0\n    return x * y",
        "def f(x: f32, k: i32) -> f32 = x * 0.5 ** k",
        "def f(x: f32) -> f32 = (lambda s: s * x)(0.5)",
        "rate = 0.1\n\ndef f(x: f32) -> f32 = x * (1 - rate)",
        "def f(x: f32) -> f32:\n    a = 1.0\n    while a < 3:\n        a = a + 1\n    return x * a",
        "def f(x: f32[3]) -> f32[3, 3]:\n    m = eye(3)\n    m[0] = x\n    return m",
        "def f(x: f32[3]) -> f32 = max(x[i] for i if i > 0)",
        "def f(x: f32[3]) -> f32 = mean(x > 0)",
        "def f(x: f32) -> f32 = x * sqrt(2.0) / 3",
        "def f(x: f32) -> f32 = [1, x, 2.5][0]",
    ],
)
def test_an_f32_program_has_no_f64(body):
    assert dtypes(body) == {"f32"}


def test_a_float_literal_alone_is_f64_and_an_integer_i32():
    graph = lower_function(parse_program("def f():\n    return 1.5, 2, True\n"), "f")
    assert str(graph.result) == "(f64, i32, bool)"


def test_one_literal_cannot_be_both():
    loop = "    a = 1.0\n    for i in range(3):\n        a = a + 1\n"
    text = f"def f(x: f32, y: f64) -> (f32, f64):\n{loop}    return a * x, a * y"
    with pytest.raises(Exception, match="this must be f32 in one use and f64 in another"):
        lower_function(parse_program(text), "f")


def test_a_carried_integer_literal_meets_an_index():
    loop = "    at = 0\n    for i in range(5):\n        if x[i] > x[at]:\n            at = i\n"
    text = f"def f(x: f64[5]) -> i64:\n{loop}    return at"
    assert run(text, "f", np.array([1.0, 5.0, 2.0, 7.0, 0.0])) == 3


def test_integers_meet_floats_and_divide_to_floats():
    text = "def f(k: i32, x: f32) -> f32 = k / 4 * x\n\ndef g[n](x: f64[n]) -> f64 = sum(x) / n\n"
    assert run(text, "f", 2, 3.0) == np.float32(1.5)
    assert run(text, "g", np.arange(4.0)) == 1.5


def test_integer_division_rounds_as_in_python():
    text = "def f(a: i32, b: i32) -> (i32, i32) = a // b, a % b\n"
    assert [int(part) for part in run(text, "f", -7, 2)] == [-4, 1]


def test_sizes_take_the_integer_type_they_meet():
    text = "def f[n](x: f64[n], k: i32) -> (i32, bool) = k * n + 1, k < n\n"
    first, second = run(text, "f", np.zeros(4), 5)
    assert first == 21 and first.dtype == np.int32 and not second


def test_promotion_of_all_floats():
    text = "def f(x: f32) -> f32 = x / 3\n"
    assert run(text, "f", 1.0, precision=F64) == 1 / 3
    assert str(lower_function(parse_program(text), "f", precision=F64).result) == "f64"
    assert str(lower_function(parse_program("def f(x: f64) -> f64 = x"), "f", precision=F32).result) == "f32"


def test_casts():
    text = "def f(x: f64, k: i32) -> (f32, i32, i64, f64) = f32(x), i32(floor(x)), i64(k), f64(k > 2)\n"
    results = run(text, "f", 2.75, 3)
    assert [str(part.dtype) for part in results] == ["float32", "int32", "int64", "float64"]
    assert [float(part) for part in results] == [2.75, 2.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("result", "lines", "wanted"),
    [
        ("i32", ["s += i"], np.int32(6)),
        ("i64", ["s += i"], np.int64(6)),
        ("i32", ["s = max(s, 2 * i)"], np.int32(6)),
        ("i32", ["if i < 2:", "    s = i"], np.int32(1)),
        ("i32", ["s += a * i"], np.int32(24)),
    ],
)
def test_a_loop_variable_takes_the_integer_type_that_a_carry_needs(result, lines, wanted):
    body = "".join(f"        {line}\n" for line in lines)
    found = run(
        f"def f(a: i32) -> {result}:\n    s = 0\n    for i in range(a):\n{body}    return s\n", "f", np.int32(4)
    )
    assert found == wanted
    assert found.dtype == wanted.dtype


def test_a_generic_shape_that_no_argument_decides_says_which_argument_lacks_an_axis():
    module = parse_program("def rows[*s, n](x: f64[*s, n]) -> f64[*s, n] = 2 * x")
    with pytest.raises(DgraphError, match="`rows` is generic in `s`, and `x` needs at least 1 axis") as caught:
        lower_function(module, "rows", types={"x": Array(F64, ())})
    (fault,) = caught.value.diagnostics
    assert fault.labels[0].span.text.startswith("x")
    assert fault.labels[0].words == "the argument has no axes"


@pytest.mark.parametrize("text", ["def f(x: f64, x: f64) -> f64 = x", "record P:\n    x: f64\n    x: f64\n"])
def test_a_name_stands_once_in_a_declaration(text):
    module = parse_program(text + "\ndef g(p: f64) -> f64 = p\ndef h(p: P) -> f64 = 1.0\n")
    with pytest.raises(DgraphError, match="`x` is declared twice"):
        lower_function(module, "f" if text.startswith("def") else "h")
