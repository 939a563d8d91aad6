"""Operands that do not fit are refused, and sizes are told apart by their normal forms."""

import pytest

import dgraph.ops  # noqa: F401
from dgraph.errors import InvalidGraph
from dgraph.ir.op import OPS
from dgraph.sizes import size, variable
from dgraph.types import BOOL, F32, F64, I32, I64, KEY, Accumulator, Array

n, m = variable("n"), variable("m")


def array(dtype, *shape):
    return Array(dtype, tuple(map(size, shape)))


V, W, M = array(F64, n), array(F64, m), array(F64, n, m)


@pytest.mark.parametrize(
    ("name", "facts", "types"),
    [
        ("add", {}, [V]),
        ("add", {}, [V, W]),
        ("add", {}, [V, array(F64)]),
        ("add", {}, [V, array(F32, n)]),
        ("add", {}, [array(BOOL), array(BOOL)]),
        ("add", {}, [Accumulator(F64), Accumulator(F64)]),
        ("div", {}, [array(I32), array(I32)]),
        ("exp", {}, [array(I64)]),
        ("less", {}, [array(KEY), array(KEY)]),
        ("logical_not", {}, [V]),
        ("select", {}, [array(BOOL), V, V]),
        ("select", {}, [array(BOOL, n), V, array(F32, n)]),
        ("select", {}, [V, V, V]),
        ("powi", {"exponent": -1}, [array(I64)]),
        ("polygamma", {"order": 0}, [V]),
        ("cast", {"dtype": KEY}, [array(I64)]),
        ("cast", {"dtype": I64}, [array(KEY)]),
        ("constant", {"value": 1.0, "dtype": F64}, [V]),
        ("broadcast", {"shape": (m,)}, [V]),
        ("broadcast", {"shape": ()}, [V]),
        ("broadcast", {"shape": (n, m)}, [V]),
        ("reshape", {"shape": (n, n)}, [M]),
        ("transpose", {"axes": (0, 0)}, [M]),
        ("transpose", {"axes": (1, 0)}, [V]),
        ("slice", {"starts": (n,), "steps": (1, 1), "shape": (n,)}, [V]),
        ("slice", {"starts": (n,), "steps": (0,), "shape": (n,)}, [V]),
        ("unslice", {"starts": (n,), "steps": (1,), "shape": (n,)}, [M]),
        ("concat", {"axis": 0}, []),
        ("concat", {"axis": 1}, [V, V]),
        ("concat", {"axis": 0}, [M, V]),
        ("concat", {"axis": 0}, [M, array(F64, n, n)]),
        ("concat", {"axis": 0}, [V, array(F32, n)]),
        ("reduce_sum", {"axes": (1,)}, [V]),
        ("reduce_sum", {"axes": (1, 0)}, [M]),
        ("reduce_sum", {"axes": (0, 0)}, [M]),
        ("reduce_sum", {"axes": (0,)}, [array(BOOL, n)]),
        ("reduce_any", {"axes": (0,)}, [V]),
        ("logsumexp", {"axes": (0,)}, [array(I64, n)]),
        ("cumsum", {"axis": 1}, [V]),
        ("dot", {}, [V, W]),
        ("dot", {}, [M, M]),
        ("dot", {}, [array(F64), V]),
        ("dot", {"transpose_a": True}, [V, M]),
        ("dot", {"transpose_b": True}, [M, W]),
        ("dot", {}, [array(F64, 2, n, m), array(F64, 3, m, n)]),
        ("dot", {}, [array(F64, 2, n, m), W]),
        ("dot", {}, [array(F64, 2, n, m), array(F64, m, n)]),
        ("dot", {}, [M, array(F32, m)]),
        ("check", {}, [array(F64)]),
        ("check", {"names": ("a", "b")}, [array(BOOL), array(F64)]),
        ("split", {}, [array(KEY, 2)]),
        ("fold", {}, [array(KEY), array(I32)]),
        ("fold", {"stream": 0}, [array(KEY), array(I64)]),
        ("bits", {"lane": 2}, [array(KEY), array(I64)]),
        ("bits", {}, [array(KEY), array(I64, n)]),
        ("uniform", {"dtype": I64}, [array(KEY)]),
        ("normal", {}, [array(I64)]),
        ("bernoulli", {"shape": (n,)}, [array(KEY), array(F64, m)]),
        ("randint", {}, [array(KEY), array(I64), array(I32)]),
        ("randint", {}, [array(KEY), array(F64), array(F64)]),
        ("permutation", {"extent": n}, [array(I64)]),
    ],
)
def test_what_does_not_fit_is_refused(name, facts, types):
    with pytest.raises(InvalidGraph, match=name):
        OPS[name](**facts).infer(types, ())


def test_sizes_that_are_equal_are_accepted():
    twice = array(F64, n + n)
    assert OPS["add"]().infer([twice, array(F64, 2 * n)], ()) == (twice,)
    assert OPS["concat"](axis=0).infer([V, V], ()) == (twice,)
    assert OPS["reshape"](shape=(n * m,)).infer([M], ()) == (array(F64, m * n),)
