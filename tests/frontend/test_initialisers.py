"""Initial values of params and states."""

import numpy as np
import pytest

from dgraph.errors import DgraphError
from dgraph.frontend import lower_initialiser, parse_program
from dgraph.ir.evaluate import evaluate
from dgraph.types import F64

TEXT = """
record Dense[i, o]:
    w: f32[i, o] = he_normal()
    b: f32[o] = zeros()
    scale: f32 = 0.25

record Net[depth, d]:
    first: Dense[d, 64]
    rest: Dense[64, 64][depth]
    pair: (Dense[8, 8], Dense[8, 8])
    kernel: f32[3, 3, 16, 8] = he_normal()
    embed: f32[40, 50] = normal(scale=0.1)
    frame: f32[5, 9] = orthogonal()
    bound: f32[200, 100] = glorot()

param net: Net[3, 128]
state count: i32 = 7
param free: f64
"""


def values(name: str, key: int = 1, **options: object) -> dict[str, np.ndarray]:
    graph = lower_initialiser(parse_program(TEXT), name, **options)
    return dict(zip(graph.output_names, evaluate(graph, [np.uint64(key)]), strict=True))


def test_every_leaf_draws_on_its_own():
    net = values("net")
    assert net["first.w"].std() == pytest.approx(np.sqrt(2 / 128), rel=0.05)
    assert net["kernel"].std() == pytest.approx(np.sqrt(2 / (3 * 3 * 16)), rel=0.05)
    assert net["embed"].std() == pytest.approx(0.1, rel=0.05)
    assert not net["first.b"].any() and net["first.scale"] == np.float32(0.25)
    assert np.abs(net["bound"]).max() <= np.sqrt(6 / 300) and net["bound"].std() == pytest.approx(
        np.sqrt(2 / 300), rel=0.05
    )
    np.testing.assert_allclose(net["frame"] @ net["frame"].T, np.eye(5), atol=1e-5)
    assert not np.array_equal(net["pair.0.w"], net["pair.1.w"])


def test_records_of_an_array_differ_and_keep_their_fan_in():
    rest = values("net")["rest.w"]
    assert rest.shape == (3, 64, 64)
    assert not np.array_equal(rest[0], rest[1])
    for layer in rest:
        assert layer.std() == pytest.approx(np.sqrt(2 / 64), rel=0.05)


def test_the_key_decides():
    one, again, other = values("net"), values("net"), values("net", key=2)
    np.testing.assert_array_equal(one["first.w"], again["first.w"])
    assert not np.array_equal(one["first.w"], other["first.w"])


def test_constants_and_promotion():
    assert values("count") == {"result": 7}
    assert values("net", precision=F64)["first.w"].dtype == np.float64


def test_a_param_without_a_value_is_refused():
    with pytest.raises(DgraphError, match="`free` has no initial value"):
        lower_initialiser(parse_program(TEXT), "free")
