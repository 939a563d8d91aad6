"""Every equation of `dgraph check` holds for right derivatives, and fails for wrong ones."""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import vjp, vmap
from dgraph.cli import main
from dgraph.ir.build import Builder
from dgraph.ir.graph import Region, Value, walk
from dgraph.ops.arithmetic import Mul
from dgraph.ops.transcendental import Sin
from dgraph.program import check_kit
from dgraph.program.check import check_program
from dgraph.types import Array

expansion = import_module("dgraph.ad.expand")
"""The module, which `dgraph.ad` hides behind its function."""

WAVE = """
record P:
    a: f64 = 0.5
    k: i32 = 2

param p: P

@entry
def wave[n](x: f64[n], w: f64[n]) -> f64 = sum(sin(x[i] * p.a) * w[i] + p.k * w[i] * x[i] for i)
"""


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code compiled with a planted fault is nobody else's."""
    monkeypatch.setenv("DGRAPH_CACHE_DIR", str(tmp_path))


def checked(text: str, **given: Any) -> tuple[list[str], list[str]]:
    """What is said, and the titles of the faults."""
    said: list[str] = []
    found = check_program(dg.parse(text), None, given, said.append)
    return said, [diagnostic.title for diagnostic in found if diagnostic.severity == "error"]


def test_every_equation_is_reported():
    said, faults = checked(WAVE)
    assert faults == []
    assert said[1] == "wave: derivatives in x, w, p agree at 2 random points (n = 2; n = 3)"
    words = [line.strip().rpartition("  ")[0].strip() for line in said[2:]]
    assert words == list(check_kit.EQUATIONS.values())
    assert all(float(line.split()[-1]) < 1e-6 for line in said[2:])


def tampered(region: Region) -> Region:
    """The region with its last result too large by one part in a thousand."""
    g = Builder()
    *first, last = g.inline(region, [g.input(value.type, value.name) for value in region.inputs])
    assert isinstance(last.type, Array)
    return g.close([*first, g.mul(last, g.full(1.001, last.type))])


def steep_sine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sin, "slope", lambda _self, g, x, _y: g.mul(g.cos(x), g.full(1.001, x.type)))


def wrong_transpose(patch: pytest.MonkeyPatch) -> None:
    right: Any = Mul.transpose

    def wrong(self: Mul, g: Builder, operands: Any, linear: Any, cotangent: Value) -> Any:
        return [
            None if c is None else g.mul(c, g.full(1.001, c.type)) for c in right(self, g, operands, linear, cotangent)
        ]

    patch.setattr(Mul, "transpose", wrong)


def straight_sine(patch: pytest.MonkeyPatch) -> None:
    """Right once, wrong twice."""
    patch.setattr(Sin, "slope", lambda _self, g, x, _y: g.stop_gradient(g.cos(x)))


def lopsided_product(patch: pytest.MonkeyPatch) -> None:
    """Right once; the second derivative in the order of the operands is lost. Only symmetry is looked at."""

    def wrong(_: Mul, g: Builder, operands: Sequence[Value], _results: Any, tangents: Sequence[Value | None]) -> Any:
        (x, y), (dx, dy) = operands, tangents
        parts = [g.mul(dx, g.stop_gradient(y))] if dx is not None else []
        parts += [g.mul(x, dy)] if dy is not None else []
        return [parts[0] if len(parts) == 1 else g.add(*parts)]

    patch.setattr(Mul, "jvp", wrong)
    patch.setattr(check_kit, "QUOTIENT", np.inf)


def wrong_reverse_of_reverse(patch: pytest.MonkeyPatch) -> None:
    def wrong(op: Any, region: Region) -> Region:
        found = vjp(region, op.wrt, op.seeded)
        return tampered(found) if any(node.derived == "adjoint" for node in walk(region)) else found

    patch.setitem(expansion.TRANSFORMS, "vjp", wrong)


