"""Each pass on graph text: what stands in `tests/golden/passes`, read back, legal, and equal in meaning."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from random_arrays import is_close, is_same

from dgraph.ad import expand
from dgraph.errors import CheckFailed
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Graph, walk
from dgraph.ir.text import parse_graph, print_graph
from dgraph.ops.transform import Transform
from dgraph.passes import PASSES, run_passes

FOLDER = Path(__file__).parents[1] / "golden" / "passes"
SIZES = {"n": 5, "m": 4, "k": 3, "q": 2, "t": 6}
ROUNDS = {
    "expand_arrays",
    "find_products",
    "loop_products",
    "batch_products",
    "narrow_products",
    "spectral",
    "stable_forms",
    "sum_first",
    "order_sums",
}


def cases(text: str) -> Iterator[tuple[str, str]]:
    """Title and graph before the pass, for each case of a file."""
    for case in text.split("# ")[1:]:
        title, _, rest = case.partition("\n")
        yield title, rest.partition("=>")[0].strip() + "\n"


def arguments(graph: Graph) -> list[object]:
    rng = np.random.default_rng(0)
    found: list[object] = []
    for value in graph.region.inputs:
        shape = tuple(extent.evaluate(SIZES.__getitem__) for extent in value.type.shape)
        dtype = value.type.dtype
        integers = rng.integers(0, 2, shape) if dtype.kind == "bool" else rng.integers(0, 4, shape)
        found.append((rng.uniform(0.5, 2, shape) if dtype.is_float else integers).astype(dtype.numpy))
    return found


def values(graph: Graph) -> object:
    if any(isinstance(node.op, Transform) for node in walk(graph.region)):
        graph = expand(graph)
    try:
        return evaluate(graph, arguments(graph))
    except CheckFailed as fault:
        return str(fault)


@pytest.mark.parametrize("name", sorted(PASSES))
def test_pass(name: str, golden: Callable[[str, str], None]):
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    written = []
    for title, before in cases(text):
        graph = parse_graph(before)
        before = print_graph(graph)
        assert print_graph(parse_graph(before)) == before, title
        after = run_passes(graph, [name, "dead_code"], verify=True)
        shown = print_graph(after)
        assert print_graph(parse_graph(shown)) == shown, title
        one, other = values(graph), values(after)
        if isinstance(one, str) or isinstance(other, str):
            assert one == other, title
        else:
            assert (is_close if name in ROUNDS else is_same)(one, other), title
        written.append(f"# {title}\n{before}=>\n{shown}")
    golden(f"passes/{name}.txt", "\n".join(written))
