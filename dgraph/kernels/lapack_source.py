"""Factorisations as source: helpers on row-major matrices without gaps, which call LAPACK or, for small matrices, loop.

LAPACK takes a row-major matrix for its transpose. So a Cholesky factor is asked for as the other triangle, the rows of
a are exchanged as its columns, and the QR factors are LQ factors: nothing is ever copied to be transposed.
"""

from __future__ import annotations

from collections.abc import Iterable

SMALL = 32
"""Up to this size the loops here are faster than LAPACK: by a factor of 1.7 at 32 for a solve in a loop."""

THREADED = 320
"""From this size on LAPACK may use several threads; waking them costs more than they save before."""

ROOM = 64
"""Entries of work space per row and column: the blocks that LAPACK works in."""

_ALONE = """\
    threads = blas_threads(0)
    alone = n < {threaded} and threads > 1
    if alone:
        set_blas_threads(1)
    {call}
    if alone:
        set_blas_threads(threads)
"""


def _alone(call: str, depth: int = 1) -> str:
    """A call of LAPACK that keeps to one thread for matrices that are not large."""
    text = _ALONE.format(threaded=THREADED, call=call)
    pad = "    " * (depth - 1)
    return "".join(f"{pad}{line}\n" for line in text.splitlines()).rstrip("\n")


_SPOILED = """\
def kernel_spoil_{t}(x: pointer_{t}, count: i64):
    for i in range(count):
        store_{t}(x, i, nan_{t})
"""

_FINITE = """\
def kernel_is_finite_{t}(x: pointer_{t}, count: i64) -> bool:
    total = {t}(0.0)
    for i in range(count):
        total = total + {t}(0.0) * load_{t}(x, i)
    return total == {t}(0.0)
"""

_SYMMETRIC = """\
def kernel_symmetric_{t}(a: pointer_{t}, n: i64):
    half = {t}(0.5)
    for i in range(n):
        for j in range(i):
            mean = half * load_{t}(a, i * n + j) + half * load_{t}(a, j * n + i)
            store_{t}(a, i * n + j, mean)
            store_{t}(a, j * n + i, mean)
"""

_CHOLESKY = f"""\
def kernel_cholesky_{{t}}(a: pointer_{{t}}, n: i64):
    failed = 0
    half = {{t}}(0.5)
    if n <= {SMALL}:
        for j in range(n):
            left = load_{{t}}(a, j * n + j)
            for k in range(j):
                left = left - load_{{t}}(a, j * n + k) * load_{{t}}(a, j * n + k)
            if not left > {{t}}(0.0):
                failed = 1
            left = sqrt_{{t}}(left)
            store_{{t}}(a, j * n + j, left)
            for i in range(j + 1, n):
                rest = half * load_{{t}}(a, i * n + j) + half * load_{{t}}(a, j * n + i)
                store_{{t}}(a, j * n + i, {{t}}(0.0))
                for k in range(j):
                    rest = rest - load_{{t}}(a, i * n + k) * load_{{t}}(a, j * n + k)
                store_{{t}}(a, i * n + j, rest / left)
    else:
        kernel_symmetric_{{t}}(a, n)
{_alone("failed = potrf_{t}(n, a)", 2)}
        for i in range(n):
            for j in range(i + 1, n):
                store_{{t}}(a, i * n + j, {{t}}(0.0))
    if failed != 0:
        kernel_spoil_{{t}}(a, n * n)
"""

