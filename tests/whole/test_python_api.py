"""The Python API on real scripts."""

import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import dgraph as dg

PROGRAMS = Path(__file__).parents[1] / "programs"

LINE = dg.parse(
    dedent("""
    record Line:
        slope: f64 = 2.0
        offset: f64 = 1.0

    param line: Line

    def loss[n](x: f64[n], y: f64[n]) -> f64:
        r[i] = line.slope * x[i] + line.offset - y[i]
        return mean(r[i] ** 2 for i)

    def cubic(x: f64, y: f64) -> f64 = x ** 3 * y + sin(y)

    def rosenbrock[n](x: f64[n]) -> f64:
        return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i)

    def grow(x: f64, steps: size) -> f64[steps]:
        y = x
        for t in range(steps):
            y = 1.5 * y
            ys[t] = y
        return ys

    def guarded(x: f64) -> f64:
        assert x > 0, "x must be positive"
        return sqrt(x)
    """)
)
X = np.array([0.0, 1.0, 2.0])
Y = np.array([1.0, 2.0, 4.0])


def test_params_default_to_the_values_of_the_program():
    assert LINE.loss(X, Y) == pytest.approx(np.mean((2 * X + 1 - Y) ** 2))
    assert LINE.loss(X, Y, line={"slope": 1.0, "offset": 1.0}) == pytest.approx(np.mean((X + 1 - Y) ** 2))


def test_value_and_gradient_with_respect_to_a_param():
    value, slope = dg.value_and_grad(LINE.loss, wrt="line")(X, Y)
    residual = 2 * X + 1 - Y
    assert value == pytest.approx(np.mean(residual**2))
    assert slope.slope == pytest.approx(np.mean(2 * residual * X))
    assert slope["offset"] == pytest.approx(np.mean(2 * residual))
    moved = LINE.loss(X, Y, line=slope)
    assert np.isfinite(moved)


def test_a_param_is_the_last_choice_for_what_is_differentiated():
    program = dg.parse(
        "record P:\n    a: f64 = 2.0\n\nparam p: P\n\n"
        "def f[n](k: i32[n]) -> f64 = sum(p.a ** 2 * k[i] for i)\n"
        "def g(x: f64) -> f64 = p.a * x\n"
    )
    assert dg.grad(program.f)(np.array([1, 2], "i4")).a == pytest.approx(12.0)
    assert dg.grad(program.g)(5.0) == pytest.approx(2.0)


def test_transforms_compose():
    x, y = 1.3, 0.7
    assert dg.grad(LINE.cubic)(x, y) == pytest.approx(3 * x**2 * y)
    assert dg.grad(dg.grad(LINE.cubic))(x, y) == pytest.approx(6 * x * y)
    assert dg.grad(dg.grad(dg.grad(LINE.cubic)))(x, y) == pytest.approx(6 * y)
    both = dg.grad(LINE.cubic, wrt=("x", "y"))(x, y)
    assert both == pytest.approx((3 * x**2 * y, x**3 + np.cos(y)))
    value, tangent = dg.jvp(LINE.cubic)(x, y, 2.0)
    assert (value, tangent) == pytest.approx((x**3 * y + np.sin(y), 6 * x**2 * y))
    assert dg.vjp(LINE.cubic)(x, y, 2.0) == pytest.approx(6 * x**2 * y)
    mixed = dg.grad(dg.grad(LINE.cubic), wrt="y")(x, y)
    assert mixed == pytest.approx(3 * x**2)


