"""How far compiled functions are from the exact values, in units in the last place.

    python benchmarks/accuracy.py            # measures all and writes docs/accuracy.md; some minutes
    python benchmarks/accuracy.py exp sin    # some of them, only printed
    python benchmarks/accuracy.py --quick    # few arguments, only printed

Arguments are spread over all bit patterns of the format, so that every size of number is there as often, with more of
them where a function turns. The wide reference is NumPy in a wider format; what it says of the worst arguments is
checked with mpmath, which is the only reference where no wider format has the function.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine, versions
from mpmath import mp
from scipy import special

import dgraph as dg

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
HEADING = "## Measured"
HEAD = ("| function | f32: largest error | at | f64: largest error | at |", "|---|---|---|---|---|")
LONG = np.longdouble
DTYPES = {"f32": np.float32, "f64": np.float64}
CHUNK = 1 << 20
SUSPECTS = 20

Array = np.ndarray[Any, Any]


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _lgamma(x: Array) -> Array:
    return np.where(x == -np.inf, np.inf, special.gammaln(x))


def _terms(x: Array) -> Array:
    """The size of the terms that cancel near the zeros of digamma below 0."""
    return np.where(x < 0, 1 + np.log1p(np.abs(x)), 0)


def _is_pole(x: Any) -> bool:
    return bool(x <= 0 and x == mp.floor(x))


@dataclass(frozen=True)
class Function:
    """A function: its wide reference (double only, where `is_double`), its exact one, the interval in which it turns.

    Also how it is written if not as `name(x)`, the pairs to measure it at, and a size below which its results do not
    count as smaller: that of the terms that cancel there.
    """

    wide: Callable[..., Array]
    exact: Callable[..., Any]
    turns: tuple[float, float] = (-20.0, 20.0)
    text: str = ""
    is_double: bool = False
    pairs: Callable[[Any, int], tuple[Array, Array]] | None = None
    least: Callable[..., Array] | None = None


def _powers(dtype: Any, count: int) -> tuple[Array, Array]:
    """Bases of every size with exponents that keep the power in range, or nearly; bases close to 1 too."""
    random = np.random.default_rng(1)
    largest = float(np.log(np.finfo(dtype).max))
    logs = np.where(random.random(count) < 0.5, 1.0, 2.0 ** random.uniform(-24, 0, count))
    x = np.exp(random.uniform(-1, 1, count) * largest * logs).astype(dtype)
    with np.errstate(all="ignore"):
        y = (random.uniform(-1.08, 1.08, count) * largest / np.log(x.astype(LONG))).astype(dtype)
    return x, y


def _points(dtype: Any, count: int) -> tuple[Array, Array]:
    """Points of every direction, most near an axis, of every size."""
    random = np.random.default_rng(2)
    largest = float(np.log(np.finfo(dtype).max))
    size = random.uniform(-1, 1, count) * largest
    ratio = np.where(random.random(count) < 0.5, random.normal(0, 1, count), random.uniform(-1, 1, count) * largest)
    y, x = (np.exp(np.clip(size + s * ratio, -1.02 * largest, 0.999 * largest)) for s in (1, 0))
    return tuple((side * random.choice([-1, 1], count)).astype(dtype) for side in (y, x))


FUNCTIONS = {
    "sqrt": Function(np.sqrt, mp.sqrt),
    "rsqrt": Function(lambda x: 1 / np.sqrt(x), lambda x: 1 / mp.sqrt(x)),
    "exp": Function(np.exp, mp.exp, (-750.0, 710.0)),
    "expm1": Function(np.expm1, mp.expm1, (-50.0, 50.0)),
    "log": Function(np.log, mp.log, (0.0, 4.0)),
    "log1p": Function(np.log1p, mp.log1p, (-1.0, 4.0)),
    "sin": Function(np.sin, mp.sin, (-100.0, 100.0)),
    "cos": Function(np.cos, mp.cos, (-100.0, 100.0)),
    "tan": Function(np.tan, mp.tan, (-100.0, 100.0)),
    "asin": Function(np.arcsin, mp.asin, (-1.0, 1.0)),
    "acos": Function(np.arccos, mp.acos, (-1.0, 1.0)),
    "atan": Function(np.arctan, mp.atan),
    "atan2": Function(np.arctan2, mp.atan2, text="atan2(x, y)", pairs=_points),
    "sinh": Function(np.sinh, mp.sinh, (-711.0, 711.0)),
    "cosh": Function(np.cosh, mp.cosh, (-711.0, 711.0)),
    "tanh": Function(np.tanh, mp.tanh),
    "sigmoid": Function(_sigmoid, lambda x: 1 / (1 + mp.exp(-x)), (-750.0, 50.0)),
    "softplus": Function(_softplus, lambda x: mp.log1p(mp.exp(x)), (-750.0, 50.0)),
    "pow": Function(np.power, mp.power, text="x ** y", pairs=_powers),
    "erf": Function(special.erf, mp.erf, (-6.0, 6.0), is_double=True),
    "lgamma": Function(
        _lgamma, lambda x: mp.inf if _is_pole(x) else mp.re(mp.loggamma(x)), (-20.0, 20.0), is_double=True
    ),
    "digamma": Function(
        special.psi, lambda x: mp.nan if _is_pole(x) else mp.digamma(x), (-3.0, 6.0), is_double=True, least=_terms
    ),
}


# ---- arguments -------------------------------------------------------------------------------------------------------


def arguments(function: Function, dtype: Any, count: int) -> Iterator[tuple[Array, ...]]:
    """About so many arguments, chunk by chunk."""
    if function.pairs is not None:
        yield function.pairs(dtype, count)
        return
    yield (hard(dtype),)
    low, high = function.turns
    yield (np.random.default_rng(0).uniform(low, high, count // 2).astype(dtype),)
    bits = 8 * np.dtype(dtype).itemsize
    stride = (1 << bits) // (count // 2) | 1
    for start in range(0, count // 2, CHUNK):
        places = np.arange(start, min(start + CHUNK, count // 2), dtype=np.uint64) * np.uint64(stride)
        yield (places.astype(f"u{bits // 8}").view(dtype),)


def hard(dtype: Any) -> Array:
    """The special values, and the numbers around those where functions vanish, are infinite or change their form."""
    kind = np.finfo(dtype)
    around = np.array([0.25, 0.5, 1.0, 2.0, 3.0, 0.45, 10.0, np.log(float(kind.max)), np.log(float(kind.tiny))], dtype)
    around = np.concatenate([around, np.arange(1, 2000, dtype=dtype) * dtype(np.pi / 2)])
    around = np.concatenate([around, dtype(np.pi / 2) * 2.0 ** np.arange(0, kind.maxexp - 1).astype(dtype)])
    steps = np.concatenate([around, np.nextafter(around, dtype(0)), np.nextafter(around, dtype(np.inf))])
    # The double that comes closest to a multiple of pi / 2, and the ends of the range.
    ends = [0.0, kind.smallest_subnormal, kind.tiny, kind.max, kind.eps, np.inf]
    ends += [6381956970095103.0 * 2.0**797] if dtype == np.float64 else []
    values = np.concatenate([steps, np.array(ends, dtype)]).astype(dtype)
    return np.concatenate([values, -values, np.array([np.nan], dtype)])


# ---- errors ----------------------------------------------------------------------------------------------------------


def widened(values: Array) -> Array:
    """The values in a format that holds their functions with digits to spare."""
    return values.astype(np.float64 if values.dtype == np.float32 else LONG)


def distances(result: Array, exact: Array, least: Array | None = None) -> Array:
    """Units in the last place between a result and wide values, or of `least` where that is larger. Infinity counts as
    the number that would come after the largest one; NaN on one side only, or a zero of the wrong sign, is infinitely
    far."""
    kind = np.finfo(result.dtype)
    wide = exact.dtype.type
    after = wide(2) ** kind.maxexp
    mine, theirs = (np.clip(side.astype(wide), -after, after) for side in (result, exact))
    rounded = np.clip(exact, -wide(kind.max), wide(kind.max)).astype(result.dtype)
    exponents = np.maximum(np.frexp(rounded)[1], kind.minexp + 1)
    if least is not None:
        exponents = np.maximum(exponents, np.frexp(np.where(np.isfinite(least), least, 0))[1])
    unit = np.ldexp(wide(1), exponents - kind.nmant - 1)
    units = np.abs(mine - theirs) / unit
    units = np.where(np.isnan(result) & np.isnan(exact), 0, units)
    is_turned = (result == 0) & (rounded == 0) & (np.signbit(result) != np.signbit(exact))
    return np.where(np.isnan(units) | is_turned, np.inf, units).astype(np.float64)


def exactly(function: Function, operands: tuple[Array, ...]) -> Array:
    """Wide values by mpmath, with so many digits that none is lost where a function nearly vanishes."""
    wide = widened(operands[0]).dtype.type
    with mp.workprec(250):
        points = zip(*operands, strict=True)
        return np.array([rounded(function.exact(*(mp.mpf(float(x)) for x in point)), wide) for point in points], wide)


def rounded(value: Any, wide: Any) -> Any:
    """A number of mpmath in a wide format: the first 53 bits, and those that follow."""
    if isinstance(value, mp.mpc) and value.imag != 0:
        return wide(np.nan)
    value = mp.re(value)
    if not mp.isfinite(value):
        return wide(float(value))
    fraction, exponent = mp.frexp(value)
    high = float(fraction)
    return np.ldexp(wide(high) + wide(float(fraction - high)), int(min(max(exponent, -20_000), 20_000)))


def worst(function: Function, run: Callable[..., Array], dtype: Any, count: int) -> tuple[float, tuple[float, ...]]:
    """The largest error among so many arguments, and the argument."""
    found: list[tuple[float, tuple[float, ...]]] = []
    is_slow = function.is_double and dtype == np.float64
    for operands in arguments(function, dtype, count // 100 if is_slow else count):
        result = run(*operands)
        with np.errstate(all="ignore"):
            if is_slow:
                is_usual = np.isfinite(operands[0]) & (operands[0] != 0)
                operands, result = (operands[0][is_usual],), result[is_usual]
                units = distances(result, exactly(function, operands), bound(function, operands))
            else:
                wide = function.wide(*(widened(side) for side in operands))
                units = distances(result, wide, bound(function, operands))
        places = np.argpartition(-units, min(SUSPECTS, units.size - 1))[:SUSPECTS]
        kept, units, result = tuple(side[places] for side in operands), units[places], result[places]
        if not is_slow:
            is_usual = np.logical_and.reduce([np.isfinite(side) & (side != 0) for side in kept])
            some = tuple(side[is_usual] for side in kept)
            with np.errstate(all="ignore"):
                units[is_usual] = distances(result[is_usual], exactly(function, some), bound(function, some))
        found += [(float(u), tuple(float(side[i]) for side in kept)) for i, u in enumerate(units)]
    return max(found)


def bound(function: Function, operands: tuple[Array, ...]) -> Array | None:
    """What results do not count as smaller than, at these arguments."""
    return None if function.least is None else function.least(*operands)


# ---- the page --------------------------------------------------------------------------------------------------------


def compiled(name: str, dtype: str, math: str) -> Callable[..., Array]:
    """A function of the language over an array, as any program would compile it."""
    function = FUNCTIONS[name]
    names = ("x", "y") if function.pairs is not None else ("x",)
    given = ", ".join(f"{operand}: {dtype}[n]" for operand in names)
    text = f"@entry\ndef measured[n]({given}) -> {dtype}[n] = {function.text or f'{name}(x)'}\n"
    return dg.compile(dg.parse(text).measured, math=math)


def row(name: str, math: str, count: int) -> str:
    """The line of a function."""
    cells = []
    for dtype, kind in DTYPES.items():
        units, place = worst(FUNCTIONS[name], compiled(name, dtype, math), kind, count)
        cells += [f"{units:.2f}", ", ".join(f"{x:.9g}" if dtype == "f32" else repr(x) for x in place)]
    return f"| `{FUNCTIONS[name].text or name}` | {' | '.join(cells)} |"


def main(given: list[str]) -> None:
    """Measure, print, and write the table if everything was measured."""
    is_quick = "--quick" in given
    names = [name for name in given if name in FUNCTIONS]
    lines = []
    for math in ("fast", "precise"):
        lines += ["", f'### `math="{math}"`', "", *HEAD]
        lines += [row(name, math, 20_000 if is_quick else 4_000_000) for name in names or FUNCTIONS]
    if not is_quick and not names:
        tools = versions("numpy", "llvmlite", "mpmath")
        note = f"{date.today().isoformat()}; {machine()}; dgraph {dg.__version__}, {tools}"
        head = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
        PAGE.write_text("\n".join([head + HEADING, "", note, *lines, ""]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
