"""States on disk in generated code: helpers that hand a block of memory to `disk_store`, and the primitives they call.

A state is moved array by array. A fault is a negative number in the place of the ticket, which later calls hand on.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from llvmlite import ir

from dgraph.kernels.disk_store import ROUTINES, SYMBOL_PREFIX
from dgraph.kernels.lapack_source import helper_name
from dgraph.kernels.nests import WIDTHS
from dgraph.kernels.primitives import Primitive, register
from dgraph.kernels.values import SCALARS, Value, declare

_WRITE = """\
def kernel_disk_write_{t}(ticket: pointer_i64, state: pointer_{t}, n: i64):
    store_i64(ticket, 0, disk_write(load_i64(ticket, 0), address_{t}(state), n * {width}))
"""

_READ = """\
def kernel_disk_read_{t}(state: pointer_{t}, ticket: pointer_i64, part: i64, n: i64):
    is_last = load_i64(ticket, 1)
    store_i64(ticket, 0, disk_read(load_i64(ticket, 0), part, address_{t}(state), n * {width}, is_last))
"""

_CHOICE = """\
def kernel_disk_{name}_i64(given: pointer_i64):
    store_i64(given, 0, disk_{name}({numbers}))
"""


def _choice(name: str) -> str:
    return _CHOICE.format(name=name, numbers=", ".join(f"load_i64(given, {at})" for at in range(ROUTINES[name])))


_HELPERS = {
    **{helper_name("disk_write", type_): _WRITE.format(t=type_, width=width) for type_, width in WIDTHS.items()},
    **{helper_name("disk_read", type_): _READ.format(t=type_, width=width) for type_, width in WIDTHS.items()},
    **{helper_name(f"disk_{name}", "i64"): _choice(name) for name in ("drop", "distance", "advance", "worth")},
}


def disk_helpers_for(parts: Iterable[str]) -> list[str]:
    """The helpers that source calls."""
    sources = list(parts)
    return [text for name, text in _HELPERS.items() if any(f"{name}(" in source for source in sources)]


def _call(routine: str, *operands: Value) -> Value:
    first = operands[0]
    number = SCALARS["i64"]
    signature = ir.FunctionType(number, [number] * len(operands))
    function = declare(first.builder.module, SYMBOL_PREFIX + routine, signature)
    return first.make(first.builder.call(function, [operand.llvm for operand in operands]), "i64")


for _routine, _count in ROUTINES.items():
    register(Primitive(f"disk_{_routine}", ("i64",) * _count, "i64", partial(_call, _routine)))