_TRIANGLE = f"""\
def kernel_triangle_{{t}}(
    x: pointer_{{t}}, triangle: pointer_{{t}}, n: i64, k: i64, lower: i64, transposed: i64, unit: i64
):
    if n <= {SMALL}:
        down = select_i64(transposed == 0, n, 1)
        across = select_i64(transposed == 0, 1, n)
        forward = lower != transposed
        for step in range(n):
            j = select_i64(forward, step, n - 1 - step)
            start = select_i64(forward, 0, j + 1)
            stop = select_i64(forward, j, n)
            for i in range(start, stop):
                factor = load_{{t}}(triangle, j * down + i * across)
                for c in range(k):
                    term = factor * load_{{t}}(x, i * k + c)
                    store_{{t}}(x, j * k + c, load_{{t}}(x, j * k + c) - term)
            if unit == 0:
                pivot = load_{{t}}(triangle, j * n + j)
                for c in range(k):
                    store_{{t}}(x, j * k + c, load_{{t}}(x, j * k + c) / pivot)
    elif k == 1:
{_alone("trsv_{t}(lower, transposed, unit, n, triangle, x)", 2)}
    elif k > 1:
{_alone("trsm_{t}(lower, transposed, unit, n, k, triangle, x)", 2)}
"""

_LU = f"""\
def kernel_lu_{{t}}(a: pointer_{{t}}, pivots: pointer_i64, n: i64):
    if n <= {SMALL}:
        for k in range(n):
            p = k
            largest = abs_{{t}}(load_{{t}}(a, k * n + k))
            for j in range(k + 1, n):
                found = abs_{{t}}(load_{{t}}(a, k * n + j))
                if found > largest:
                    largest = found
                    p = j
            store_i64(pivots, k, p)
            if p != k:
                for i in range(n):
                    other = load_{{t}}(a, i * n + p)
                    store_{{t}}(a, i * n + p, load_{{t}}(a, i * n + k))
                    store_{{t}}(a, i * n + k, other)
            if largest != {{t}}(0.0):
                pivot = load_{{t}}(a, k * n + k)
                for j in range(k + 1, n):
                    store_{{t}}(a, k * n + j, load_{{t}}(a, k * n + j) / pivot)
                for i in range(k + 1, n):
                    factor = load_{{t}}(a, i * n + k)
                    for j in range(k + 1, n):
                        term = factor * load_{{t}}(a, k * n + j)
                        store_{{t}}(a, i * n + j, load_{{t}}(a, i * n + j) - term)
    else:
{_alone("status = getrf_{t}(n, a, pivots)", 2)}
        # Integers of 32 bits come two in a word.
        is_wide = load_i64(pivots, 0) <= n
        for step in range(n):
            k = n - 1 - step
            if is_wide:
                found_at = load_i64(pivots, k)
            else:
                word = load_i64(pivots, k // 2)
                found_at = select_i64(k % 2 == 0, and_i64(word, 4294967295), word // 4294967296)
            store_i64(pivots, k, found_at - 1)
"""

_EXCHANGE = """\
def kernel_exchange_{t}(x: pointer_{t}, pivots: pointer_i64, n: i64, k: i64, backwards: i64):
    for step in range(n):
        i = select_i64(backwards == 0, step, n - 1 - step)
        p = load_i64(pivots, i)
        if p != i:
            for c in range(k):
                other = load_{t}(x, p * k + c)
                store_{t}(x, p * k + c, load_{t}(x, i * k + c))
                store_{t}(x, i * k + c, other)
"""

_LU_SOLVE = """\
def kernel_lu_solve_{t}(
    x: pointer_{t}, factors: pointer_{t}, pivots: pointer_i64, n: i64, k: i64, transposed: i64
):
    if transposed == 0:
        kernel_triangle_{t}(x, factors, n, k, 1, 0, 0)
        kernel_triangle_{t}(x, factors, n, k, 0, 0, 1)
        kernel_exchange_{t}(x, pivots, n, k, 1)
    else:
        kernel_exchange_{t}(x, pivots, n, k, 0)
        kernel_triangle_{t}(x, factors, n, k, 0, 1, 1)
        kernel_triangle_{t}(x, factors, n, k, 1, 1, 0)
"""

