"""Tables for determinants without recursion: permutations with signs, and minors by choices of columns."""

from itertools import combinations, permutations

import numpy as np


def signed_permutations(ell: int) -> tuple[np.ndarray, np.ndarray]:
    """All permutations of the columns, and their signs."""
    every = np.array(list(permutations(range(ell))), np.int32)
    crossings = sum((every[:, i] > every[:, j]).astype(np.int64) for i in range(ell) for j in range(i + 1, ell))
    return every, 1.0 - 2.0 * (crossings % 2)


def minors(ell: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per number of columns: the columns of each choice, which smaller choice each leaves, and the signs."""
    levels = []
    before = {(): 0}
    for count in range(1, ell + 1):
        every = list(combinations(range(ell), count))
        smaller = [[before[(*c[:j], *c[j + 1 :])] for j in range(count)] for c in every]
        signs = np.array([(-1.0) ** (count - 1 - j) for j in range(count)])
        levels.append((np.array(every, np.int32), np.array(smaller, np.int32), signs))
        before = {c: place for place, c in enumerate(every)}
    return levels
