"""Loop programs as numba-cuda source: its text, PTX without a device, its meaning in the simulator and on a device."""

# Bodies of loops and spaces are called with more than each of them uses.
# ruff: noqa: ARG001

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cuda_graphs import CASES
from nest_graphs import K, M, N, compare, evaluate, make_graph

from dgraph.errors import CheckFailed, KernelError, NotSupported, Source, Span
from dgraph.kernels.cuda_ptx import ptx_of_kernels
from dgraph.kernels.cuda_source import cuda_text, ptx_text
from dgraph.types import F32, F64, I32, I64, U8, Accumulator, Array

HERE = Path(__file__).parent
VECTOR = Array(F32, (N,))
MATRIX = Array(F32, (N, M))


# ---- the text --------------------------------------------------------------------------------------------------------


def chain():
    def build(g, x, w):
        def point(h, i, j):
            p = h.mul(h.index(x, i, j), h.index(w, j))
            return h.add(h.tanh(p), h.maximum(h.sigmoid(p), h.exp(h.neg(p))))

        return [g.map([N, M], point)]

    return make_graph([("x", MATRIX), ("w", Array(F32, (M,)))], build, name="chain")


def mean():
    def build(g, x):
        return [g.div(g.reduce_sum(x, axes=(0,)), g.cast(g.number(N), dtype=F32))]

    return make_graph([("x", VECTOR)], build, name="mean")


@pytest.mark.parametrize("make", [chain, mean])
def test_text(make, golden):
    golden(f"kernels/cuda_{make.__name__}.py.txt", cuda_text(make()))


def test_the_kernel_in_the_documentation():
    import dgraph as dg
    from dgraph.program.pipeline import stage

    root = HERE.parents[1]
    (shown,) = re.findall(r"```py\n(.*?)```", (root / "docs/cuda.md").read_text(encoding="utf-8"), re.S)
    program = dg.load(root / "benchmarks/spine.dg")
    text = cuda_text(stage(program.chain32.graph, "kernels"))
    assert shown in re.sub(r"# space .*/benchmarks", "# space benchmarks", text)


def test_names_of_a_program_never_become_code():
    graph = make_graph(
        [("math", VECTOR), ("np", VECTOR), ("x) or quit(", VECTOR), ("maximum", VECTOR)],
        lambda g, a, b, c, d: [g.exp(g.maximum(g.add(a, b), g.add(c, d)))],
        name="f\nimport os\n\u2028quit()",
    )
    text = cuda_text(graph)
    assert "\nimport os" not in text
    assert "\u2028" not in text
    assert "quit(" not in "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    compile(text, "<text>", "exec")


def test_short_chains_are_one_kernel_each():
    text = cuda_text(chain())
    assert len(re.findall(r"^def kernel_", text, re.M)) == len(re.findall(r"^    kernel_\d+\[", text, re.M)) == 1


# ---- PTX -------------------------------------------------------------------------------------------------------------


def ptx_or_skip(graph):
    """The PTX of every kernel; skips where neither a toolkit nor its wheels are installed."""
    try:
        return ptx_of_kernels(graph)
    except KernelError as fault:
        if isinstance(fault.__cause__, ImportError) or type(fault.__cause__).__name__ == "NvvmSupportError":
            pytest.skip("neither a CUDA toolkit nor its wheels are installed")
        raise


@pytest.mark.parametrize("name", CASES)
def test_ptx(name):
    texts = ptx_or_skip(CASES[name]()[0])
    assert texts
    assert all(".target sm_90" in text and ".visible .entry" in text for text in texts.values())


def test_ptx_of_a_reduction_and_of_a_scatter():
    texts = ptx_or_skip(mean())
    assert any("bar.sync" in text for text in texts.values())
    assert not any(".f64" in text for text in texts.values())
    assert any("atom." in text for text in ptx_or_skip(CASES["scatter"]()[0]).values())
    assert "// kernel_0\n" in ptx_text(chain())


def test_single_precision_stays_single():
    assert not any(".f64" in text for text in ptx_or_skip(chain()).values())