_QR = f"""\
def kernel_qr_{{t}}(
    q: pointer_{{t}}, r: pointer_{{t}}, scales: pointer_{{t}}, work: pointer_{{t}}, m: i64, n: i64, room: i64
):
    failed = 1
    if m >= n:
        failed = 0
    if n > 0 and failed == 0:
{_alone("failed = gelqf_{t}(m, n, q, scales, work, room)", 2)}
        for i in range(n):
            for j in range(i):
                store_{{t}}(r, i * n + j, {{t}}(0.0))
            for j in range(i, n):
                store_{{t}}(r, i * n + j, load_{{t}}(q, i * n + j))
{_alone("failed = orglq_{t}(m, n, q, scales, work, room)", 2)}
        for j in range(n):
            store_{{t}}(scales, j, {{t}}(1.0))
            if load_{{t}}(r, j * n + j) < {{t}}(0.0):
                store_{{t}}(scales, j, {{t}}(-1.0))
                for k in range(j, n):
                    store_{{t}}(r, j * n + k, -load_{{t}}(r, j * n + k))
        for i in range(m):
            for j in range(n):
                store_{{t}}(q, i * n + j, load_{{t}}(scales, j) * load_{{t}}(q, i * n + j))
    if failed != 0:
        kernel_spoil_{{t}}(q, m * n)
        kernel_spoil_{{t}}(r, n * n)
"""

_EIGH = f"""\
def kernel_eigh_{{t}}(
    w: pointer_{{t}}, v: pointer_{{t}}, work: pointer_{{t}}, integers: pointer_i64, n: i64, room: i64, places: i64
):
    if n > 0:
        failed = 1
        if kernel_is_finite_{{t}}(v, n * n):
            kernel_symmetric_{{t}}(v, n)
{_alone("failed = syevd_{t}(n, v, w, work, room, integers, places)", 3)}
        if failed != 0:
            kernel_spoil_{{t}}(w, n)
            kernel_spoil_{{t}}(v, n * n)
"""

_SVD = f"""\
def kernel_svd_{{t}}(
    u: pointer_{{t}}, s: pointer_{{t}}, vt: pointer_{{t}}, a: pointer_{{t}}, work: pointer_{{t}}, integers: pointer_i64,
    m: i64, n: i64, room: i64
):
    if n > 0:
        failed = 1
        if m >= n and kernel_is_finite_{{t}}(a, m * n):
{_alone("failed = gesdd_{t}(m, n, a, s, u, vt, work, room, integers)", 3)}
        for k in range(n):
            largest = 0
            for j in range(n):
                if abs_{{t}}(load_{{t}}(vt, k * n + j)) > abs_{{t}}(load_{{t}}(vt, k * n + largest)):
                    largest = j
            if load_{{t}}(vt, k * n + largest) < {{t}}(0.0):
                for j in range(n):
                    store_{{t}}(vt, k * n + j, -load_{{t}}(vt, k * n + j))
                for i in range(m):
                    store_{{t}}(u, i * n + k, -load_{{t}}(u, i * n + k))
        if failed != 0:
            kernel_spoil_{{t}}(u, m * n)
            kernel_spoil_{{t}}(s, n)
            kernel_spoil_{{t}}(vt, n * n)
"""

_HELPERS = {
    "spoil": _SPOILED,
    "is_finite": _FINITE,
    "symmetric": _SYMMETRIC,
    "cholesky": _CHOLESKY,
    "triangle": _TRIANGLE,
    "lu": _LU,
    "exchange": _EXCHANGE,
    "lu_solve": _LU_SOLVE,
    "qr": _QR,
    "eigh": _EIGH,
    "svd": _SVD,
}
"""The helpers in an order in which each calls only those before it."""


def helper_name(name: str, type_: str) -> str:
    """What a helper is called for a type of entries."""
    return f"kernel_{name}_{type_}"


def helpers_for(parts: Iterable[str]) -> list[str]:
    """The helpers that source calls, and those that these call, in order."""
    sources = list(parts)
    found: list[str] = []
    for type_ in ("f64", "f32"):
        for name, template in reversed(_HELPERS.items()):
            call = f"{helper_name(name, type_)}("
            if any(call in source for source in (*sources, *found)):
                found.insert(0, template.replace("{t}", type_))
    return found
