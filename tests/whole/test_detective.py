"""The detective names what made an output nan or infinite: the line, the step, the way; and never what did no harm."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.cli import main

NAN, INF = float("nan"), float("inf")


def found(text, name="f", *arguments, of=lambda function: function):
    """The message for a call, None if all is finite."""
    fault = dg.find_nonfinite(of(getattr(dg.parse(text, path="p.dg"), name)))(*arguments)
    return None if fault is None else str(fault)


def test_a_step_of_a_loop_is_named():
    text = (
        "def f(x: f64, n: i32) -> f64:\n    y = x\n    for i in range(2, n):\n"
        "        y = sqrt(y - 0.1 * f64(i))\n    return y\n"
    )
    message = found(text, "f", 3.0, np.int32(20))
    y = [3.0]
    while y[-1] - 0.1 * (len(y) + 1) >= 0:
        y.append(np.sqrt(y[-1] - 0.1 * (len(y) + 1)))
    assert message.startswith("error: `sqrt` gives nan\n --> p.dg:4:13")
    assert f"in step {len(y) - 1} (from 0) of the loop at line 3" in message
    assert f"`sqrt` of {y[-1] - 0.1 * (len(y) + 1):.6g} gives nan" in message


def test_a_step_of_a_while_inside_a_loop():
    text = (
        "def f[n](x: f64[n]) -> f64:\n    s = 0.0\n    for i in range(n):\n        k = 0\n        y = 0.0\n"
        "        while k < 4:\n            y += 1 / (x[i] - f64(k))\n            k += 1\n        s += y\n    return s\n"
    )
    message = found(text, "f", np.array([0.3, 3, 0.5]))
    assert "p.dg:7:18" in message
    place = "in step 3 (from 0) of the loop at line 6, in step 1 of the loop at line 3"
    assert f"this quotient of 1 and 0 gives inf, {place}" in message


def test_a_point_of_a_space():
    text = "def f[n](x: f64[n]) -> f64[n, n] = [[1 / (x[row] + x[col]) for col in range(n)] for row in range(n)]\n"
    message = found(text, "f", np.array([0.5, 1, -1]))
    assert "this quotient of 1 and 0 gives inf, at row = 1, col = 2" in message
    assert message.endswith("it reaches `result` at (1, 2)")


def test_a_lane_of_a_vmap():
    text = "def one(x: f64) -> f64 = log(x)\ndef f[n](x: f64[n]) -> f64[n] = vmap(one)(x)\n"
    message = found(text, "f", np.array([0.5, 1, -2]))
    assert "`log` of -2 gives nan, in lane 2 of the batch" in message
    assert "p.dg:1:26" in message


def test_an_entry_of_an_array():
    message = found("def f[n](x: f64[n]) -> f64 = sum(log(x))\n", "f", np.array([0.5, 1, -2, 3]))
    assert "`log` of -2 gives nan for entry 2" in message


def test_a_derivative_that_is_infinite():
    text = "def f[n](x: f64[n]) -> f64:\n    s = 1.0\n    for i in range(n):\n        s += sqrt(x[i])\n    return s\n"
    message = found(text, "f", np.array([1.0, 0, 4]), of=dg.grad)
    assert message.startswith("error: a derivative becomes inf\n --> p.dg:4:14")
    assert "in step 1 (from 0) of the loop at line 3" in message
    assert message.endswith("it reaches `result` at 1")


def test_an_adjoint_that_overflows():
    text = "def f(x: f64, n: i32) -> f64:\n    y = x\n    for i in range(n):\n        y = 1e40 * y\n    return y\n"
    message = found(text, "f", 1e-300, np.int32(15), of=dg.value_and_grad)
    assert "error: an adjoint becomes inf" in message
    assert "p.dg:4:13" in message
    # 1e40 ** 8 is the first power that is too large: the adjoint of step 14 - 7.
    assert "in step 7 (from 0) of the loop at line 3" in message


def test_a_second_derivative():
    text = "def f(x: f64) -> f64 = x ** 1.5 + 1\n"
    assert found(text, "f", 0.0, of=dg.grad) is None
    message = found(text, "f", 0.0, of=dg.hessian)
    assert "a derivative becomes inf" in message
    assert "p.dg:1:24" in message


@pytest.mark.parametrize(
    "wish", ["", "    @checkpoint(slots=2)\n", "    @checkpoint(every=3)\n", "    @checkpoint(none)\n"]
)
@pytest.mark.parametrize("of", [lambda f: f, dg.value_and_grad, dg.grad])
def test_a_checkpointed_loop_keeps_its_count(wish, of):
    text = (
        f"def f(x: f64, n: i32) -> f64:\n    y = x\n{wish}    for i in range(n):\n"
        "        y = sqrt(y - 0.05 * f64(i))\n    return y\n"
    )
    y, step = 0.2, 0
    while y - 0.05 * step >= 0:
        y, step = np.sqrt(y - 0.05 * step), step + 1
    message = found(text, "f", 0.2, np.int32(30), of=of)
    assert "`sqrt` gives nan" in message
    assert f"in step {step} (from 0) of the loop at line {3 + bool(wish)}" in message


@pytest.mark.parametrize("wish", ["", "    @checkpoint(slots=2)\n", "    @checkpoint(every=3)\n"])
def test_the_adjoint_in_a_checkpointed_loop_keeps_its_count(wish):
    text = (
        f"def f(x: f64, n: i32) -> f64:\n    y = x\n{wish}    for i in range(n):\n"
        "        y = (1.0 + sqrt(y - 3.0)) if i == 4 else y + 0.5\n    return y\n"
    )
    message = found(text, "f", 1.0, np.int32(9), of=dg.grad)
    assert "a derivative becomes inf" in message
    assert "in step 4 (from 0) of the loop" in message


def test_an_infinity_that_becomes_nan():
    message = found("def f(x: f64) -> f64:\n    a = exp(x)\n    b = a * 2\n    return b - a\n", "f", 1000.0)
    assert message.startswith("error: `exp` gives inf, which becomes nan\n --> p.dg:2:9")
    assert "`exp` of 1000 gives inf" in message
    assert "this difference of inf and inf gives nan" in message


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        (
            "def f[n](x: f64[n]) -> f64:\n    y = log(x)\n    return sum(y[i] if x[i] > 0.5 else 0.0 for i)\n",
            [1, -1, 2.0],
        ),
        ("def f[n](x: f64[n]) -> f64 = 1 / (1 + exp(x[0] * 1e6)) + sum(x[1:])\n", [1, 2.0]),
        ("def f[n](x: f64[n]) -> f64:\n    y = sqrt(x)\n    return sum(y[1:])\n", [-1, 2.0]),
        ("def f[n](x: f64[n]) -> f64 = min(min(1 / x), 3.0)\n", [0.0, 2.0]),
        ("def f[n](x: f64[n]) -> f64 = max(x)\n", [-INF, 2.0]),
    ],
)
def test_what_does_no_harm_is_not_named(text, argument):
    assert found(text, "f", np.array(argument)) is None


def test_what_does_no_harm_is_not_named_beside_what_does():
    text = (
        "def f[n](x: f64[n]) -> f64:\n    y = log(x)\n    z = exp(y * 800)\n"
        "    return sum(z[i] if x[i] > 0.5 else 0.0 for i) * 2\n"
    )
    message = found(text, "f", np.array([1.0, -1, 2, 3]))
    assert message.startswith("error: `exp` gives inf\n --> p.dg:3:9")
    assert "for entry 3" in message


def test_the_product_of_a_harmless_row():
    text = "def f[n](a: f64[n, n], v: f64[n]) -> f64:\n    b = log(a)\n    c = b @ v\n    return c[1]\n"
    message = found(text, "f", np.array([[-1.0, 1], [2, 3]]), np.array([1e200, 1.7e308]))
    assert message.startswith("error: this product gives inf\n --> p.dg:3:9")
    assert found(text, "f", np.array([[-1.0, 1], [2, 3]]), np.ones(2)) is None


def test_an_argument_is_named():
    message = found("def f[n](x: f64[n]) -> f64 = sum(2 * x)\n", "f", np.array([1, NAN]))
    assert message.startswith("error: the argument `x` at 1 is nan")


def test_the_extreme_of_nothing():
    message = found("def f[n](x: f64[n]) -> f64 = max(x)\n", "f", np.zeros(0))
    assert message is None or "-inf" in message


def test_debug_raises_and_costs_no_other_code():
    program = dg.parse("def f(x: f64) -> f64 = log(x)\n")
    compiled = dg.compile(program.f, debug=True)
    assert compiled(1.0) == 0
    with pytest.raises(dg.DgraphError, match="`log` gives -inf"):
        compiled(0.0)
    assert np.isnan(program.f(-1.0))
    assert compiled.kernel.code == dg.compile(program.f).kernel.code
    bound = compiled.bind(np.array(-1.0))
    with pytest.raises(dg.DgraphError, match="`log` gives nan"):
        bound()


def test_debug_of_a_generic_function():
    compiled = dg.compile(dg.parse("def f[T: float, n](x: T[n]) -> T = sum(log(x))\n").f, debug=True)
    assert compiled(np.ones(3, np.float32)) == 0
    with pytest.raises(dg.DgraphError, match="`log` gives nan"):
        compiled(-np.ones(2))


def test_debug_of_a_sparse_derivative():
    program = dg.parse("def f[n](x: f64[n]) -> f64[n] = sqrt(x)\n")
    compiled = dg.compile(dg.jacobian(program.f, mode="sparse"), debug=True)
    assert compiled(np.ones(3)).nnz == 3
    with pytest.raises(dg.DgraphError, match="a derivative becomes inf"):
        compiled(np.array([1.0, 0, 1]))


def test_origins_that_are_not_remembered_are_found_again(monkeypatch):
    from dgraph.program import origins

    monkeypatch.setattr(origins, "KEPT", 1)
    text = (
        "def f[n](x: f64[n]) -> f64:\n    s = 0.0\n    for i in range(n):\n        y = exp(x[i])\n"
        "        s += y - y if i == 3 else 0.0\n    return s\n"
    )
    message = found(text, "f", np.array([1e4, 1e4, 1e4, 1e4, 1]))
    assert message.startswith("error: `exp` gives inf, which becomes nan")
    assert message.count("in step 3 (from 0) of the loop at line 3") == 2


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("p.dg").write_text("@entry\ndef f(x: f64) -> f64:\n    return sqrt(x) + 1\n", encoding="utf-8")


@pytest.mark.usefixtures("script")
def test_the_command_line_warns(capsys):
    assert main(["run", "p.dg", "--arg", "x=-1"]) == 0
    out, err = capsys.readouterr()
    assert out == "result = nan\n"
    assert err.startswith("warning: the result holds nan or inf\n") and "--debug" in err
    assert main(["run", "p.dg", "--arg", "x=1", "--debug"]) == 0
    assert capsys.readouterr() == ("result = 2.0\n", "")


@pytest.mark.usefixtures("script")
def test_the_command_line_names_the_line(capsys):
    assert main(["run", "p.dg", "--arg", "x=-1", "--debug", "--json"]) == 0
    out, err = capsys.readouterr()
    assert out == '{"result": "nan"}\n'
    assert err.startswith("warning: `sqrt` gives nan\n --> p.dg:3:12")
    assert main(["grad", "p.dg", "--arg", "x=0", "--debug"]) == 0
    out, err = capsys.readouterr()
    assert "d value / d x = inf" in out
    assert err.startswith("warning: a derivative becomes inf\n --> p.dg:3:12")


# ---- the choice of a basis ------------------------------------------------------------------------------------------

BASES = """
def projected[n](a: f64[n, n]) -> f64:
    w, v = eigh(a)
    u = v[:, :2]
    return sum((u @ u.T)[i, j] * i for i, j)
