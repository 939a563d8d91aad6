"""Random numbers by counting: every number is a pure function of a key and a position.

The generator is Philox 4x32-10. A key is 64 bits: its low and high half are the two words of the Philox key. Its
counter is (low half of the position, high half, stream, 0); the streams keep draws, folded keys and split keys apart.
The four words of a block make two 64-bit numbers: lane 0 is word 0 and word 1 (the high half), lane 1 words 2 and 3.
Only `bits` and `fold` need Philox; all others are written with these two and exact arithmetic, so every device draws
the same bits. Draws depend on nothing that has a derivative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, bytes_of, require
from dgraph.ops.elementwise import Elementwise, array_type, arrays, entry
from dgraph.ops.shape import ravel
from dgraph.sizes import Size, product, size
from dgraph.types import BOOL, F32, F64, I64, KEY, Array, DType, Shape, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]

DRAW, FOLD, SPLIT = 0, 1, 2
"""The streams: third word of the counter."""

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
STEPS = 0x9E3779B9, 0xBB67AE85
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(key: Sequence[Any], counter: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """The four words of a block, for two key words and four counter words held in arrays of uint64."""
    k0, k1 = (np.asarray(word, np.uint64) for word in key)
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    for _ in range(ROUNDS):
        left, right = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (right >> _HALF) ^ c1 ^ k0, right & _LOW, (left >> _HALF) ^ c3 ^ k1, left & _LOW
        k0, k1 = (k0 + np.uint64(STEPS[0])) & _LOW, (k1 + np.uint64(STEPS[1])) & _LOW
    return c0, c1, c2, c3


def block(key: Any, position: Any, stream: int, lane: int = 0) -> Any:
    """64 bits of a key at positions (integers), as uint64."""
    key, position = np.asarray(key, np.uint64), np.asarray(position, np.int64).view(np.uint64)
    zero = np.uint64(0)
    words = philox((key & _LOW, key >> _HALF), (position & _LOW, position >> _HALF, np.uint64(stream), zero))
    return (words[2 * lane] | words[2 * lane + 1] << _HALF)[()]


class _Draw(Op):
    """An op whose results depend on nothing that has a derivative."""

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """A structural zero."""
        return (None,)


@dataclass(frozen=True)
class Bits(_Draw, Elementwise):
    """`bits(key, position)`: 64 random bits of a key at a position, as an i64; the two lanes are independent."""

    name = "bits"
    arity = 2
    weight = 60
    lane: int = 0

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The position's type."""
        key, position = arrays(self, types, 2)
        require(key == Array(KEY, position.shape), f"bits: a key of {key} for positions of {position}")
        require(position.dtype == I64 and self.lane in (0, 1), f"bits: positions of {position}, lane {self.lane}")
        return (position,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """A lane of a block."""
        key, position = operands
        return block(key, position, DRAW, self.lane).view(np.int64)


@dataclass(frozen=True)
class Fold(_Draw, Elementwise):
    """`fold(key, number)`: the key made from a key and an integer. `stream` keeps the keys of `split` apart."""

    name = "fold"
    arity = 2
    weight = 60
    stream: int = FOLD

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The key's type."""
        key, number = arrays(self, types, 2)
        require(key.dtype == KEY and number == Array(I64, key.shape), f"fold: {key} with {number}")
        require(self.stream in (FOLD, SPLIT), f"fold: stream {self.stream}")
        return (key,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Lane 0 of a block."""
        key, number = operands
        return block(key, number, self.stream)


@dataclass(frozen=True)
class Split(_Draw):
    """`count` independent keys made from one."""

    name = "split"
    arity = 1
    count: int = 2

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """An axis of keys."""
        require(arrays(self, types, 1)[0] == Array(KEY), "split: not one key")
        return (Array(KEY, (size(self.count),)),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Key k is folded with k in a stream of its own."""
        return block(operands[0], np.arange(self.count), SPLIT)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A fold at each point."""
        return (g.map([size(self.count)], lambda h, i: h.fold(operands[0], i, stream=SPLIT)),)


class _Filled(_Draw):
    """An array of draws, one per row-major position. The first operand is the key."""

    shape: Shape
    weight: ClassVar[int] = 70

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """So many operations per draw; the draws are written once."""
        return Cost(product(self.shape) * self.weight, bytes_of(self.infer(types, ())[0]))

    def draw(self, h: Builder, key: Value, position: Value, others: Sequence[Value]) -> Value:
        """The draw at a position, written with scalar ops."""
        raise NotImplementedError(self.name)

    def positions(self, size_of: SizeOf) -> Any:
        """The row-major positions."""
        shape = tuple(map(size_of, self.shape))
        return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A draw at each point; the other operands are scalars or arrays of the same shape."""
        key, *others = operands

        def point(h: Builder, *at: Value) -> Value:
            return self.draw(h, key, ravel(h, self.shape, at), [entry(h, x, at) for x in others])

        return (g.map(self.shape, point) if self.shape else point(g),)


def fraction(h: Builder, bits: Value, dtype: DType) -> Value:
    """Bits as a float in [0, 1): their first 53 (f64) or 24 (f32) as a whole number, scaled. Exact."""
    digits = 53 if dtype == F64 else 24
    top = h.floor_divide(bits, h.constant(2 ** (64 - digits), I64))
    whole = h.cast(h.add(top, h.constant(2 ** (digits - 1), I64)), dtype=dtype)
    return h.mul(whole, h.constant(2.0**-digits, dtype))


def _fraction(bits: Any, dtype: DType) -> Any:
    """The same in NumPy."""
    digits = 53 if dtype == F64 else 24
    top = (bits >> np.uint64(64 - digits)) ^ np.uint64(1 << digits - 1)
    return top.astype(dtype.numpy) * dtype.numpy.type(2.0**-digits)


@dataclass(frozen=True)
class Uniform(_Filled):
    """Numbers spread evenly over [0, 1)."""

    name = "uniform"
    arity = 1
    shape: Shape = ()
    dtype: DType = F64

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The array asked for."""
        require(arrays(self, types, 1)[0] == Array(KEY) and self.dtype.is_float, f"{self.name}: not a key or no float")
        return (Array(self.dtype, self.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The first bits of each block."""
        return _fraction(block(operands[0], self.positions(size_of), DRAW), self.dtype)

    def draw(self, h: Builder, key: Value, position: Value, others: Sequence[Value]) -> Value:
        """The first bits of the block."""
        return fraction(h, h.bits(key, position), self.dtype)


@dataclass(frozen=True)
class Normal(_Filled):
    """Numbers from the standard normal distribution, by the method of Box and Muller."""

    name = "normal"
    arity = 1
    weight = 155
    shape: Shape = ()
    dtype: DType = F64

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The array asked for."""
        require(arrays(self, types, 1)[0] == Array(KEY) and self.dtype.is_float, f"{self.name}: not a key or no float")
        return (Array(self.dtype, self.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """A radius from lane 0 and an angle from lane 1."""
        positions, number = self.positions(size_of), self.dtype.numpy.type
        near, turn = (_fraction(block(operands[0], positions, DRAW, lane), self.dtype) for lane in (0, 1))
        radius = np.sqrt(number(-2) * np.log(number(1) - near))
        return radius * np.cos(number(2 * math.pi) * turn)

    def draw(self, h: Builder, key: Value, position: Value, others: Sequence[Value]) -> Value:
        """A radius from lane 0 and an angle from lane 1."""
        near, turn = (fraction(h, h.bits(key, position, lane=lane), self.dtype) for lane in (0, 1))
        logarithm = h.log(h.sub(h.constant(1.0, self.dtype), near))
        radius = h.sqrt(h.mul(h.constant(-2.0, self.dtype), logarithm))
        return h.mul(radius, h.cos(h.mul(h.constant(2 * math.pi, self.dtype), turn)))


@dataclass(frozen=True)
class Bernoulli(_Filled):
    """`bernoulli(key, p)`: true with probability p, a float or an array of floats of the shape."""

    name = "bernoulli"
    arity = 2
    shape: Shape = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Bools of the shape asked for."""
        key, p = arrays(self, types, 2)
        require(key == Array(KEY) and p.dtype.is_float and p.shape in ((), self.shape), f"bernoulli: {key} with {p}")
        return (Array(BOOL, self.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Whether a uniform number is below p."""
        key, p = operands
        dtype = F32 if p.dtype == np.float32 else F64
        return _fraction(block(key, self.positions(size_of), DRAW), dtype) < p

    def draw(self, h: Builder, key: Value, position: Value, others: Sequence[Value]) -> Value:
        """Whether a uniform number is below p."""
        (p,) = others
        return h.less(fraction(h, h.bits(key, position), array_type(p).dtype), p)


@dataclass(frozen=True)
class Randint(_Filled):
    """`randint(key, low, high)`: integers from low to high - 1; low where there are none."""

    name = "randint"
    arity = 3
    shape: Shape = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Integers of the shape asked for and the dtype of the bounds."""
        key, low, high = arrays(self, types, 3)
        require(key == Array(KEY), f"randint: a key of {key}")
        require(low == high == Array(low.dtype) and low.dtype.kind == "int", f"randint: bounds {low} and {high}")
        return (Array(low.dtype, self.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Bits modulo the number of choices."""
        key, low, high = operands
        choices = np.int64(high) - np.int64(low)
        bits = block(key, self.positions(size_of), DRAW).view(np.int64)
        return (np.int64(low) + np.remainder(bits, choices)).astype(low.dtype)

    def draw(self, h: Builder, key: Value, position: Value, others: Sequence[Value]) -> Value:
        """Bits modulo the number of choices."""
        low, high = (h.cast(bound, dtype=I64) for bound in others)
        found = h.add(low, h.mod(h.bits(key, position), h.sub(high, low)))
        return h.cast(found, dtype=array_type(others[0]).dtype)


@dataclass(frozen=True)
class Permutation(_Draw):
    """The numbers below the extent in random order, as i64: exchanges from the end (Fisher and Yates)."""

    name = "permutation"
    arity = 1
    extent: Size

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """An axis of i64."""
        require(arrays(self, types, 1)[0] == Array(KEY), "permutation: not one key")
        return (Array(I64, (self.extent,)),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Step k exchanges entry k with one of those up to k."""
        count = size_of(self.extent)
        order = np.arange(count, dtype=np.int64)
        steps = np.arange(count, dtype=np.int64)
        partners = np.remainder(block(operands[0], steps, DRAW).view(np.int64), steps + 1)
        for step in reversed(range(count)):
            order[[step, partners[step]]] = order[[partners[step], step]]
        return order

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """The loop over the exchanges."""

        def step(h: Builder, k: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
            (order,) = carried
            partner = h.mod(h.bits(operands[0], k), h.add(k, h.number(1)))
            own, other = (h.index(order, at, policy="proven") for at in (k, partner))
            return [h.set_at(h.set_at(order, k, other, policy="proven"), partner, own, policy="proven")]

        return g.for_(g.number(self.extent), [g.iota(extent=self.extent)], step, reverse=True)
