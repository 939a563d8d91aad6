"""The names under which object code refers to matrix products of our own, and which kinds of them there are."""

from __future__ import annotations

from typing import Literal

SYMBOL_PREFIX = "dgraph_product_"
"""What these names begin with; the kind and the type follow."""

Triangle = Literal["whole", "columns", "rows", "corner"]
"""Which entries of a product count, where `more` is 0 (else exactly the others):

    whole      all
    columns    k < column + shift in the sum of a column
    rows       k < row + shift in the sum of a row
    corner     column < row + shift; other entries of the result are left as they are
"""

Kind = Triangle | Literal["nested"]
"""What a product is called for: a nested one is whole, of rows and summed indices that come in runs."""

TRIANGLES: tuple[Triangle, ...] = ("whole", "columns", "rows", "corner")

_ALL: tuple[Kind, ...] = (*TRIANGLES, "nested")
KINDS = {f"{kind}_{type_}": (kind, type_) for kind in _ALL for type_ in ("f32", "f64")}
"""Kind and type by the name of a product, as `whole_f64`."""


def product_symbol(kind: str) -> str:
    """The name of a product such as `whole_f64`."""
    return SYMBOL_PREFIX + kind
