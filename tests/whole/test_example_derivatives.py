"""The examples with `@implicit` and `@derivative` against closed forms."""

from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.program.check import check_program

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_rule_of_log_cosh() -> None:
    program = dg.load(EXAMPLES / "custom_rule.dg")
    x = np.array([-1000.0, -0.3, 0.0, 2.0])
    assert program.loss(x) == pytest.approx(np.sum(np.logaddexp(x, -x) - np.log(2)), rel=1e-14)
    np.testing.assert_allclose(dg.grad(program.loss)(x), np.tanh(x), rtol=1e-14)
    by_rule, plain = program.curvature(x)
    np.testing.assert_allclose(by_rule, 1 - np.tanh(x) ** 2, rtol=1e-13, atol=1e-15)
    assert plain[2] == 0.0 and plain[3] == pytest.approx(by_rule[3], rel=1e-13)
    assert check_program(program, None, {}) == []


def test_newtons_method_with_and_without_its_steps() -> None:
    program = dg.load(EXAMPLES / "implicit.dg")
    for a in (0.5, 1.0, 5.0):
        assert program.cube_root(a) == pytest.approx(np.cbrt(a), rel=1e-14)
        assert dg.grad(program.cube_root)(a) == pytest.approx(a ** (-2 / 3) / 3, rel=1e-13)
        assert dg.grad(dg.grad(program.cube_root))(a) == pytest.approx(-2 / 9 * a ** (-5 / 3), rel=1e-12)
    assert dg.grad(program.cube_root_by_steps)(1.0) == 0.0
    assert dg.grad(program.cube_root_by_steps)(5.0) == pytest.approx(5 ** (-2 / 3) / 3, rel=1e-10)


def test_a_bisection_and_a_fit() -> None:
    program = dg.load(EXAMPLES / "implicit.dg")
    volume, radius = 1.1, 0.8
    h = program.tank_level(volume, radius)
    assert np.pi * h**2 * (3 * radius - h) / 3 == pytest.approx(volume, rel=1e-13)
    area = np.pi * h * (2 * radius - h)
    slopes = dg.grad(program.tank_level, wrt=("volume", "radius"))(volume, radius)
    assert slopes == pytest.approx((1 / area, -np.pi * h**2 / area), rel=1e-12)
    random = np.random.default_rng(1)
    x, y, far, seen = (random.normal(size=shape) for shape in ((9, 3), 9, (5, 3), 5))

    def error(weight: float) -> np.ndarray:
        return far @ np.linalg.solve(x.T @ x + weight * np.eye(3), x.T @ y) - seen

    matrix = x.T @ x + 0.7 * np.eye(3)
    moved = -np.linalg.solve(matrix, np.linalg.solve(matrix, x.T @ y))
    wanted = np.mean(2 * error(0.7) * (far @ moved))
    assert program.held_out(x, y, far, seen, 0.7) == pytest.approx(np.mean(error(0.7) ** 2), rel=1e-10)
    assert dg.grad(program.held_out, wrt="weight")(x, y, far, seen, 0.7) == pytest.approx(wanted, rel=1e-9)


def test_keplers_equation_and_the_layer() -> None:
    program = dg.load(EXAMPLES / "implicit.dg")
    m, e = 1.0, 0.6
    x = program.anomaly(m, e)
    assert x - e * np.sin(x) == pytest.approx(m, rel=1e-14)
    across = 1 - e * np.cos(x)
    assert dg.grad(program.anomaly, wrt=("m", "e"))(m, e) == pytest.approx((1 / across, np.sin(x) / across), rel=1e-13)
    random = np.random.default_rng(0)
    w, u = random.normal(size=(5, 5)) / 3, random.normal(size=5)
    x = program.equilibrium(w, u)
    np.testing.assert_allclose(x, 0.5 * np.tanh(w @ x + u), rtol=1e-13)
    slopes = np.diag(0.5 * (1 - np.tanh(w @ x + u) ** 2))
    wanted = np.linalg.solve(np.eye(5) - slopes @ w, slopes)
    for mode in ("forward", "reverse"):
        found = dg.jacobian(program.equilibrium, wrt="u", mode=mode)(w, u)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
