"""Random numbers: the published vectors, numbers frozen for all time, distributions."""

import numpy as np
import pytest
from scipy import stats

from dgraph.ir.op import OPS
from dgraph.ops.random import DRAW, FOLD, SPLIT, block, philox
from dgraph.sizes import size
from dgraph.types import F32, F64

MANY = 200_000


def draw(name, *operands, **facts):
    with np.errstate(all="ignore"):
        return OPS[name](**facts).evaluate(lambda extent: extent.constant, *operands)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ("00000000 00000000", "00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff", "ffffffff ffffffff ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("a4093822 299f31d0", "243f6a88 85a308d3 13198a2e 03707344", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_words(key, counter, expected):
    words = philox([int(word, 16) for word in key.split()], [int(word, 16) for word in counter.split()])
    assert [f"{int(word):08x}" for word in words] == expected.split()


def test_bits_are_the_words_of_a_block():
    key, position = 0x0123456789ABCDEF, 0x7654321089ABCDE0
    words = philox([0x89ABCDEF, 0x01234567], [0x89ABCDE0, 0x76543210, 0, 0])
    found = [int(draw("bits", np.uint64(key), np.int64(position), lane=lane)) % 2**64 for lane in (0, 1)]
    assert found == [int(words[0] | words[1] << np.uint64(32)), int(words[2] | words[3] << np.uint64(32))]


def test_streams_differ():
    key, number = np.uint64(7), np.int64(3)
    assert len({int(block(key, number, stream)) for stream in (DRAW, FOLD, SPLIT)}) == 3
    assert draw("fold", key, number) == block(key, number, FOLD)
    np.testing.assert_array_equal(draw("split", key, count=5), block(key, np.arange(5), SPLIT))


def test_keys_that_are_split_or_folded_are_all_different():
    key = np.uint64(0)
    made = [*draw("split", key, count=1000), *(draw("fold", key, np.int64(i)) for i in range(-500, 500))]
    assert len(set(map(int, made))) == 2000


def test_draws_are_independent_of_the_shape():
    long = draw("uniform", np.uint64(5), shape=(size(24),), dtype=F64)
    np.testing.assert_array_equal(draw("uniform", np.uint64(5), shape=(size(4), size(6)), dtype=F64).ravel(), long)
    np.testing.assert_array_equal(draw("uniform", np.uint64(5), shape=(size(7),), dtype=F64), long[:7])


def test_single_and_double_precision_share_their_leading_bits():
    single = draw("uniform", np.uint64(5), shape=(size(1000),), dtype=F32)
    double = draw("uniform", np.uint64(5), shape=(size(1000),), dtype=F64)
    np.testing.assert_array_equal(single, np.floor(double * 2**24) / 2**24)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_uniform_is_uniform_and_below_one(dtype):
    x = draw("uniform", np.uint64(11), shape=(size(MANY),), dtype=dtype)
    assert x.min() >= 0 and x.max() < 1 and x.dtype == dtype.numpy
    assert stats.kstest(x, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4 / np.sqrt(MANY)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_normal_is_normal(dtype):
    x = draw("normal", np.uint64(12), shape=(size(MANY),), dtype=dtype)
    assert np.isfinite(x).all() and x.dtype == dtype.numpy
    assert stats.kstest(x, "norm").pvalue > 0.01
    assert abs(np.mean(x**4) - 3) < 5 * np.sqrt(96 / MANY)


def test_bernoulli_keeps_its_probability():
    p = np.array([0.0, 0.3, 1.0])
    x = np.array([draw("bernoulli", np.uint64(at), p, shape=(size(3),)) for at in range(3000)])
    np.testing.assert_array_equal(x.mean(0)[[0, 2]], [0.0, 1.0])
    assert abs(x.mean(0)[1] - 0.3) < 4 * np.sqrt(0.21 / 3000)


def test_randint_is_even_and_inside():
    x = draw("randint", np.uint64(3), np.int32(-2), np.int32(5), shape=(size(MANY),))
    assert x.dtype == np.int32 and x.min() == -2 and x.max() == 4
    assert stats.chisquare(np.bincount(x + 2)).pvalue > 0.01
    assert draw("randint", np.uint64(3), np.int64(4), np.int64(4), shape=()) == 4


def test_permutations_are_even():
    found = [tuple(draw("permutation", np.uint64(at), extent=size(3))) for at in range(6000)]
    seen, counts = np.unique(found, axis=0, return_counts=True)
    assert len(seen) == 6
    assert stats.chisquare(counts).pvalue > 0.01
    np.testing.assert_array_equal(np.sort(draw("permutation", np.uint64(1), extent=size(1000))), np.arange(1000))


def test_the_numbers_of_a_key_never_change():
    """Programs that name a seed give the same results in every version."""
    key = np.uint64(2024)
    frozen = {
        "uniform": draw("uniform", key, shape=(size(3),), dtype=F64).tolist(),
        "split": [int(word) for word in draw("split", key, count=2)],
        "fold": int(draw("fold", key, np.int64(-1))),
        "randint": draw("randint", key, np.int64(0), np.int64(100), shape=(size(5),)).tolist(),
        "permutation": draw("permutation", key, extent=size(6)).tolist(),
    }
    assert frozen == {
        "uniform": [0.7685632870075502, 0.9358942774930699, 0.5492910699861283],
        "split": [6833418160594961244, 15250553232099483799],
        "fold": 17385562250208501586,
        "randint": [39, 79, 86, 36, 29],
        "permutation": [2, 1, 3, 0, 5, 4],
    }
