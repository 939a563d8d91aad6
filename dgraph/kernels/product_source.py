"""Matrix products on register tiles: the loops around the tiles, as generated source.

What is summed is cut into blocks of `DEPTH`: each block's sums start from zero and are added to the result in order, so
bits depend on the sizes alone. For a block, panels of a few vectors of columns are visited, and for each the rows, a
tile at a time. Columns that do not lie side by side, or that many rows read again, are first copied into a panel. Rows
and sums of a nested product come in runs, as the pixels of a window do.
"""

from __future__ import annotations

from dgraph.kernels.primitives import PRIMITIVES, Primitive, register
from dgraph.kernels.processor import Processor, this_processor
from dgraph.kernels.product_panels import pack, pack_turned, panel
from dgraph.kernels.product_symbols import Kind
from dgraph.kernels.product_tiles import tile, tile_name

DEPTH = 256
"""So many products are added up in registers before they are added to the result."""

ROWS = 256
"""So many rows use a panel before the next one is packed: their part of the left factor stays in the cache."""

NEAR = 32768
"""Bytes of a matrix that stay in the first cache while rows are multiplied by it."""

FEW = 24
"""So many tiles of rows read columns in place rather than from a copy: reading ahead hides how far apart they lie."""

MOST = 3
"""The most vectors of columns in a tile."""

_TILES: dict[int, dict[int, tuple[int, ...]]] = {
    32: {3: (8, 4, 1), 2: (12, 4, 1), 1: (12, 4, 1)},
    16: {3: (4, 1), 2: (6, 1), 1: (8, 1)},
}
"""Rows of the tiles that a number of registers allows, by vectors of columns: sums, columns and an entry fit."""

_PRODUCT = """\
def entry(
    m: i64, n: i64, depth: i64, a: pointer_{t}, a_row: i64, a_k: i64, b: pointer_{t}, b_k: i64, b_column: i64,
    c: pointer_{t}, c_row: i64, add: i64, {others}
) -> i64:
    full = (n + {last_lane}) // {lanes}
    panels = (full + {most} - 1) // {most}
    if panels == 0:
        return 0
    width = (full + panels - 1) // panels * {lanes}
    memory = panel_{t}(0)
    # A panel is worth a copy where many tiles read it, from further apart than the first cache holds.
    packs = b_column != 1 or (m > {few} and b_k > width and minimum_i64(depth, {depth}) * b_k > {near})
    for start in range(0, depth + select_i64(depth == 0, 1, 0), {depth}):
        deep = minimum_i64(depth - start, {depth})
        adds = select_i64(start > 0, 1, add)
{starts}        for top in range(0, m, {rows}):
            bottom = minimum_i64(m, top + {rows})
            for at in range((n + width - 1) // width):
                column = at * width
                columns = minimum_i64(n - column, width)
                vectors = (columns + {last_lane}) // {lanes}
                place = offset_{t}(b, b_start + column * b_column)
                step = b_k
{leap}                if packs:
{packing}{limits}                row = top
{visits}    return 0
"""

_PACKING = """\
{indent}if b_column == 1:
{indent}    pack_{t}({into}, width, {source}, b_k, {count}, columns)
{indent}elif b_k == 1:
{indent}    pack_turned_{t}({into}, width, {source}, b_column, {count}, columns)
{indent}else:
{indent}    for k in range({count}):
{indent}        for j in range(columns):
{indent}            store_{t}({into}, k * width + j, load_{t}({source}, k * b_k + j * b_column))
"""
_PACKED = """\
                    place = memory
                    step = width
"""
_RUNS = """\
                    done = 0
                    number = k_start
                    while done < deep:
                        count = minimum_i64(k_run - number, deep - done)
                        into = offset_{t}(memory, done * width)
{packing}                        place = offset_{t}(place, b_jump - number * b_k)
                        done = done + count
                        number = 0
"""
_PACKED_RUNS = "                    leap = k_run * width\n"

_STARTS = """\
        a_start = start * a_k
        b_start = start * b_k
"""
_RUN_STARTS = """\
        run = start // maximum_i64(k_run, 1)
        k_start = start - run * k_run
        a_start = run * a_jump + k_start * a_k
        b_start = run * b_jump + k_start * b_k
"""

_VISIT = """\
{indent}rows = minimum_i64(bottom - row, {rows})
{limits}{indent}{call}(
{indent}    offset_{t}(a, {a_row} + a_start), a_row, a_k, place, step, offset_{t}(c, {c_row} + column), c_row,
{indent}    rows, columns, adds, {ranges}
{indent})
{indent}row = row + {rows}
"""

