"""Matrix products beside NumPy's OpenBLAS: squares, skinny ones, batches with strides, triangles.

    python benchmarks/products.py         # prints, and writes its section of docs/benchmarks.md

One thread on one core for both; answers are compared before anything is timed.
"""

from collections.abc import Callable
from datetime import date
from functools import partial

from measure import fastest, machine, pin_to_one_core, versions, write_section

pin_to_one_core()

import numpy as np  # noqa: E402

import dgraph as dg  # noqa: E402

PROGRAM = """
def plain[m, k, n](a: {t}[m, k], b: {t}[k, n]) -> {t}[m, n] = a @ b

def turned[m, k, n](a: {t}[k, m], b: {t}[k, n]) -> {t}[m, n] = transpose(a) @ b

def batch[m, q, k, n](a: {t}[m, q, k], b: {t}[q, n, k]) -> {t}[m, q, n]:
    z[i, c, r] = sum(a[i, c, s] * b[c, r, s] for s)
    return z

def triangle[m, q, k](a: {t}[m, q, k], b: {t}[q, k, k]) -> {t}[m, q, k]:
    z[i, c, r] = sum(a[i, c, s] * b[c, r, s] for s if s < r)
    return z
"""
PLAIN = [(n, n, n) for n in (4, 8, 16, 32, 64, 128, 256, 512, 1024)]
PLAIN += [(1000, 10, 10), (64, 784, 128), (32, 128, 512), (16, 150, 100)]
TURNED = [(10, 1000, 10), (784, 64, 128)]
BATCHES = [(1000, 25, 10), (1000, 50, 32)]


def measured(call: Callable[[], object], peer: Callable[[], object], operations: float) -> str:
    """Billions of operations in a second, of both."""
    seconds = fastest({"dgraph": call, "NumPy": peer})
    ours, theirs = (operations / seconds[name] / 1e9 for name in ("dgraph", "NumPy"))
    return f"{ours:.3g} | {theirs:.3g}"


def row(words: str, name: str, shapes: list[tuple[int, ...]], operations: float) -> str:
    """A line of the table: single precision, then double."""
    cells = []
    for type_name, dtype in (("f32", np.float32), ("f64", np.float64)):
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        call = getattr(dg.parse(PROGRAM.format(t=type_name)), name)
        bound = dg.compile(call).bind(a, b)
        left, right = a, b
        if name == "turned":
            left = a.T
        elif name != "plain":
            left, right = a.transpose(1, 0, 2), (np.tril(b, -1) if name == "triangle" else b).transpose(0, 2, 1)
        expected = left @ right
        peer = partial(np.matmul, left, right, out=np.empty_like(expected))
        found = np.asarray(bound())
        worst = float(np.abs((found if found.ndim == 2 else found.transpose(1, 0, 2)) - expected).max())
        worst /= float(np.abs(expected).max())
        if not worst < 1e3 * np.finfo(dtype).eps:
            raise SystemExit(f"{words}: the answers differ by {worst:.1e}")
        cells.append(measured(bound, peer, operations))
    return f"| {words} | {' | '.join(cells)} |"


def main() -> None:
    """Measure everything, print it, write the page."""
    rows = [row(f"{m} x {k} x {n}", "plain", [(m, k), (k, n)], 2.0 * m * k * n) for m, k, n in PLAIN]
    for m, k, n in TURNED:
        rows.append(row(f"{m} x {k} x {n}, the first turned", "turned", [(k, m), (k, n)], 2.0 * m * k * n))
    for m, q, k in BATCHES:
        shapes = [(m, q, k), (q, k, k)]
        rows.append(row(f"batch of {q}, {m} x {k} x {k}, strided", "batch", shapes, 2.0 * m * q * k * k))
        rows.append(row("the same over a triangle, useful operations", "triangle", shapes, m * q * k * (k - 1.0)))
    lines = [
        "Written by `python benchmarks/products.py`. Billions of operations in a second, calls included; dgraph's are",
        "bound. NumPy multiplies by OpenBLAS; batches are transposed views for it, triangles squares with zeros.",
        "",
        f"{date.today().isoformat()}; {machine()};",
        f"dgraph {dg.__version__}, {versions('numpy', 'llvmlite')}",
        "",
        "| rows x summed x columns | dgraph f32 | NumPy f32 | dgraph f64 | NumPy f64 |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    write_section("Matrix products", lines)


if __name__ == "__main__":
    main()
