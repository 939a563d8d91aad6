"""Runs generated source as plain Python, so that loop programs are compared with graphs without compiling anything."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from dgraph.ir.op import OPS
from dgraph.kernels.bind import MISFIT, Layout, state_words
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.interface import Interface
from dgraph.kernels.numba_source import layout_of, print_program
from dgraph.kernels.product_symbols import TRIANGLES
from dgraph.kernels.values import LANE_COUNTS

KINDS = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8", "bool": "bool"}
C_TYPES = {
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8,
    "bool": ctypes.c_bool,
}
LONG_NAMES = {"floor_div": "floor_divide", "and": "logical_and", "or": "logical_or", "not": "logical_not"}


class Space(dict):
    """The names that generated source may use."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Any] = []
        self["range"] = self["shared"] = self["one_by_one"] = range
        self["thread_slot"] = lambda _: 0
        self.update({f"lanes_{count}": range for count in LANE_COUNTS})
        self["fill_zero"] = lambda address, count: ctypes.memset(address, 0, count)
        self["copy_bytes"] = lambda target, source, count: ctypes.memmove(target, source, count)
        self["tape_reserve"] = self["arena_reserve"] = self.reserve
        self["bool"] = bool
        self["blas_threads"] = lambda _: 2
        self["set_blas_threads"] = lambda _: None
        self["and_i64"] = lambda x, y: x & y
        self["most_i64"] = lambda x: x
        for type_, kind in KINDS.items():
            self.add_type(type_, np.dtype(kind).type)

    def add_type(self, type_: str, make: Any) -> None:
        width = np.dtype(make).itemsize
        c_type = C_TYPES[type_]
        self[type_] = make if type_ != "bool" else bool
        self[f"inf_{type_}"], self[f"nan_{type_}"] = (make(v) if type_[0] == "f" else None for v in (np.inf, np.nan))

        def load(pointer: int, index: int) -> Any:
            value = c_type.from_address(pointer + width * int(index)).value
            return int(value) if type_ == "i64" else make(value)

        def store(pointer: int, index: int, value: Any) -> None:
            assert type_ == "i64" or isinstance(value, make | float | bool), (type_, type(value))
            c_type.from_address(pointer + width * int(index)).value = value.item() if hasattr(value, "item") else value

        self[f"load_{type_}"], self[f"store_{type_}"] = load, store
        self[f"offset_{type_}"] = lambda pointer, index: pointer + width * index
        self[f"address_{type_}"] = self[f"pointer_{type_}"] = lambda pointer: pointer
        for other, kind in KINDS.items():
            self[f"convert_{other}_{type_}"] = lambda x, k=kind: wrapped(np.array(x, k).astype(make)[()])
        self[f"select_{type_}"] = lambda c, a, b: a if c else b
        self[f"sum_{type_}"] = lambda p, n: sum((load(p, k) for k in range(n)), make(0))
        for triangle in TRIANGLES:
            self[f"product_{triangle}_{type_}"] = self.product(triangle, type_, make)
        self[f"product_nested_{type_}"] = self.nested_product(type_, make)

    def product(self, triangle: str, type_: str, make: Any) -> Any:
        def run(m, n, depth, a, a_row, a_k, b, b_k, b_column, c, c_row, adds, shift, more):  # type: ignore[no-untyped-def]
            load, store = self[f"load_{type_}"], self[f"store_{type_}"]
            for i in range(m):
                for j in range(n):
                    total = load(c, i * c_row + j) if adds else make(0)
                    for k in range(depth):
                        low, high = {"columns": (k, j), "rows": (k, i), "corner": (j, i)}.get(triangle, (0, 1 - shift))
                        if (low < high + shift) != bool(more):
                            total += load(a, i * a_row + k * a_k) * load(b, k * b_k + j * b_column)
                    if triangle != "corner" or (j < i + shift) != bool(more):
                        store(c, i * c_row + j, total)

        return run

    def nested_product(self, type_: str, make: Any) -> Any:
        def run(m, n, depth, a, a_row, a_k, b, b_k, b_column, c, c_row, adds, *runs):  # type: ignore[no-untyped-def]
            row_run, a_leap, c_leap, k_run, a_jump, b_jump = runs
            load, store = self[f"load_{type_}"], self[f"store_{type_}"]
            for i in range(m):
                row, line = i // row_run * a_leap + i % row_run * a_row, i // row_run * c_leap + i % row_run * c_row
                for j in range(n):
                    total = load(c, line + j) if adds else make(0)
                    for k in range(depth):
                        to_a, to_b = (
                            k // k_run * jump + k % k_run * step for jump, step in ((a_jump, a_k), (b_jump, b_k))
                        )
                        total += load(a, row + to_a) * load(b, to_b + j * b_column)
                    store(c, line + j, total)

        return run

    def reserve(self, row: int, count: int) -> int:
        """A tape that moves every time it grows, to show who keeps pointers too long."""
        base, capacity, top, _raw = (ctypes.c_int64.from_address(row + 8 * k) for k in range(4))
        assert top.value <= count or capacity.value == 0 or capacity.value >= count
        if capacity.value < count:
            block = np.full(count // 8 + 2, -1, np.int64)
            self.blocks.append(block)
            if base.value:
                ctypes.memmove(block.ctypes.data, base.value, capacity.value)
                ctypes.memset(base.value, 0xFF, capacity.value)
            base.value, capacity.value = block.ctypes.data, count
        return base.value

    def __missing__(self, name: str) -> Any:
        stem, _, type_ = name.rpartition("_")
        kind = KINDS.get(type_)
        stem = LONG_NAMES.get(stem, stem)
        if kind is None or (stem not in OPS and stem != "xor"):
            raise KeyError(name)
        make = np.dtype(kind).type

        def run(*operands: Any) -> Any:
            if stem == "xor":
                return bool(operands[0]) != bool(operands[1])
            if stem == "powi":
                return wrapped(OPS[stem](exponent=operands[1]).evaluate(None, make(operands[0])))
            with np.errstate(all="ignore"):
                return wrapped(OPS[stem]().evaluate(None, *(np.array(x, make)[()] for x in operands)))

        return run


def wrapped(value: Any) -> Any:
    """Indices as Python integers."""
    return int(value) if isinstance(value, np.int64) else value


def emulate(graph: Any, arguments: list[Any], extents: dict[str, int] | None = None, checks: str = "on") -> list[Any]:
    """What the generated source computes for leaves of a graph."""
    program = plan_graph(graph, checks=checks)
    source = print_program(program)
    space = Space()
    exec(compile("from __future__ import annotations\n" + source, "<generated>", "exec"), space)
    return run_table(space, program, graph, arguments, extents or {})


def run_table(space: Space, program: Any, graph: Any, arguments: list[Any], extents: dict[str, int]) -> list[Any]:
    layout: Layout = layout_of(program)
    held = [np.require(x, v.type.dtype.numpy, "C") for x, v in zip(arguments, graph.region.inputs, strict=True)]
    table, state = (
        np.zeros(layout.length, np.int64),
        np.zeros(state_words(program.rows, program.scalars, len(program.splits)), np.int64),
    )
    ports = [graph_port(name, value) for name, value in zip(graph.input_names, graph.region.inputs, strict=True)]
    outs = [graph_port(name, value) for name, value in zip(graph.output_names, graph.region.outputs, strict=True)]
    interface = Interface(
        graph.name,
        graph.sizes,
        graph.told_sizes,
        tuple(ports),
        tuple(outs),
        program.checks,
        program.rows,
        scalars=program.scalars,
        rooms=tuple(program.rooms.values()),
        wishes=graph.wishes,
    )
    known = interface.solve([array.shape for array in held], extents, lambda at: int(held[at]))
    for array, slot in zip(held, layout.input_slots, strict=True):
        if array.ndim:
            table[slot : slot + 1 + array.ndim] = [array.ctypes.data, *array.shape]
        else:
            table[slot : slot + 1].view(array.dtype)[0] = array
    for name, slot in zip(layout.size_formals, layout.size_slots, strict=True):
        table[slot] = known[name]
    results = []
    for port, slot in zip(outs, layout.output_slots, strict=True):
        shape = tuple(extent.evaluate(known.__getitem__) for extent in port.type.shape)
        results.append(np.full(shape, 113, port.type.dtype.numpy))
        table[slot] = results[-1].ctypes.data
    table[layout.state_slot] = state.ctypes.data
    if layout.rooms:
        table[layout.arena_slot :] = interface.place_words(known)
    with np.errstate(all="ignore"):
        status = space["entry"](table.ctypes.data)
    assert status != MISFIT
    if status:
        raise interface.failure(status, state[4 * program.rows :])
    return [result if result.ndim else result[()] for result in results]


def graph_port(name: str, value: Any) -> Any:
    from dgraph.kernels.interface import Port

    return Port(name, value.type)
