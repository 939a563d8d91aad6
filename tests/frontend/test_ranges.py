"""The range of an index, and whether a read is inside."""

import pytest

from dgraph.errors import NOWHERE, DgraphError
from dgraph.frontend.ranges import Read, Unknown, infer, is_inside
from dgraph.sizes import Size, size, variable

n, h, k, stride = (variable(name) for name in ("n", "h", "k", "stride"))
i, p = variable("i"), variable("p")


def solve(reads: list[tuple[Size, Size]], unknown: str = "i", **known: tuple[Size, Size]) -> dict[str, str]:
    unknowns = [Unknown(name, name, NOWHERE) for name in unknown]
    found = infer(unknowns, [Read(subscript, extent, NOWHERE) for subscript, extent in reads], known)
    return {str(name): str(length) for name, length in found.items()}


def test_an_index_alone_takes_its_axis():
    assert solve([(i, n), (i, n)]) == {"i": "n"}


def test_axes_of_an_index_alone_must_agree():
    with pytest.raises(DgraphError, match="`i` reads axes of lengths n and h"):
        solve([(i, n), (i, h)])


def test_an_offset_shortens_the_range():
    assert solve([(i, n), (i + 1, n)]) == {"i": "n - 1"}


def test_two_indices_of_a_convolution():
    assert solve([(i + p, h), (p, k)], "ip") == {"p": "k", "i": "h - k + 1"}


def test_a_stride_with_a_known_index():
    assert solve([(2 * i + p, 2 * h)], p=(size(0), size(2))) == {"i": "h"}
    assert solve([(2 * i + p, h)], p=(size(0), size(2))) == {"i": "(h // 2)"}


def test_a_symbolic_stride():
    found = solve([(stride * i + p, h), (p, k)], "ip")
    assert found["i"] == "((h - k) // stride) + 1"


def test_a_reversed_read():
    assert solve([(n - 1 - i, n)]) == {"i": "n"}


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ([(i - 1, n)], "would not start at 0"),
        ([(i + 1, n), (i + 1, h)], "whichever is smaller"),
        ([(i * i, n)], "cannot be found from this subscript"),
        ([], "the range of `i` cannot be found"),
    ],
)
def test_what_cannot_be_inferred(reads, message):
    with pytest.raises(DgraphError, match=message):
        solve(reads)


def test_reads_are_inside():
    ranges = {"i": (size(0), h - k + 1), "p": (size(0), k)}
    assert is_inside(i + p, h, ranges)
    assert not is_inside(i + p + 1, h, ranges)
    assert not is_inside(i + p - 1, h, ranges)
    assert is_inside(i + p - 1, h, ranges, [i + p - 1])
    assert is_inside(stride * i, n, {"i": (size(0), (n - 1) // stride + 1)})
