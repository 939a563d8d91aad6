"""Values of LLVM code under construction: arithmetic on a `Value` emits instructions.

A value is a scalar or a vector of any number of lanes; formulas written with this module serve both. Nothing here
sets a fast-math flag: what is written is what is computed, in that order.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

SCALARS: dict[str, Any] = {
    "f32": ir.FloatType(),
    "f64": ir.DoubleType(),
    "i32": ir.IntType(32),
    "i64": ir.IntType(64),
    "u8": ir.IntType(8),
    "bool": ir.IntType(1),
}
POINTER = "pointer_"
FLOATS = ("f32", "f64")
INTEGERS = ("i32", "i64", "u8")
LANE_COUNTS = (8, 16, 32)
"""How many turns of a loop generated source may ask to go at a time: `for i in lanes_16(n)`."""
ROWS = 8
"""The lanes of a loop that adds up rows of entries, one in each lane."""
BITS = {"f32": "i32", "f64": "i64"}


def llvm_type(name: str, lanes: int = 1) -> Any:
    """The LLVM type of a type name such as `f32` or `pointer_f64`."""
    if name == "none":
        return ir.VoidType()
    if name.startswith(POINTER):
        return ir.PointerType(memory_type(name.removeprefix(POINTER)))
    scalar = SCALARS[name]
    return scalar if lanes == 1 else ir.VectorType(scalar, lanes)


def memory_type(name: str) -> Any:
    """The LLVM type of an array entry: as in registers, except that a bool takes one byte."""
    return SCALARS["u8" if name == "bool" else name]


@functools.cache
def host_has_fma() -> bool:
    """Whether a fused multiply-add is one instruction here; elsewhere it would be a slow library call."""
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        return True
    return bool(llvm.get_host_cpu_features().get("fma", False))


class Splat(ir.Constant):  # type: ignore[misc]
    """One number in every lane, or none, in LLVM's short form."""

    def _get_reference(self) -> str:
        entry = self.constant[0]
        return "undef" if entry.constant is ir.Undefined else f"splat ({entry})"


_NUMBERS: dict[tuple[str, str], Any] = {}
_SPLATS: dict[tuple[str, int], Any] = {}


def known_number(type_name: str, number: float) -> Any:
    """A constant; the same each time, since its text takes longer to make than to find."""
    # Zeros of either sign are equal, but have texts of their own.
    key = type_name, repr(number)
    found = _NUMBERS.get(key)
    if found is None:
        made = ir.Constant(SCALARS[type_name], float(number) if type_name in FLOATS else int(number))
        found = _NUMBERS[key] = made
    return found


def _known_splat(entry: Any, lanes: int) -> Any:
    key = str(entry), lanes
    found = _SPLATS.get(key)
    if found is None:
        found = _SPLATS[key] = Splat(ir.VectorType(entry.type, lanes), [entry] * lanes)
    return found


