"""Passes: functions from graph to graph that keep the meaning. Importing this package registers them all."""

from dgraph.passes import (
    common_subexpressions,
    dead_code,
    expand_arrays,
    fold_constants,
    hoist,
    inline,
    merge_spaces,
    producers,
    products,
    simplify,
    sink,
    tidy_spaces,
)
from dgraph.passes.base import PASSES, Pass, graph_pass, run_passes
from dgraph.passes.precision import change_precision

__all__ = [
    "FUSE",
    "OPTIMISE",
    "PASSES",
    "Pass",
    "change_precision",
    "common_subexpressions",
    "dead_code",
    "expand_arrays",
    "fold_constants",
    "graph_pass",
    "hoist",
    "inline",
    "merge_spaces",
    "producers",
    "products",
    "run_passes",
    "simplify",
    "sink",
    "tidy_spaces",
]

OPTIMISE = [
    "drop_stop_gradient",
    "simplify",
    "common_subexpressions",
    "dead_code",
    "hoist",
    "sink",
    "common_subexpressions",
    "dead_code",
]
"""What runs after derivatives are expanded."""

FUSE = [
    "expand_arrays",
    "hoist",
    "find_products",
    "tidy_spaces",
    "common_subexpressions",
    "dead_code",
    "fuse_producers",
    "dead_code",
    "merge_spaces",
    "tidy_spaces",
    "simplify",
    "common_subexpressions",
    "dead_code",
]
"""What makes loop nests of arrays."""
