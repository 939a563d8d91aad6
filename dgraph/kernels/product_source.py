"""Matrix products on register tiles: the loops around the tiles, as generated source.

What is summed is cut into blocks of `DEPTH`: each block's sums start from zero and are added to the result in order, so
bits depend on the sizes alone. For a block, panels of a few vectors of columns are visited, and for each the rows, a
tile at a time. Columns that do not lie side by side, or that many rows read again, are first copied into a panel.
"""

from __future__ import annotations

from dgraph.kernels.primitives import PRIMITIVES, Primitive, register
from dgraph.kernels.processor import Processor, this_processor
from dgraph.kernels.product_panels import pack, pack_turned, panel
from dgraph.kernels.product_symbols import Triangle
from dgraph.kernels.product_tiles import tile, tile_name

DEPTH = 256
"""So many products are added up in registers before they are added to the result."""

ROWS = 256
"""So many rows use a panel before the next one is packed: their part of the left factor stays in the cache."""

NEAR = 32768
"""Bytes of a matrix that stay in the first cache while rows are multiplied by it."""

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
    c: pointer_{t}, c_row: i64, add: i64, shift: i64, more: i64
) -> i64:
    full = (n + {last_lane}) // {lanes}
    panels = (full + {most} - 1) // {most}
    if panels == 0:
        return 0
    width = (full + panels - 1) // panels * {lanes}
    memory = panel_{t}(0)
    # A panel is worth a copy where more than two tiles read it, from further apart than the first cache holds.
    packs = b_column != 1 or (m > {few} and b_k > width and minimum_i64(depth, {depth}) * b_k > {near})
    for start in range(0, depth + select_i64(depth == 0, 1, 0), {depth}):
        deep = minimum_i64(depth - start, {depth})
        adds = select_i64(start > 0, 1, add)
        for top in range(0, m, {rows}):
            bottom = minimum_i64(m, top + {rows})
            for at in range((n + width - 1) // width):
                column = at * width
                columns = minimum_i64(n - column, width)
                vectors = (columns + {last_lane}) // {lanes}
                place = offset_{t}(b, start * b_k + column * b_column)
                step = b_k
                if packs:
                    if b_column == 1:
                        pack_{t}(memory, width, place, b_k, deep, columns)
                    elif b_k == 1:
                        pack_turned_{t}(memory, width, place, b_column, deep, columns)
                    else:
                        for k in range(deep):
                            for j in range(columns):
                                store_{t}(memory, k * width + j, load_{t}(place, k * b_k + j * b_column))
                    place = memory
                    step = width
{limits}                row = top
{visits}    return 0
"""

_VISIT = """\
{indent}rows = minimum_i64(bottom - row, {rows})
{limits}{indent}{call}(
{indent}    offset_{t}(a, row * a_row + start * a_k), a_row, a_k, place, step,
{indent}    offset_{t}(c, row * c_row + column), c_row,
{indent}    rows, columns, adds, {ranges}, more
{indent})
{indent}row = row + {rows}
"""

_WHOLE = "0, 0, deep, deep, 0"
_PART = "begin, from_all, to_all, end, diagonal"
_LIMITS = """\
{indent}diagonal = {place} + shift - start
{indent}low = minimum_i64(maximum_i64(diagonal, 0), deep)
{indent}high = minimum_i64(maximum_i64(diagonal + {many} - 1, 0), deep)
{indent}begin = select_i64(more == 0, 0, low)
{indent}from_all = select_i64(more == 0, 0, high)
{indent}to_all = select_i64(more == 0, low, deep)
{indent}end = select_i64(more == 0, high, deep)
"""
_CORNER = "0, 0, deep, deep, row + shift - column"


def product_source(triangle: Triangle, type_name: str, processor: Processor) -> str:
    """The source of a product for a processor, whose primitives are registered."""
    lanes = processor.lanes(type_name)
    tiles = _TILES[processor.registers]
    _register(triangle, type_name, processor)
    limits = _LIMITS.format(indent=" " * 16, place="column", many="columns") if triangle == "columns" else ""
    visits = "".join(
        _visits(triangle, type_name, tiles[vectors], vectors, "if" if vectors == MOST else "elif")
        for vectors in range(MOST, 0, -1)
    )
    return _PRODUCT.format(
        t=type_name,
        lanes=lanes,
        last_lane=lanes - 1,
        most=MOST,
        few=2 * tiles[MOST][0],
        depth=DEPTH,
        near=NEAR * lanes // processor.vector_bytes,
        rows=ROWS,
        limits=limits,
        visits=visits,
    )


def _visits(triangle: Triangle, type_name: str, choices: tuple[int, ...], vectors: int, word: str) -> str:
    """The loop over rows for panels of so many vectors."""
    text = [f"{' ' * 16}{word} vectors == {vectors}:\n{' ' * 20}while row < bottom:\n"]
    for at, rows in enumerate(choices):
        least = choices[at + 1] if at + 1 < len(choices) else 0
        keyword = "if" if at == 0 else "elif"
        head = f"{keyword} bottom - row > {least}:" if least else "else:"
        indent = " " * 28
        ranges = {"whole": _WHOLE, "corner": _CORNER}.get(triangle, _PART)
        limits = _LIMITS.format(indent=indent, place="row", many="rows") if triangle == "rows" else ""
        call = tile_name(triangle, rows, vectors, type_name)
        visit = _VISIT.format(indent=indent, rows=rows, limits=limits, call=call, ranges=ranges, t=type_name)
        text.append(f"{' ' * 24}{head}\n{visit}")
    return "".join(text)


def _register(triangle: Triangle, type_name: str, processor: Processor) -> None:
    lanes = processor.lanes(type_name)
    made: list[Primitive] = [
        tile(triangle, rows, vectors, lanes, type_name)
        for vectors, choices in _TILES[processor.registers].items()
        for rows in choices
    ]
    made += [panel(type_name, DEPTH * MOST * lanes), pack(type_name, lanes), pack_turned(type_name, lanes)]
    for primitive in made:
        PRIMITIVES.pop(primitive.name, None)
        register(primitive)


def this_product(triangle: Triangle, type_name: str) -> str:
    """The source of a product for this processor."""
    return product_source(triangle, type_name, this_processor())
