"""Modules, imports, and what a program offers."""

import copy
import pickle
from pathlib import Path

import pytest
from frontend_run import run

from dgraph.errors import ScopeError
from dgraph.frontend import functions, load_program, parse_program, records, stored


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.dg").write_text(text, encoding="utf-8")


def test_a_file_beside_the_script_wins_over_the_standard_library(tmp_path):
    write(tmp_path, math="pi = 3\n", main="from math import pi\nimport math as m\n\ndef f() -> f64 = 1.0 * pi + m.pi\n")
    assert run(load_program(tmp_path / "main.dg"), "f") == 6.0


def test_the_standard_library_does_not_see_files_of_the_user(tmp_path):
    write(tmp_path, math="pi = 3\n", main="def f() -> f64 = 1.0 * pi\n")
    assert run(load_program(tmp_path / "main.dg"), "f") == pytest.approx(3.141592653589793)


def test_a_circle_of_imports_is_shown(tmp_path):
    write(tmp_path, a="import b\n", b="import c\n", c="import a\n")
    with pytest.raises(ScopeError, match="`a` imports itself") as caught:
        load_program(tmp_path / "a.dg")
    assert len(caught.value.diagnostics[0].labels) >= 3


def test_a_folder_is_a_path(tmp_path):
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib", deep="def double(x: f64) -> f64 = 2 * x\n")
    write(tmp_path, main="from lib.deep import double as twice\n\ndef f(x: f64) -> f64 = twice(x)\n")
    assert run(load_program(tmp_path / "main.dg"), "f", 3.0) == 6.0


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ScopeError, match="did you mean `glorot`"):
        parse_program("from nn.init import glorrot\n")
    with pytest.raises(ScopeError, match=r"did you mean `nn\.init`"):
        parse_program("from nn.inti import glorot\n")


def test_a_name_defined_twice_shows_both_places():
    with pytest.raises(ScopeError, match="`f` is defined twice") as caught:
        parse_program("def f() -> f64 = 1.0\ndef f() -> f64 = 2.0\n")
    assert [label.span.line for label in caught.value.diagnostics[0].labels] == [2, 1]


def test_prelude_names_may_be_shadowed():
    assert run("pi = 3.0\n\ndef sum(x: f64) -> f64 = x + pi\n\ndef f(x: f64) -> f64 = sum(x)\n", "f", 1.0) == 4.0


def test_what_a_program_offers():
    module = parse_program(
        "record Net[d]:\n    w: f32[d] = zeros()\n\nparam net: Net[3]\nstate seen: i32 = 0\n\n"
        "@train(optimiser=adam(rate=1e-3), wrt=net, batch=64)\ndef loss[n](x: f32[n, 3], rate: f32 = 0.5) -> f32:\n"
        '    """Doc."""\n    return inner(x) * rate\n\n'
        "def inner[n](x: f32[n, 3]) -> f32 = sum(x @ net.w)\n"
    )
    info = functions(module)["loss"]
    assert [(formal.name, formal.words, formal.default, formal.is_required) for formal in info.formals] == [
        ("x", "f32[n, 3]", None, True),
        ("rate", "f32", 0.5, False),
    ]
    assert str(info.formals[0].type) == "f32[n, 3]"
    assert info.sizes == ("n",) and info.doc == "Doc." and info.stored == ("net",)
    train = info.annotations["train"]
    assert train.keywords["batch"] == 64 and train.keywords["wrt"].name == "net"
    assert train.keywords["optimiser"].name == "adam" and train.keywords["optimiser"].keywords == {"rate": 1e-3}
    held = stored(module)
    assert [(one.kind, str(one.type)) for one in held.values()] == [("param", "Net[3]"), ("state", "i32")]
    assert records(module)["Net"].fields == (("w", "f32[d]"),)


def test_what_the_prelude_imports_is_read_when_it_is_wanted():
    module = parse_program("def f(x: f64) -> f64 = x * pi\n")
    assert module.prelude is not None
    assert "cross_entropy" in module.prelude.names
    assert [at.name for at in module.family] == ["prelude", "main"]
    assert module.lookup("cross_entropy") is not None
    assert [at.name for at in module.family] == ["prelude", "main", "nn.losses"]
    assert {"pi", "cross_entropy", "sgd", "det"} <= set(module.prelude.names)
    assert "sgd" in dict(module.prelude.names.items())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_of_a_module_has_the_whole_prelude(copied):
    other = copied(parse_program("def f(x: f64) -> f64 = x * pi\n"))
    assert other.lookup("sgd") is not None
    assert {"main", "nn.losses", "optim"} <= {at.name for at in other.family}
