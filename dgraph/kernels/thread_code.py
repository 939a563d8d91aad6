"""Loops of generated source whose turns several threads share: `for part in shared(parts)` around one call.

The call's arguments that are the same for all turns are put where threads find them, and a function that makes the
call for one turn is handed to the pool, whose address is in the name `pool`. Where that is 0, or there is one turn, one
thread takes all turns.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from dgraph.kernels.primitives import Primitive, register
from dgraph.kernels.values import SCALARS, Value

if TYPE_CHECKING:
    from dgraph.kernels.function_code import FunctionCode

SHARED = "shared"
SLOT = "thread_slot"
_HELPER = "dgraph.share"
_I64 = SCALARS["i64"]
_BYTES = ir.PointerType(ir.IntType(8))
_TURN = ir.FunctionType(ir.VoidType(), [_BYTES, _I64, _I64])
_SHARE = ir.FunctionType(ir.VoidType(), [ir.PointerType(_I64), _TURN.as_pointer(), _BYTES, _I64, _I64])


def thread_slot(turn: Value) -> Value:
    """Which of the memories that threads have apart belongs to the thread of a turn: outside of the pool the first."""
    return turn.constant(0)


register(Primitive(SLOT, ("i64",), "i64", thread_slot))


def share(code: FunctionCode, count: Value, call: ast.Call, turn: str) -> None:
    """Emit the loop."""
    builder = code.builder
    address, most = (code.read(ast.Name(id=name)).llvm for name in ("pool", "threads"))
    body, context = _turn(code, call, turn)
    builder.call(_sharing(code.module), [address, most, body, context, count.llvm])


def _sharing(module: Any) -> Any:
    """The function that hands turns to the pool, or takes them one after another."""
    known = module.globals.get(_HELPER)
    if known is not None:
        return known
    kind = ir.FunctionType(ir.VoidType(), [_I64, _I64, _TURN.as_pointer(), _BYTES, _I64])
    function = ir.Function(module, kind, _HELPER)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    address, most, body, context, count = function.args
    blocks = [function.append_basic_block(name) for name in ("entry", "together", "apart", "one", "done")]
    entry, together, apart, one, done = blocks
    builder = ir.IRBuilder(entry)
    is_shared = builder.and_(builder.icmp_signed("!=", address, _I64(0)), builder.icmp_signed(">", count, _I64(1)))
    builder.cbranch(is_shared, together, apart)
    builder.position_at_end(together)
    words = builder.inttoptr(address, ir.PointerType(_I64))
    pooled = builder.inttoptr(builder.load(words, typ=_I64), _SHARE.as_pointer())
    builder.call(pooled, [words, body, context, count, most])
    builder.branch(done)
    builder.position_at_end(apart)
    turn = builder.phi(_I64)
    turn.add_incoming(_I64(0), entry)
    builder.cbranch(builder.icmp_signed("<", turn, count), one, done)
    builder.position_at_end(one)
    builder.call(body, [context, turn, _I64(0)])
    turn.add_incoming(builder.add(turn, _I64(1)), one)
    builder.branch(apart)
    builder.position_at_end(done)
    builder.ret_void()
    return function


def _turn(code: FunctionCode, call: ast.Call, turn: str) -> tuple[Any, Any]:
    """The function for one turn, and the memory with what all turns are given."""
    assert isinstance(call.func, ast.Name)
    signature = code.known[call.func.id]
    given = {place: code.expression(node).llvm for place, node in enumerate(call.args) if not _is_own(node, turn)}
    kind = ir.LiteralStructType([value.type for value in given.values()])
    with code.builder.goto_entry_block():
        context = code.builder.alloca(kind)
    for field, value in enumerate(given.values()):
        code.builder.store(value, _field(code.builder, context, field))
    function = ir.Function(code.module, _TURN, f"{call.func.id}.{code.module.get_unique_name('turn')}")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    memory, part, slot = function.args
    held = builder.bitcast(memory, ir.PointerType(kind))
    fields = {place: field for field, place in enumerate(given)}
    operands = []
    for place, node in enumerate(call.args):
        if place in fields:
            operands.append(builder.load(_field(builder, held, fields[place]), typ=given[place].type))
        else:
            operands.append(part if isinstance(node, ast.Name) else slot)
    builder.call(signature.function, operands)
    builder.ret_void()
    return function, code.builder.bitcast(context, _BYTES)


def _field(builder: Any, memory: Any, field: int) -> Any:
    number = ir.IntType(32)
    return builder.gep(memory, [number(0), number(field)])


def _is_own(node: ast.expr, turn: str) -> bool:
    """Whether an argument is the number of the turn, or the slot of its thread."""
    match node:
        case ast.Name(id=name):
            return name == turn
        case ast.Call(func=ast.Name(id=name)):
            return name == SLOT
    return False