class Value:
    """One LLVM value with its type name; operators emit into the builder it came from."""

    __slots__ = ("builder", "llvm", "type")

    def __init__(self, builder: Any, value: Any, type_name: str) -> None:
        self.builder = builder
        self.llvm = value
        self.type = type_name

    @property
    def lanes(self) -> int:
        """Number of lanes; 1 for a scalar."""
        kind = self.llvm.type
        return int(kind.count) if isinstance(kind, ir.VectorType) else 1

    @property
    def is_float(self) -> bool:
        """Whether this is a floating-point value."""
        return self.type in FLOATS

    def constant(self, number: float, type_name: str | None = None) -> Value:
        """A constant of this value's lanes, of its type unless another is named."""
        name = type_name or self.type
        entry = known_number(name, number)
        return Value(self.builder, entry if self.lanes == 1 else _known_splat(entry, self.lanes), name)

    def make(self, value: Any, type_name: str | None = None) -> Value:
        """Wrap an LLVM value that this value's builder made."""
        return Value(self.builder, value, type_name or self.type)

    def lift(self, other: Value | float) -> Value:
        """The other operand: a value as it is, a Python number as a constant."""
        return other if isinstance(other, Value) else self.constant(other)

    def cast(self, operation: str, type_name: str) -> Value:
        """Apply an LLVM conversion such as `fptosi`."""
        target = llvm_type(type_name, self.lanes)
        return self.make(getattr(self.builder, operation)(self.llvm, target), type_name)

    def bits(self) -> Value:
        """The bits of a float as an integer of the same width."""
        return self.cast("bitcast", BITS[self.type])

    def as_float(self) -> Value:
        """The float whose bits these are."""
        return self.cast("bitcast", "f32" if self.type == "i32" else "f64")

    def arithmetic(self, other: Value | float, for_floats: str, for_integers: str) -> Value:
        """Emit a two-operand instruction, by the kind of the operands."""
        operation = for_floats if self.is_float else for_integers
        return self.make(getattr(self.builder, operation)(self.llvm, self.lift(other).llvm))

    def compare(self, other: Value | float, relation: str) -> Value:
        """Emit a comparison; with a NaN every relation but `!=` is false."""
        left, right = self.llvm, self.lift(other).llvm
        if self.is_float:
            emit = self.builder.fcmp_unordered if relation == "!=" else self.builder.fcmp_ordered
        else:
            emit = self.builder.icmp_unsigned if self.type in ("u8", "bool") else self.builder.icmp_signed
        return self.make(emit(relation, left, right), "bool")

    def __add__(self, other: Value | float) -> Value:
        return self.arithmetic(other, "fadd", "add")

    def __sub__(self, other: Value | float) -> Value:
        return self.arithmetic(other, "fsub", "sub")

    def __mul__(self, other: Value | float) -> Value:
        return self.arithmetic(other, "fmul", "mul")

    def __radd__(self, other: float) -> Value:
        return self.lift(other) + self

    def __rsub__(self, other: float) -> Value:
        return self.lift(other) - self

    def __rmul__(self, other: float) -> Value:
        return self.lift(other) * self

    def __truediv__(self, other: Value | float) -> Value:
        return self.make(self.builder.fdiv(self.llvm, self.lift(other).llvm))

    def __rtruediv__(self, other: float) -> Value:
        return self.lift(other) / self

    def __neg__(self) -> Value:
        return self.make(self.builder.fneg(self.llvm) if self.is_float else self.builder.neg(self.llvm))

    def __and__(self, other: Value | float) -> Value:
        return self.make(self.builder.and_(self.llvm, self.lift(other).llvm))

    def __or__(self, other: Value | float) -> Value:
        return self.make(self.builder.or_(self.llvm, self.lift(other).llvm))

    def __xor__(self, other: Value | float) -> Value:
        return self.make(self.builder.xor(self.llvm, self.lift(other).llvm))

    def __invert__(self) -> Value:
        return self.make(self.builder.not_(self.llvm))

    def __lshift__(self, other: Value | float) -> Value:
        return self.make(self.builder.shl(self.llvm, self.lift(other).llvm))

    def __rshift__(self, other: Value | float) -> Value:
        return self.make(self.builder.ashr(self.llvm, self.lift(other).llvm))

    def __lt__(self, other: Value | float) -> Value:
        return self.compare(other, "<")

    def __le__(self, other: Value | float) -> Value:
        return self.compare(other, "<=")

    def __gt__(self, other: Value | float) -> Value:
        return self.compare(other, ">")

    def __ge__(self, other: Value | float) -> Value:
        return self.compare(other, ">=")

    def equals(self, other: Value | float) -> Value:
        """Emit an equality test (`==` itself compares Python objects)."""
        return self.compare(other, "==")

    def differs(self, other: Value | float) -> Value:
        """Emit an inequality test; true where either side is NaN."""
        return self.compare(other, "!=")


class Strided(Value):
    """An i64 in each lane that grows by a fixed step from one lane to the next: `base + lane * stride`."""

    __slots__ = ("base", "count", "stride")

    def __init__(self, base: Value, stride: int | Value, count: int) -> None:
        self.builder = base.builder
        self.type = "i64"
        self.base = base
        self.stride = stride
        self.count = count

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return self.count

    @property
    def llvm(self) -> Any:
        """The vector, made where it is asked for."""
        kind = ir.VectorType(SCALARS["i64"], self.count)
        start = splat(self.builder, self.base.llvm, self.count)
        if isinstance(self.stride, int):
            return self.builder.add(start, ir.Constant(kind, [self.stride * lane for lane in range(self.count)]))
        places = ir.Constant(kind, list(range(self.count)))
        steps = self.builder.mul(places, splat(self.builder, self.stride.llvm, self.count))
        return self.builder.add(start, steps)

    def lane(self, lane: int | Value) -> Value:
        """The number in one lane."""
        if isinstance(lane, int) and isinstance(self.stride, int):
            return self.base + self.stride * lane
        return self.base + (lane if isinstance(lane, Value) else self.base.constant(lane)) * self.stride

    def __neg__(self) -> Value:
        return Strided(-self.base, -self.stride, self.count)

    @staticmethod
    def combined(left: Value, right: Value, operation: str) -> Value | None:
        """A sum, difference or product (`Add`, `Sub`, `Mult`) in which a step is still fixed, if it is."""
        one, other = (value.stride if isinstance(value, Strided) else 0 for value in (left, right))
        bases = [value.base if isinstance(value, Strided) else value for value in (left, right)]
        if any(base.lanes > 1 for base in bases):
            return None
        count = left.lanes if isinstance(left, Strided) else right.lanes
        if operation == "Mult":
            if isinstance(left, Strided) and isinstance(right, Strided):
                return None
            stride = _product(one, bases[1]) if isinstance(left, Strided) else _product(other, bases[0])
            return Strided(bases[0] * bases[1], stride, count)
        is_sum = operation == "Add"
        start = bases[0] + bases[1] if is_sum else bases[0] - bases[1]
        if isinstance(other, int) and other == 0:
            return Strided(start, one, count)
        if isinstance(one, int) and isinstance(other, int):
            return Strided(start, one + other if is_sum else one - other, count)
        first = one if isinstance(one, Value) else start.constant(one)
        return Strided(start, first + other if is_sum else first - other, count)