def powers[n](a: f64[n, n]) -> f64:
    w, v = eigh(a)
    return sum(w ** 3)
def polar[n](a: f64[n, n]) -> f64:
    u, s, vt = svd(a)
    return sum((u @ vt)[i, j] * i for i, j)
def entry[n](a: f64[n, n]) -> f64:
    w, v = eigh(a)
    return v[0, 0] ** 2
def least[n](a: f64[n, n]) -> f64:
    w, v = eigh(a)
    return w[0]
def last[n](a: f64[n, n]) -> f64:
    u, s, vt = svd(a)
    return u[0, n - 1] * vt[n - 1, 0]
def in_a_loop[k, n](many: f64[k, n, n]) -> f64:
    y = 0.0
    for a in many:
        w, v = eigh(a)
        y += sum(v[i, 0] for i)
    return y
def in_a_batch[k, n](many: f64[k, n, n]) -> f64 = sum(vmap(least)(many))
"""
TURNED = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
REPEATED, APART = ((TURNED * w) @ TURNED.T for w in ([1.0, 1, 2, 3], [1, 1.5, 2, 3]))


def warned(name, value, mode):
    """The warnings of a gradient with `debug`."""
    step = dg.compile(dg.grad(getattr(dg.parse(BASES, path="p.dg"), name), mode=mode), debug=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        step(value)
    return [str(one.message) for one in told]


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("name", ["projected", "powers", "polar"])
def test_what_every_basis_gives_has_a_derivative(name, mode):
    assert warned(name, REPEATED, mode) == []


@pytest.mark.parametrize(
    ("name", "mode"), [("entry", "forward"), ("least", "forward"), ("least", "reverse"), ("last", "forward")]
)
def test_a_derivative_of_one_basis_is_told(name, mode):
    assert warned(name, APART, mode) == []
    (message,) = warned(name, REPEATED, mode)
    assert message.startswith("warning: a derivative depends on the choice of a basis\n  --> p.dg:")
    kind = "singular values" if name == "last" else "eigenvalues"
    assert f"2 {kind} coincide at 1" in message


def test_the_step_and_the_lane_of_a_basis_are_told():
    many = np.stack([APART, REPEATED, REPEATED])
    assert "in lane 1 of the batch" in warned("in_a_batch", many, "reverse")[0]
    step = dg.compile(dg.jvp(dg.parse(BASES, path="p.dg").in_a_loop), debug=True)
    with pytest.warns(RuntimeWarning, match=r"in step 1 \(from 0\) of the loop"):
        step(many, many)


def test_the_adjoint_of_one_basis_is_not_a_number():
    function = dg.grad(dg.parse(BASES, path="p.dg").entry)
    message = str(dg.find_nonfinite(function)(REPEATED))
    assert "an adjoint becomes nan" in message and "eigenvalues or singular values coincide" in message


def test_the_command_tells_of_a_basis(tmp_path, capsys):
    file = tmp_path / "p.dg"
    file.write_text(BASES)
    arguments = ["grad", f"{file}:least", "--wrt", "a", "--arg", "a=[[1, 0], [0, 1]]"]
    assert main([*arguments]) == 0
    assert capsys.readouterr().err == ""
    assert main([*arguments, "--debug"]) == 0
    assert "2 eigenvalues coincide at 1" in capsys.readouterr().err
