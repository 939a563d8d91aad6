"""Sums of two doubles: the first is the number rounded, the second what it lacks, 106 bits in all.

Sums and products give the first part rounded and find what rounding lost (Dekker 1971; Knuth, The Art of Computer
Programming 2, 4.2.2); an fma with one rounding is needed for the latter, so it is one on every machine here.
"""

from __future__ import annotations

from dataclasses import dataclass

from dgraph.kernels.values import Value, intrinsic, select


def exact_fma(a: Value, b: Value | float, c: Value | float) -> Value:
    """`a * b + c` with one rounding, by the C library where the machine has no instruction for it."""
    return intrinsic("llvm.fma", a, a.lift(b), a.lift(c))


@dataclass(frozen=True)
class Long:
    """A number and what it lacks, which is at most half a unit in its last place."""

    high: Value
    low: Value

    def __add__(self, other: Long) -> Long:
        total = sum_of_two(self.high, other.high)
        return ordered_sum(total.high, total.low + (self.low + other.low))

    def __mul__(self, factor: float) -> Long:
        """Times a power of two."""
        return Long(self.high * factor, self.low * factor)

    def __truediv__(self, other: Long) -> Long:
        quotient = self.high / other.high
        rest = exact_fma(-quotient, other.high, self.high) + (self.low - quotient * other.low)
        return ordered_sum(quotient, rest / other.high)

    def rounded(self) -> Value:
        """The nearest double."""
        return self.high + self.low


def ordered_sum(large: Value, small: Value | float) -> Long:
    """The sum of two numbers of which the second is not the larger."""
    total = large + small
    return Long(total, small - (total - large))


def sum_of_two(a: Value, b: Value | float) -> Long:
    """The sum of two numbers of any size."""
    total = a + b
    second = total - a
    return Long(total, (a - (total - second)) + (b - second))


def chosen(condition: Value, one: Long, other: Long) -> Long:
    """One of two."""
    return Long(select(condition, one.high, other.high), select(condition, one.low, other.low))