def test_ptx_without_a_compiler(monkeypatch):
    from numba import cuda

    def missing(*arguments, **options):
        raise ImportError("libNVVM cannot be found")

    monkeypatch.setattr(cuda, "compile_ptx", missing)
    with pytest.raises(KernelError, match=r"libNVVM cannot be found(.|\n)*pip install 'dgraph\[cuda\]'"):
        ptx_text(chain())


# ---- meaning ---------------------------------------------------------------------------------------------------------

ULP = {"chain_f32": 64, "chain_f64": 64, "totals": 16, "rows_and_columns": 16, "product": 16, "guarded": 16}
ULP |= {"arrays_at_points": 16, "loops_in_points": 16, "scatter": 16, "own_entries": 16, "numbers_alone": 2}

# What NumPy leaves open: floats that no integer of the type equals.
WANTED = {
    "saturation": [
        np.array([2**31 - 1, 0, 0, 2**31 - 1, -(2**31)], np.int32),
        np.array([255, 0, 0, 255, 0], np.uint8),
        np.array([2**63 - 1, 0, 0, 2**63 - 1, -(2**63)]),
    ]
}


def run_cases(directory, simulate):
    """Run all cases in a process of their own: the simulator replaces numba.cuda when that is first imported."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1" if simulate else "0"}
    command = [sys.executable, "-W", "ignore", str(HERE / "cuda_graphs.py"), str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return directory


def check_case(name, directory):
    """Compare what a case left in a directory with the interpreter."""
    graph, rounds = CASES[name]()
    for number, arguments in enumerate(rounds):
        file = directory / f"{name}-{number}"
        fault = file.with_suffix(".fault")
        assert not fault.exists(), fault.read_text()
        with np.errstate(all="ignore"):
            try:
                wanted = WANTED[name] if name in WANTED else evaluate(graph, arguments)
            except CheckFailed as failed:
                assert file.with_suffix(".check").read_text() == str(failed)
                continue
        with np.load(file.with_suffix(".npz")) as held:
            found = [held[f"arr_{place}"][()] for place in range(len(wanted))]
        compare(found, wanted, ULP.get(name, 0))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return run_cases(tmp_path_factory.mktemp("simulated"), simulate=True)


@pytest.mark.parametrize("name", CASES)
def test_simulator(name, simulated):
    check_case(name, simulated)


@pytest.fixture(scope="module")
def on_device(tmp_path_factory):
    return run_cases(tmp_path_factory.mktemp("device"), simulate=False)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_device(name, on_device):
    check_case(name, on_device)


# ---- what is not printed ---------------------------------------------------------------------------------------------

SOURCE = Source("model.dg", "for s in range(n):\n    y = x\n")
PLACE = Span(SOURCE, 0, 18)


def refused(graph):
    """The error for a graph, which must stand at the place in the source."""
    with pytest.raises(NotSupported) as found:
        cuda_text(graph)
    assert found.value.span == PLACE
    return str(found.value)


def test_tapes_are_refused():
    def build(g, x):
        with g.at(span=PLACE):
            count = g.cast(x, dtype=I64)
            last, tape = g.for_(count, [x], lambda h, _i, c, _w: [h.mul(c[0], c[0]), c[0]], tapes=1)
            return g.for_(count, [last], lambda h, _i, c, w: [h.add(c[0], w[0])], walks=[tape], reverse=True)

    graph = make_graph([("x", Array(F64)), ("v", VECTOR)], lambda g, x, _: build(g, x))
    assert "a loop that writes or walks a tape cannot be printed for CUDA yet" in refused(graph)


def test_products_and_bytes_at_shared_places_are_refused():
    for dtype, kind in ((F64, "mul"), (U8, "add"), (I32, "mul")):

        def build(g, x, at, kind=kind, dtype=dtype):
            def point(h, indices, _threaded, own):
                value = h.index(x, indices[0])
                return [h.accumulate(own[0], h.index(at, indices[0]), value, policy="drop")]

            with g.at(span=PLACE):
                return g.space([N], point, buffers=[Accumulator(dtype, (K,), kind)])

        inputs = [("x", Array(dtype, (N,))), ("at", Array(I64, (N,))), ("room", Array(F64, (K,)))]
        graph = make_graph(inputs, lambda g, x, at, _, build=build: build(g, x, at))
        assert f"accumulating {dtype} by" in refused(graph)