def _product(stride: int | Value, factor: Value) -> int | Value:
    if isinstance(stride, int) and isinstance(factor.llvm, ir.Constant):
        return stride * int(factor.llvm.constant)
    return factor if isinstance(stride, int) and stride == 1 else factor * stride


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector that holds a number in every lane."""
    if isinstance(scalar, ir.Constant):
        return _known_splat(scalar, lanes)
    undefined = _known_splat(ir.Constant(scalar.type, ir.Undefined), lanes)
    zero = known_number("i32", 0)
    return builder.shuffle_vector(builder.insert_element(undefined, scalar, zero), undefined, _known_splat(zero, lanes))


def select(condition: Value, chosen: Value | float, otherwise: Value | float) -> Value:
    """`chosen` where the condition holds, else `otherwise`; at least one of them is a value."""
    pattern = chosen if isinstance(chosen, Value) else otherwise
    if not isinstance(pattern, Value):
        raise TypeError("select needs a value to know the type of its constants")
    left, right = pattern.lift(chosen), pattern.lift(otherwise)
    return pattern.make(pattern.builder.select(condition.llvm, left.llvm, right.llvm))


def intrinsic(name: str, *operands: Value, result: str | None = None) -> Value:
    """Call an LLVM intrinsic such as `llvm.fabs` that is overloaded on the type of its first operand."""
    first = operands[0]
    kinds = [operand.llvm.type for operand in operands]
    result_type = llvm_type(result or first.type, first.lanes)
    overloads = [result_type, kinds[0]] if result else [kinds[0]]
    signature = ir.FunctionType(result_type, kinds)
    full_name = ".".join([name, *(_overload_suffix(kind) for kind in overloads)])
    function = declare(first.builder.module, full_name, signature)
    return first.make(first.builder.call(function, [operand.llvm for operand in operands]), result)


def _overload_suffix(kind: Any) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_overload_suffix(kind.element)}"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64"


def declare(module: Any, name: str, signature: Any) -> Any:
    """The function of that name in the module, declared on first use."""
    known = module.globals.get(name)
    return known if known is not None else ir.Function(module, signature, name)


def fma(a: Value, b: Value | float, c: Value | float) -> Value:
    """`a * b + c` with one rounding where the machine has it as one instruction, else with two."""
    if not host_has_fma():
        return a * b + c
    return intrinsic("llvm.fma", a, a.lift(b), a.lift(c))


def absolute(x: Value) -> Value:
    """Absolute value of a float."""
    return intrinsic("llvm.fabs", x)


def copysign(magnitude: Value, sign: Value) -> Value:
    """The magnitude with the sign bit of the second operand."""
    return intrinsic("llvm.copysign", magnitude, magnitude.lift(sign))


def square_root(x: Value) -> Value:
    """Correctly rounded square root."""
    return intrinsic("llvm.sqrt", x)


def horner(x: Value, coefficients: tuple[float, ...]) -> Value:
    """Evaluate a polynomial, lowest coefficient first, by Estrin's scheme: short chains instead of few operations."""
    terms: list[Value] = [x.constant(c) for c in coefficients]
    power = x
    while len(terms) > 1:
        pairs = [fma(power, terms[i + 1], terms[i]) for i in range(0, len(terms) - 1, 2)]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
        if len(terms) > 1:
            power = power * power
    return terms[0]


def call_library(name: str, *operands: Value) -> Value:
    """Call a function of the C mathematical library, lane by lane; the single precision name ends in `f`."""
    first = operands[0]
    full_name = name + "f" if first.type == "f32" else name
    scalar = SCALARS[first.type]
    function = declare(first.builder.module, full_name, ir.FunctionType(scalar, [scalar] * len(operands)))
    function.attributes.add("nounwind")
    builder = first.builder
    if first.lanes == 1:
        return first.make(builder.call(function, [operand.llvm for operand in operands]))
    result: Any = ir.Constant(first.llvm.type, ir.Undefined)
    for lane in range(first.lanes):
        index = ir.Constant(ir.IntType(32), lane)
        entries = [builder.extract_element(operand.llvm, index) for operand in operands]
        result = builder.insert_element(result, builder.call(function, entries), index)
    return first.make(result)
