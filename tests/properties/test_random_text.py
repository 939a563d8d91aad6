"""Random programs in the language: interpreted, compiled, differentiated forward, in reverse, twice and three times,
batched, and with loops that keep less."""

import random

import numpy as np
import pytest
from agreement import Agreement
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from program_statements import Writer

import dgraph as dg

COMMON = settings(
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


@st.composite
def programs(draw: st.DrawFn, budget: int, statements: int) -> str:
    """The text of a program."""
    writer = Writer(lambda below: draw(st.integers(0, below - 1)), budget=budget)
    return writer.program(statements)


def check(text: str, compiles: bool) -> None:
    agreement = Agreement(text, 0, compiles)
    agreement.first_order()
    agreement.second_order()
    agreement.batched()


def check_all(text: str) -> None:
    agreement = Agreement(text, 0, compiles=False)
    agreement.first_order()
    agreement.second_order()
    agreement.third_order()
    agreement.checkpointed()
    agreement.patterned()
    agreement.batched()


@settings(COMMON, max_examples=20, derandomize=True)
@given(programs(budget=15, statements=1))
def test_short_programs(text: str):
    check(text, compiles=False)


@settings(COMMON, max_examples=4, derandomize=True)
@given(programs(budget=12, statements=1))
def test_compiled_programs(text: str):
    check(text, compiles=True)


@pytest.mark.parametrize("seed", range(12))
def test_longer_programs(seed: int):
    check_all(Writer(random.Random(seed).randrange, budget=40).program(4))


def test_a_product_on_one_side_of_an_elementwise_choice():
    """Found by the programs above: `@` is no operation of entries."""
    program = dg.parse(
        "def f[n, m](d: f64[n], w: f64[n, m], y: f64[m]) -> f64[n] = d if d > 0 else 2 * tanh(w @ y) + d\n"
    )
    d, w, y = np.array([1.0, -0.5]), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([0.1, 0.0, -0.1])
    np.testing.assert_allclose(program.f(d, w, y), np.where(d > 0, d, 2 * np.tanh(w @ y) + d), rtol=1e-15)


@pytest.mark.nightly
@settings(COMMON, max_examples=400)
@given(programs(budget=40, statements=3))
def test_many_programs(text: str):
    check(text, compiles=False)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1000, 1500))
def test_many_long_programs(seed: int):
    check_all(Writer(random.Random(seed).randrange, budget=70).program(6))


@pytest.mark.nightly
@settings(COMMON, max_examples=60)
@given(programs(budget=30, statements=2))
def test_many_compiled_programs(text: str):
    check(text, compiles=True)
