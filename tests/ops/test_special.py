"""Special functions against values to forty digits: compiled code in units in the last place, the interpreter beside
it. The elementary functions are measured with the kernels."""

from decimal import Decimal

import exact_special as exact
import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.op import OPS

DTYPES = {"f64": np.float64, "f32": np.float32}
RANDOM = np.random.default_rng(0)
POSITIVE = np.concatenate(
    [
        RANDOM.uniform(0.001, 3, 300),
        RANDOM.uniform(3, 30, 200),
        np.exp(RANDOM.uniform(-60, 0, 60)),
        np.exp(RANDOM.uniform(3, 60, 60)),
    ]
)
NEAR_ZEROS = np.concatenate([1 + RANDOM.normal(size=60) * 1e-4, 2 + RANDOM.normal(size=60) * 1e-4])
NEAR_ROOT = 1.4616321449683623 + RANDOM.normal(size=60) * 10.0 ** RANDOM.uniform(-8, -1, 60)
NEGATIVE = -RANDOM.integers(0, 20, 300) - RANDOM.uniform(0.05, 0.95, 300)
AROUND_ZERO = np.concatenate([RANDOM.uniform(-6, 6, 300), RANDOM.normal(size=100) * 1e-3])

# Name, points, exact value, bounds in units in the last place for f64 and f32.
MEASURED = [
    ("lgamma", POSITIVE, exact.lgamma, 3, 4),
    ("lgamma", NEAR_ZEROS, exact.lgamma, 3, 4),
    ("digamma", POSITIVE, lambda x: exact.polygamma(0, x), 8, 1),
    ("digamma", NEAR_ROOT, lambda x: exact.polygamma(0, x), 8, 1),
    ("trigamma", POSITIVE[:500], lambda x: exact.polygamma(1, x), 4, 5),
    ("tetragamma", POSITIVE[:500], lambda x: exact.polygamma(2, x), 6, 7),
    ("erf", AROUND_ZERO, exact.erf, 2, 2),
]
PROGRAM = "".join(
    f"""
def lgamma_{t}[n](x: {t}[n]) -> {t}[n] = lgamma(x)
def digamma_{t}[n](x: {t}[n]) -> {t}[n] = digamma(x)
def erf_{t}[n](x: {t}[n]) -> {t}[n] = erf(x)
def trigamma_{t}[n](x: {t}[n]) -> {t}[n] = vmap(grad(digamma))(x)
def tetragamma_{t}[n](x: {t}[n]) -> {t}[n] = vmap(grad(grad(digamma)))(x)
"""
    for t in DTYPES
)


@pytest.fixture(scope="module")
def compiled():
    return dg.parse(PROGRAM)


def errors(found, wanted):
    """Distances in units in the last place."""
    units = np.spacing(np.abs(np.array([float(value) for value in wanted], found.dtype))).astype(float)
    away = [float(abs(Decimal(float(one)) - value)) for one, value in zip(found, wanted, strict=True)]
    return np.array(away) / units


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "points", "reference", "double", "single"), MEASURED, ids=[f"{m[0]} {len(m[1])}" for m in MEASURED]
)
def test_accuracy(compiled, name, points, reference, double, single, dtype):
    x = points.astype(DTYPES[dtype])
    found = getattr(compiled, f"{name}_{dtype}")(x)
    wanted = [reference(value) for value in x]
    distance = errors(found, wanted)
    worst = int(distance.argmax())
    assert distance[worst] <= (double if dtype == "f64" else single), (x[worst], found[worst], wanted[worst])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("lgamma", exact.lgamma),
        ("digamma", lambda x: exact.polygamma(0, x)),
        ("trigamma", lambda x: exact.polygamma(1, x)),
    ],
)
def test_accuracy_below_zero(compiled, name, reference, dtype):
    """Relative to the size of what is added up: a zero lies between each two poles."""
    x = NEGATIVE.astype(DTYPES[dtype])
    wanted = np.array([float(reference(value)) for value in x])
    limit = 8 * np.finfo(x.dtype).eps * (1 + np.abs(wanted))
    assert (np.abs(getattr(compiled, f"{name}_{dtype}")(x) - wanted) <= limit).all()


@pytest.mark.parametrize(
    ("name", "facts", "points", "reference"),
    [
        ("lgamma", {}, np.concatenate([POSITIVE, NEGATIVE]), exact.lgamma),
        ("digamma", {}, np.concatenate([POSITIVE, NEGATIVE]), lambda x: exact.polygamma(0, x)),
        ("polygamma", {"order": 1}, np.concatenate([POSITIVE, NEGATIVE]), lambda x: exact.polygamma(1, x)),
        ("polygamma", {"order": 3}, POSITIVE[:500], lambda x: exact.polygamma(3, x)),
        ("erf", {}, AROUND_ZERO, exact.erf),
    ],
)
def test_the_interpreter_agrees(name, facts, points, reference):
    found = OPS[name](**facts).evaluate(lambda _: 0, points)
    wanted = np.array([float(reference(value)) for value in points])
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["lgamma", "digamma", "trigamma", "tetragamma", "erf"])
def test_special_values(compiled, name):
    found = getattr(compiled, f"{name}_f64")(np.array([np.inf, np.nan, 0.0]))
    ends = {
        "lgamma": (np.inf, np.inf),
        "digamma": (np.inf, -np.inf),
        "trigamma": (0.0, np.inf),
        "tetragamma": (0.0, -np.inf),
        "erf": (1.0, 0.0),
    }
    np.testing.assert_array_equal(
        np.abs(found) if name == "tetragamma" else found,
        [ends[name][0], np.nan, abs(ends[name][1]) if name == "tetragamma" else ends[name][1]],
    )


def test_no_loop_is_left():
    """Special functions of arrays are straight code: neither a loop nor a branch per entry."""
    from dgraph.ir.build import Builder
    from dgraph.sizes import variable
    from dgraph.types import F64, Array

    def names(region):
        for node in region.nodes:
            yield node.op.name
            for inner in node.regions:
                yield from names(inner)

    for op in (OPS["digamma"](), OPS["lgamma"](), OPS["erf"](), OPS["polygamma"](order=2)):
        g = Builder()
        region = g.close(op.expand(g, [g.input(Array(F64, (variable("n"),)))]))
        assert not {"while", "for", "if"} & set(names(region))
