"""Special functions to forty digits, in decimal arithmetic from their series: what the ops are measured against."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import comb, factorial

DIGITS = 60
SHIFT = 40
TERMS = 30


@cache
def bernoulli(n: int) -> Fraction:
    """The Bernoulli number B_n."""
    return (
        Fraction(int(n == 0))
        if n == 0
        else -sum((Fraction(comb(n + 1, k)) * bernoulli(k) for k in range(n)), Fraction(0)) / (n + 1)
    )


def decimal(fraction: Fraction) -> Decimal:
    """A fraction to all digits kept."""
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


@cache
def pi() -> Decimal:
    """By the formula of Machin."""

    def angle(n: int) -> Decimal:
        total, power, k = Decimal(0), Decimal(1) / n, 0
        while abs(power) > Decimal(10) ** -(DIGITS + 5):
            total += power / (2 * k + 1) * (-1) ** k
            power /= n * n
            k += 1
        return total

    with localcontext(prec=DIGITS + 10):
        return 4 * (4 * angle(5) - angle(239))


def sine_and_cosine(x: Decimal) -> tuple[Decimal, Decimal]:
    """By their series."""
    sums = [Decimal(0), Decimal(0)]
    term, k = Decimal(1), 0
    while abs(term) > Decimal(10) ** -(DIGITS + 5):
        sums[1 - k % 2] += term * (-1) ** (k // 2)
        k += 1
        term *= x / k
    return sums[0], sums[1]


def half_turn(x: Decimal) -> tuple[Decimal, Decimal]:
    """The sine and cosine of pi times the distance to the nearest whole number."""
    return sine_and_cosine(pi() * (x - x.to_integral_value()))


def lgamma(x: float) -> Decimal:
    """log |gamma(x)|, by Stirling's series far out."""
    with localcontext(prec=DIGITS):
        exact = Decimal(float(x))
        if exact < 0:
            return (pi() / abs(half_turn(exact)[0])).ln() - lgamma_above(1 - exact)
        return lgamma_above(exact)


def lgamma_above(x: Decimal) -> Decimal:
    """The same for positive x."""
    z, passed = x + SHIFT, Decimal(1)
    for step in range(SHIFT):
        passed *= x + step
    total = (z - Decimal("0.5")) * z.ln() - z + (2 * pi()).ln() / 2
    for k in range(1, TERMS):
        total += decimal(bernoulli(2 * k)) / (2 * k * (2 * k - 1) * z ** (2 * k - 1))
    return total - passed.ln()


def polygamma(order: int, x: float) -> Decimal:
    """The derivative of digamma of an order; order 0 is digamma itself. For x below 0 orders 0 and 1 only."""
    with localcontext(prec=DIGITS):
        exact = Decimal(float(x))
        if exact >= 0:
            return polygamma_above(order, exact)
        sine, cosine = half_turn(exact)
        far = pi() * cosine / sine if order == 0 else -((pi() / sine) ** 2)
        return (-1) ** order * polygamma_above(order, 1 - exact) - far


def polygamma_above(order: int, x: Decimal) -> Decimal:
    """The same for positive x."""
    z = x + SHIFT
    sign = -1 if order % 2 == 0 else 1
    climbed = sum((1 / (x + step) ** (order + 1) for step in range(SHIFT)), Decimal(0))
    total = sign * factorial(order) * climbed
    total += z.ln() if order == 0 else sign * factorial(order - 1) / z**order
    total += sign * Decimal(factorial(order)) / (2 * z ** (order + 1))
    for k in range(1, TERMS):
        factor = Fraction(factorial(2 * k + order - 1), factorial(2 * k)) * bernoulli(2 * k)
        total += sign * decimal(factor) / z ** (2 * k + order)
    return total


def erf(x: float) -> Decimal:
    """By its series, with digits to spare for the cancellation."""
    with localcontext(prec=DIGITS + 40):
        exact = Decimal(float(x))
        total, term, k = Decimal(0), exact, 0
        while abs(term) > Decimal(10) ** -(DIGITS + 20):
            total += term / (2 * k + 1)
            k += 1
            term *= -exact * exact / k
        return 2 * total / pi().sqrt()