def rosenbrock_hessian(x: np.ndarray) -> np.ndarray:
    n = len(x)
    h = np.zeros((n, n))
    for i in range(n - 1):
        h[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        h[i, i + 1] = h[i + 1, i] = -400 * x[i]
        h[i + 1, i + 1] += 200
    return h


@pytest.mark.parametrize("n", [2, 5])
def test_second_derivatives(n: int):
    x = np.linspace(-1, 1, n)
    v = np.arange(1.0, n + 1)
    expected = rosenbrock_hessian(x)
    np.testing.assert_allclose(dg.hessian(LINE.rosenbrock)(x), expected, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(dg.hvp(LINE.rosenbrock)(x, v), expected @ v, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(dg.jacobian(dg.grad(LINE.rosenbrock))(x), expected, rtol=1e-12, atol=1e-9)


def test_vmap():
    many = dg.vmap(LINE.cubic, over="x")(X, 2.0)
    np.testing.assert_allclose(many, X**3 * 2 + np.sin(2.0))
    slopes = dg.vmap(dg.grad(LINE.cubic), over=("x", "y"))(X, Y)
    np.testing.assert_allclose(slopes, 3 * X**2 * Y)


def test_sizes_are_given_by_the_host():
    np.testing.assert_allclose(LINE.grow(1.0, 3), [1.5, 2.25, 3.375])
    np.testing.assert_allclose(LINE.grow(2.0, steps=1), [3.0])
    assert LINE.grow(2.0, 0).shape == (0,)


def test_one_compilation_serves_all_sizes():
    compiled = dg.compile(LINE.loss)
    for n in (1, 2, 17):
        x = np.linspace(0, 1, n)
        assert compiled(x, x) == pytest.approx(np.mean((x + 1) ** 2))


def test_bound_calls_read_the_arrays_as_they_are():
    x = X.copy()
    run = dg.compile(LINE.loss).bind(x, Y)
    first = float(run())
    x += 1
    assert float(run()) != first
    assert float(run()) == pytest.approx(np.mean((2 * x + 1 - Y) ** 2))


def test_precision_promotes_all_floats():
    program = dg.parse("def f[n](x: f32[n]) -> f32 = sum(x)\n")
    exact = dg.compile(program.f, precision="f64")
    assert exact(np.array([1.0, 1e-12])) == 1.0 + 1e-12


def test_checks_say_what_failed():
    assert LINE.guarded(4.0) == 2.0
    with pytest.raises(dg.DgraphError, match="x must be positive"):
        LINE.guarded(-1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LINE.cubic(1.0), "misses"),
        (lambda: LINE.cubic(1.0, 2.0, 3.0), "takes 2"),
        (lambda: LINE.cubic(1.0, z=2.0), "no argument `z`"),
        (lambda: LINE.cubic(np.float32(1.0), 2.0), "astype"),
        (lambda: LINE.loss(X, Y[:2]), "length 2"),
        (lambda: LINE.loss(X[None], Y), "2 axes"),
        (lambda: LINE.loss(X, Y, line={"slope": 1.0}), "offset"),
        (lambda: LINE.loss(X, Y, line={"slope": 1.0, "ofset": 1.0}), "offset"),
        (lambda: LINE.grow(1.0, -1), "size"),
        (lambda: dg.grad(LINE.grow)(1.0, 3), "scalar"),
        (lambda: dg.grad(LINE.cubic, wrt="z")(1.0, 2.0), "z"),
        (lambda: dg.compile(LINE.cubic, device="tpu"), "device"),
    ],
)
def test_faults_are_diagnostics(call: Callable[[], object], words: str):
    with pytest.raises(dg.DgraphError) as caught:
        call()
    assert words in str(caught.value)


def test_unknown_functions_are_attribute_errors():
    with pytest.raises(AttributeError, match="cubics"):
        _ = LINE.cubics


def test_arrays_of_other_layouts_adapt():
    x = np.arange(12.0).reshape(3, 4)
    program = dg.parse("def f[n, m](x: f64[n, m]) -> f64[m] = [sum(x[i, j] for i) for j in range(m)]\n")
    for given in (x, np.asfortranarray(x), x[:, ::-1], x[::2], x.tolist()):
        np.testing.assert_allclose(program.f(given), np.sum(given, axis=0))


def test_calls_from_many_threads():
    compiled = dg.compile(dg.grad(LINE.rosenbrock))
    inputs = [np.linspace(-1, 1, 50 + k) for k in range(8)]
    expected = [compiled(x) for x in inputs]
    wrong = []

    def work(k: int) -> None:
        for _ in range(200):
            if not np.array_equal(compiled(inputs[k]), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_functions_draw_themselves(tmp_path: Path):
    LINE.cubic.draw(tmp_path / "cubic.svg")
    assert (tmp_path / "cubic.svg").read_text(encoding="utf-8").lstrip().startswith("<")
    assert "<svg" in LINE.cubic._repr_svg_()


def test_source_and_report_are_readable():
    compiled = dg.compile(LINE.rosenbrock)
    assert "def entry" in compiled.source
    assert compiled.report


def test_compiling_leaves_the_search_for_garbage_as_it_was() -> None:
    import gc

    text = "def f(x: f64) -> f64 = {} * x\n"
    for turn, on in enumerate((True, False)):
        (gc.enable if on else gc.disable)()
        try:
            assert dg.parse(text.format(turn + 2.0)).f(1.5) == (turn + 2.0) * 1.5
            assert gc.isenabled() == on
        finally:
            gc.enable()