def wrong_batch(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(expansion.TRANSFORMS, "vmap", lambda op, region: tampered(vmap(region, op.mapped, op.extent)))


def wrong_meaning(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sin, "numpy", lambda x: 1.001 * np.sin(x))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (steep_sine, "forward mode and differences differ"),
        (wrong_transpose, "reverse and forward mode differ"),
        (straight_sine, "the second derivative and differences of the first differ"),
        (lopsided_product, "the second derivative is not symmetric"),
        (wrong_reverse_of_reverse, "reverse over reverse and forward over reverse differ"),
        (wrong_batch, "vmap = single calls does not hold"),
        (wrong_meaning, "compiled = interpreted does not hold"),
    ],
)
def test_every_equation_can_fail(
    fault: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
):
    fault(monkeypatch)
    _, faults = checked(WAVE)
    assert len(faults) == 1 and words in faults[0], faults
    assert "the derivatives of `wave` are wrong" in faults[0]


RULED = """
def f[n](x: f64[n], k: i32) -> f64 = stop_gradient(sum(sin(k * x[i]) for i))

@derivative(of=f)
def rule[n](x: f64[n], k: i32, dx: f64[n]) -> f64 = sum({slope} * dx[i] for i)

def g(x: f64) -> f64 = f([x, 2 * x], 3) * x
"""


def test_a_right_rule_is_checked_though_nothing_is_an_entry():
    said, faults = checked(RULED.format(slope="k * cos(k * x[i])"))
    assert faults == []
    assert said[1] == "f: derivatives in x agree at 2 random points (n = 2; n = 3)"
    assert not any("@entry" in line for line in said)


@pytest.mark.parametrize("slope", ["1.001 * k * cos(k * x[i])", "cos(k * x[i])", "k * cos(k * x[0])"])
@pytest.mark.parametrize("entry", ["", "@entry\n"])
def test_a_wrong_rule_fails_and_is_to_blame(slope: str, entry: str):
    text = RULED.format(slope=slope).replace("def g", f"{entry}def g")
    _, faults = checked(text)
    assert len(faults) == 1 and faults[0].startswith("the rule `rule` is not the derivative of `f`: forward mode and")


def test_a_rule_is_checked_with_its_function_or_by_its_own_name():
    program = dg.parse(RULED.format(slope="cos(k * x[i])"))
    assert [len(check_program(program, name, {})) for name in ("f", "rule", "g")] == [1, 1, 1]
    fault = check_program(program, "g", {})[0]
    assert fault.title.startswith("the derivatives of `g` are wrong")


def test_points_with_a_kink_are_left_for_others():
    said, faults = checked("@entry\ndef f(x: f64) -> f64 = relu(x) * x + abs(x) ** 3\n")
    assert faults == [] and "agree at 2 random points" in said[1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    return relu(x)\n", "kink or a jump"),
        ("    return abs(x)\n", "kink or a jump"),
        ("    return log(-abs(x) - 1)\n", "not finite"),
        ("    return sqrt(-1 - x ** 2)\n", "not finite"),
        ("    while x == x:\n        x = x + 1\n    return x\n", "did not end"),
    ],
)
def test_what_could_not_be_checked_is_said_and_fails(body: str, words: str):
    _, faults = checked(f"@entry\ndef f(x: f64) -> f64:\n{body}", x=0.0)
    assert len(faults) == 1 and words in faults[0] and "could not be checked" in faults[0]


def test_what_is_stopped_stands_still_in_differences():
    text = "@entry\ndef f(x: f64, y: f64) -> f64 = stop_gradient(sin(x) * y) * x + stop_gradient(y) ** 2 * y\n"
    said, faults = checked(text)
    assert faults == [] and "derivatives in x, y agree at 2 random points" in said[1]


def test_a_factorisation_is_not_stopped():
    said, faults = checked("@entry\ndef f[n](a: f64[n, n], b: f64[n]) -> f64[n] = solve(a + 3 * eye(n), b)\n")
    assert faults == [] and "agree at 2 random points" in said[1]


def test_long_programs_are_compared_by_their_kernels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check_kit, "LONG", 20)
    said, faults = checked(WAVE)
    assert faults == [] and "agree at 1 random point (n = 2)" in said[1]
    assert said[-1].endswith("too long to compare")


def test_the_command_prints_the_table_or_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "wave.dg"
    path.write_text(WAVE, encoding="utf-8")
    assert main(["check", str(path)]) == 0
    assert "second derivative is symmetric" in capsys.readouterr().out
    assert main(["check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "diagnostics": []}