_RUN_OPERANDS = ", ".join(f"{name}: i64" for name in ("row_run", "a_leap", "c_leap", "k_run", "a_jump", "b_jump"))
_RUN_ROWS = """\
{indent}run_of_row = row // row_run
{indent}row_start = row - run_of_row * row_run
"""
_RUNS_OF_TILE = "deep, row_run, row_start, a_leap, c_leap, k_run, k_start, a_jump, leap"

_WHOLE = "0, 0, deep, deep, 0, more"
_PART = "begin, from_all, to_all, end, diagonal, more"
_LIMITS = """\
{indent}diagonal = {place} + shift - start
{indent}low = minimum_i64(maximum_i64(diagonal, 0), deep)
{indent}high = minimum_i64(maximum_i64(diagonal + {many} - 1, 0), deep)
{indent}begin = select_i64(more == 0, 0, low)
{indent}from_all = select_i64(more == 0, 0, high)
{indent}to_all = select_i64(more == 0, low, deep)
{indent}end = select_i64(more == 0, high, deep)
"""
_CORNER = "0, 0, deep, deep, row + shift - column, more"


def product_source(kind: Kind, type_name: str, processor: Processor) -> str:
    """The source of a product for a processor, whose primitives are registered."""
    lanes = processor.lanes(type_name)
    tiles = _TILES[processor.registers]
    _register(kind, type_name, processor)
    is_nested = kind == "nested"
    limits = _LIMITS.format(indent=" " * 16, place="column", many="columns") if kind == "columns" else ""
    visits = "".join(
        _visits(kind, type_name, tiles[vectors], vectors, "if" if vectors == MOST else "elif")
        for vectors in range(MOST, 0, -1)
    )
    return _PRODUCT.format(
        t=type_name,
        others=_RUN_OPERANDS if is_nested else "shift: i64, more: i64",
        lanes=lanes,
        last_lane=lanes - 1,
        most=MOST,
        few=FEW * tiles[MOST][0],
        depth=DEPTH,
        near=NEAR * lanes // processor.vector_bytes,
        rows=ROWS,
        starts=_RUN_STARTS if is_nested else _STARTS,
        leap="                leap = b_jump\n" if is_nested else "",
        packing=_packing(type_name, is_nested),
        limits=limits,
        visits=visits,
    )


def _packing(type_name: str, is_nested: bool) -> str:
    """What copies columns into a panel."""
    if not is_nested:
        plain = _PACKING.format(indent=" " * 20, t=type_name, into="memory", source="place", count="deep")
        return plain + _PACKED
    inner = _PACKING.format(indent=" " * 24, t=type_name, into="into", source="place", count="count")
    return _RUNS.format(t=type_name, packing=inner) + _PACKED + _PACKED_RUNS


def _visits(kind: Kind, type_name: str, choices: tuple[int, ...], vectors: int, word: str) -> str:
    """The loop over rows for panels of so many vectors."""
    text = [f"{' ' * 16}{word} vectors == {vectors}:\n{' ' * 20}while row < bottom:\n"]
    is_nested = kind == "nested"
    for at, rows in enumerate(choices):
        least = choices[at + 1] if at + 1 < len(choices) else 0
        keyword = "if" if at == 0 else "elif"
        head = f"{keyword} bottom - row > {least}:" if least else "else:"
        indent = " " * 28
        limits = {"rows": _LIMITS, "nested": _RUN_ROWS}.get(kind, "").format(indent=indent, place="row", many="rows")
        visit = _VISIT.format(
            indent=indent,
            rows=rows,
            limits=limits,
            call=tile_name(kind, rows, vectors, type_name),
            a_row="run_of_row * a_leap + row_start * a_row" if is_nested else "row * a_row",
            c_row="run_of_row * c_leap + row_start * c_row" if is_nested else "row * c_row",
            ranges={"whole": _WHOLE, "corner": _CORNER, "nested": _RUNS_OF_TILE}.get(kind, _PART),
            t=type_name,
        )
        text.append(f"{' ' * 24}{head}\n{visit}")
    return "".join(text)


def _register(kind: Kind, type_name: str, processor: Processor) -> None:
    lanes = processor.lanes(type_name)
    made: list[Primitive] = [
        tile(kind, rows, vectors, lanes, type_name)
        for vectors, choices in _TILES[processor.registers].items()
        for rows in choices
    ]
    # Turning a run that ends inside of a vector fills up that vector.
    deepest = DEPTH + lanes if kind == "nested" else DEPTH
    made += [panel(type_name, deepest * MOST * lanes), pack(type_name, lanes), pack_turned(type_name, lanes)]
    for primitive in made:
        PRIMITIVES.pop(primitive.name, None)
        register(primitive)


def this_product(kind: Kind, type_name: str) -> str:
    """The source of a product for this processor."""
    return product_source(kind, type_name, this_processor())
