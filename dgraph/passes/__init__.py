"""Passes: functions from graph to graph that keep the meaning. Importing this package registers them all."""

from dgraph.passes import (
    batch_products,
    common_subexpressions,
    dead_code,
    expand_arrays,
    fold_constants,
    hoist,
    inline,
    loop_products,
    merge_spaces,
    producers,
    products,
    select_choices,
    simplify,
    sink,
    stack_tapes,
    tidy_spaces,
)
from dgraph.passes.base import PASSES, Pass, graph_pass, run_passes

__all__ = [
    "FUSE",
    "OPTIMISE",
    "PASSES",
    "Pass",
    "batch_products",
    "common_subexpressions",
    "dead_code",
    "expand_arrays",
    "fold_constants",
    "graph_pass",
    "hoist",
    "inline",
    "loop_products",
    "merge_spaces",
    "producers",
    "products",
    "run_passes",
    "select_choices",
    "simplify",
    "sink",
    "stack_tapes",
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
    "batch_products",
    "dead_code",
    "find_products",
    "stack_tapes",
    "loop_products",
    "dead_code",
    "expand_arrays",
    "hoist",
    "tidy_spaces",
    "common_subexpressions",
    "dead_code",
    "fuse_producers",
    "find_products",
    "dead_code",
    "merge_spaces",
    "tidy_spaces",
    "select_choices",
    "simplify",
    "common_subexpressions",
    "dead_code",
]
"""What makes loop nests of arrays."""
