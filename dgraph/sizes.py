"""Symbolic sizes: integer polynomials with floor division, in normal form.

A `Size` is a sum of monomials with integer coefficients. An atom of a monomial is the name of a size variable, a
`Quotient` (floor division that did not come out exact), or an integer value of a graph (any other hashable object
with a `name`). Two sizes are equal exactly if their normal forms are, that is, if they agree for all values of their
atoms as far as polynomial arithmetic can tell. Every atom stands for a non-negative integer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cached_property

from dgraph.classes import dataclass

Atom = Hashable
Monomial = tuple[Atom, ...]


@dataclass(frozen=True)
class Quotient:
    """The atom `numerator // denominator`."""

    numerator: Size
    denominator: Size

    def __str__(self) -> str:
        return " // ".join(
            str(part) if _is_simple(part) else f"({part})" for part in (self.numerator, self.denominator)
        )


def _is_simple(part: Size) -> bool:
    """Whether a size prints as one word or number."""
    return part.constant is not None or (len(part.terms) == 1 and len(part.terms[0][0]) == 1 and part.terms[0][1] == 1)


def atom_text(atom: Atom) -> str:
    """How an atom is printed."""
    if isinstance(atom, str):
        return atom
    if isinstance(atom, Quotient):
        return f"({atom})"
    return str(getattr(atom, "name", atom))


def _atom_key(atom: Atom) -> tuple[int, str, int]:
    """A total order on atoms: names first, then quotients, then values of a graph."""
    if isinstance(atom, str):
        return 0, atom, 0
    if isinstance(atom, Quotient):
        return 1, str(atom), 0
    return 2, atom_text(atom), id(atom)


def _monomial_key(monomial: Monomial) -> tuple[int, list[tuple[int, str, int]]]:
    """High degrees first, then by atoms; the constant comes last."""
    return -len(monomial), [_atom_key(atom) for atom in monomial]


@dataclass(frozen=True)
class Size:
    """A polynomial: (monomial, coefficient) pairs in a fixed order, no coefficient zero."""

    terms: tuple[tuple[Monomial, int], ...]

    @cached_property
    def constant(self) -> int | None:
        """The value, if the size does not depend on any atom."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and self.terms[0][0] == ():
            return self.terms[0][1]
        return None

    @property
    def is_literal_one(self) -> bool:
        """Whether the size is the number 1, the only size that broadcasts."""
        return self.constant == 1

    def atoms(self) -> Iterator[Atom]:
        """Every atom once, those inside quotients included."""
        seen: dict[Atom, None] = {}
        for monomial, _ in self.terms:
            for atom in monomial:
                seen.setdefault(atom)
                if isinstance(atom, Quotient):
                    for inner in (*atom.numerator.atoms(), *atom.denominator.atoms()):
                        seen.setdefault(inner)
        return iter(seen)

    def __add__(self, other: Size | int) -> Size:
        added = size(other)
        if not added.terms or not self.terms:
            return added if added.terms else self
        total = dict(self.terms)
        for monomial, coefficient in added.terms:
            total[monomial] = total.get(monomial, 0) + coefficient
        return _normal(total)

    __radd__ = __add__

    def __neg__(self) -> Size:
        return Size(tuple((monomial, -coefficient) for monomial, coefficient in self.terms))

    def __sub__(self, other: Size | int) -> Size:
        return self + -size(other)

    def __rsub__(self, other: int) -> Size:
        return size(other) - self

    def __mul__(self, other: Size | int) -> Size:
        factor = size(other)
        for one, number in ((factor, self.constant), (self, factor.constant)):
            if number is not None:
                return one.times_number(number)
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in factor.terms:
                monomial = tuple(sorted(left + right, key=_atom_key))
                total[monomial] = total.get(monomial, 0) + a * b
        return _normal(total)

    __rmul__ = __mul__

    def times_number(self, number: int) -> Size:
        """The size so many times."""
        if number == 1:
            return self
        return Size(tuple((monomial, number * coefficient) for monomial, coefficient in self.terms) if number else ())

    def __pow__(self, exponent: int) -> Size:
        result = size(1)
        for _ in range(exponent):
            result = result * self
        return result

    def __floordiv__(self, other: Size | int) -> Size:
        """Floor division. Raises `ZeroDivisionError` for the literal 0."""
        divisor = size(other)
        if divisor.constant == 0:
            raise ZeroDivisionError("a size divided by zero")
        if self.constant is not None and divisor.constant is not None:
            return size(self.constant // divisor.constant)
        exact, rest = _divide(self, divisor)
        if not rest.terms:
            return exact
        if divisor.constant is not None and rest.constant is not None:
            exact, rest = exact + rest.constant // divisor.constant, size(rest.constant % divisor.constant)
            if not rest.terms or 0 <= (rest.constant or 0) < divisor.constant:
                return exact
        return exact + Size((((Quotient(rest, divisor),), 1),))

    def __mod__(self, other: Size | int) -> Size:
        return self - (self // other) * other

    def substitute(self, values: Mapping[Atom, Size | int]) -> Size:
        """The size with atoms replaced."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            (atom,) = self.terms[0][0]
            if atom in values:
                return size(values[atom])
        if not any(atom in values for atom in self.atoms()):
            return self
        total = size(0)
        for monomial, coefficient in self.terms:
            product = size(coefficient)
            for atom in monomial:
                if atom in values:
                    factor = size(values[atom])
                elif isinstance(atom, Quotient):
                    factor = atom.numerator.substitute(values) // atom.denominator.substitute(values)
                else:
                    factor = variable(atom)
                product = product * factor
            total = total + product
        return total

    def evaluate(self, value: Callable[[Atom], int]) -> int:
        """The number, given the number of every atom. Raises `ZeroDivisionError` for a zero divisor."""
        total = 0
        for monomial, coefficient in self.terms:
            product = coefficient
            for atom in monomial:
                if isinstance(atom, Quotient):
                    product *= atom.numerator.evaluate(value) // atom.denominator.evaluate(value)
                else:
                    product *= value(atom)
            total += product
        return total

    def is_nonnegative(self) -> bool:
        """Whether the size is provably at least 0, all atoms being at least 0."""
        return all(coefficient >= 0 for _, coefficient in self.terms)

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        out = ""
        for monomial, coefficient in self.terms:
            factors = [atom_text(atom) for atom in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            out += (f" {sign} " if out else "-" if coefficient < 0 else "") + " * ".join(factors)
        return out


UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_AMOUNT = re.compile(rf"(?=.*[1-9])(\d+(?:\.\d+)?) ?({'|'.join(UNITS)})")
AMOUNT_WORDS = "a number and a unit: B, kB, MB, GB, KiB, MiB or GiB"
"""What an amount of memory is written as."""


def bytes_in(text: str) -> int | None:
    """The bytes of an amount of memory such as "200MB" or "1.5 GiB"; None if it is none."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        return None
    from fractions import Fraction

    return int(Fraction(found[1]) * UNITS[found[2]])


def in_units(count: int) -> str:
    """An amount of memory in words."""
    unit = next((name for name in ("GB", "MB", "kB") if count >= UNITS[name]), "B")
    return f"{count / UNITS[unit]:.3g} {unit}" if unit != "B" else f"{count} B"


def size(value: Size | int) -> Size:
    """A size from a number; a size is returned as it is."""
    if isinstance(value, Size):
        return value
    return Size((((), int(value)),)) if value else Size(())


def variable(atom: Atom) -> Size:
    """The size that is one atom."""
    return Size((((atom,), 1),))


def product(sizes: tuple[Size, ...]) -> Size:
    """The number of entries of a shape."""
    result = size(1)
    for extent in sizes:
        result = result * extent
    return result


def solve(pattern: Size, actual: Size, unknown: Atom) -> Size | None:
    """The value of `unknown` for which `pattern` equals `actual`, if the pattern is linear in it with a constant
    factor that divides exactly; otherwise None."""
    factor, rest = 0, size(0)
    for monomial, coefficient in pattern.terms:
        if monomial == (unknown,):
            factor = coefficient
        elif unknown in Size(((monomial, 1),)).atoms():
            return None
        else:
            rest = rest + Size(((monomial, coefficient),))
    if factor == 0:
        return None
    difference = actual - rest
    if all(coefficient % factor == 0 for _, coefficient in difference.terms):
        return Size(tuple((monomial, coefficient // factor) for monomial, coefficient in difference.terms))
    return None


def _normal(total: dict[Monomial, int]) -> Size:
    kept = [(monomial, coefficient) for monomial, coefficient in total.items() if coefficient]
    if len(kept) < 2:
        return Size(tuple(kept))
    return Size(tuple(sorted(kept, key=lambda term: _monomial_key(term[0]))))


def _divide(numerator: Size, divisor: Size) -> tuple[Size, Size]:
    """Terms of the numerator that the leading term of the divisor divides, by polynomial long division."""
    quotient, rest = size(0), numerator
    lead, factor = divisor.terms[0]
    progress = True
    while progress:
        progress = False
        for monomial, coefficient in rest.terms:
            left = list(monomial)
            if coefficient % factor or any(left.count(atom) < lead.count(atom) for atom in lead):
                continue
            for atom in lead:
                left.remove(atom)
            step = Size(((tuple(left), coefficient // factor),))
            smaller = rest - step * divisor
            if len(smaller.terms) < len(rest.terms):
                quotient, rest, progress = quotient + step, smaller, True
                break
    return quotient, rest
