"""Texts that nobody means: cut short, binary, deeply nested, very long; in strange encodings; through the command."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from damage import PROGRAMS, fault_of, found_in, weakness

HEAD = "def f(x: f64) -> f64:\n"
BY_NAME = {file.name: file.read_text(encoding="utf-8") for file in PROGRAMS}


def receives(text: str) -> list[str]:
    """The titles of the diagnostics of a text, each with a place in it; empty if it is accepted."""
    wrong = weakness(text)
    assert wrong is None, f"{wrong}\n{text[:300]!r}"
    return [diagnostic.title for diagnostic in found_in(text)]


# ---- characters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lecture.dg", "math.dg", "kmeans.dg"])
def test_truncated_at_every_character(name: str) -> None:
    text = BY_NAME[name]
    for stop in range(len(text)):
        receives(text[:stop])


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_program_truncated_at_every_character(name: str) -> None:
    test_truncated_at_every_character(name)


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes(seed: int) -> None:
    chance = random.Random(seed)
    noise = bytes(chance.choices(range(256), k=200))
    assert receives(noise.decode("utf-8", errors="replace") + "\0")
    assert receives("?" + noise.decode("latin-1"))
    text = BY_NAME["conv.dg"]
    at = chance.randrange(len(text))
    receives(text[:at] + chr(chance.randrange(1, 0x3000)) + text[at + chance.randrange(3) :])


@pytest.mark.parametrize("name", ["lenet.dg", "kalman_smoother.dg", "optim.dg"])
def test_line_ends_and_byte_order_marks_change_nothing(name: str) -> None:
    text = BY_NAME[name]
    plain = receives(text)
    assert receives("\ufeff" + text) == plain
    assert receives(text.replace("\n", "\r\n")) == plain
    assert receives(text.replace("\n", "\r")) == plain
    assert receives(text.rstrip("\n")) == plain
    assert receives(text + "\n\n   \n\t\n# end") == plain


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("x = 1 − 2\n", "`−` is not a minus sign"),
        ("x = 1 – 2\n", "`–` is not a minus sign"),
        (HEAD + "    assert x > 0, “no”\n    return x\n", "strings use straight quotes"),
        ("x =\u00a01\n", "the invisible character U+00A0 (no-break space) is not part of the language"),
        ("x = 1\u200b\n", "the invisible character U+200B (zero width space) is not part of the language"),
        ("x = 1\u3000+ 2\n", "the invisible character U+3000 (ideographic space) is not part of the language"),
        ("x = 1\x0c\n", "the invisible character U+000C is not part of the language"),
        ("x = 1\x07\n", "the invisible character U+0007 is not part of the language"),
        ("x = 1\v\n", "the invisible character U+000B is not part of the language"),
        ("x = 1\u2028y = 2\n", "the invisible character U+2028 (line separator) is not part of the language"),
        ("x = \uff11\n", "`\uff11` (U+FF11) is not part of the language"),
        ("x = 2 × 3\n", "`×` is not an operator"),
        ("x = 3 ≤ 4\n", "`≤` is not an operator"),
        ("x = 2²\n", "`²` is not a name"),
        ("x = y²\n", "`y²` is not a name"),
        ("x = \0\n", "this is not text: it holds a NUL byte"),
        ("x = \ud800\n", "the invisible character U+D800 is not part of the language"),
        (HEAD + "\treturn x\n", "this line is indented with a tab"),
        (HEAD + "    if x > 0:\n    \treturn x\n", "this line is indented with a tab"),
        ("x = (1\n", "`(` is never closed"),
        ('x = "a\n', "this string is never closed"),
        ('"""a\n', "this docstring is never closed"),
        ("x = '''a'''\n", "strings use double quotes"),
    ],
)
def test_a_character_has_a_message(text: str, title: str) -> None:
    assert receives(text)[0] == title


def test_names_may_be_in_any_script() -> None:
    assert receives("def größe(α: f64, 長さ: f64) -> f64 = α * 長さ\n") == []


# ---- size and depth -------------------------------------------------------------------------------------------------


def nested(kind: str, depth: int) -> str:
    """A program nested so deep in one way."""
    if kind == "blocks":
        lines = [f"{'    ' * at}if x > {at}:" for at in range(1, depth + 1)]
        return HEAD + "\n".join([*lines, f"{'    ' * (depth + 1)}x = 1.0", "    return x\n"])
    if kind == "elif":
        arms = "    elif x > 1:\n        x = 2.0\n" * depth
        return f"{HEAD}    if x > 0:\n        x = 1.0\n{arms}    return x\n"
    if kind == "functions":
        lines = [f"{'    ' * at}def g{at}(x: f64) -> f64:" for at in range(1, depth + 1)]
        ends = [f"{'    ' * (at + 1)}return {f'g{at + 1}(x)' if at < depth else 'x'}" for at in range(depth, 0, -1)]
        return HEAD + "\n".join([*lines, *ends, "    return g1(x)\n"])
    if kind == "types":
        return "def f(x: " + "(" * depth + "f64" + ", f64)" * depth + ") -> f64 = 1.0\n"
    if kind == "function types":
        return "type T = " + "fn(f64) -> " * depth + "f64\ndef f(x: f64) -> f64 = x\n"
    before, inner, after = {
        "brackets": ("(", "x", ")"),
        "arrays": ("[", "x", "]"),
        "negations": ("-", "x", ""),
        "not": ("not ", "(x > 0)", ""),
        "choices": ("x if x > 0 else ", "x", ""),
        "powers": ("x ** ", "x", ""),
        "calls": ("sin(", "x", ")"),
        "lambdas": ("(lambda z: ", "x", ")(x)"),
        "subscripts": ("x[", "0", "]"),
        "members": ("", "x", ".T"),
        "tuples": ("(", "x", ", x)"),
        "comprehensions": ("[", "x", " for i in range(1)]"),
        "reducers": ("sum(", "x", " for i in range(1))"),
        "gradients": ("grad(", "sin", ")"),
    }[kind]
    return f"def f(x: f64) -> f64:\n    y = {before * depth}{inner}{after * depth}\n    return x\n"


KINDS = [
    *("blocks", "elif", "functions", "types", "function types", "brackets", "arrays", "negations", "not", "choices"),
    *("powers", "calls", "lambdas", "subscripts", "members", "tuples", "comprehensions", "reducers", "gradients"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [201, 400])
def test_deep_nesting_is_refused(kind: str, depth: int) -> None:
    assert receives(nested(kind, depth)) == ["this is nested more than 200 deep"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 5, 40])
def test_shallow_nesting_has_other_limits_only(kind: str, depth: int) -> None:
    assert "this is nested more than 200 deep" not in receives(nested(kind, depth))


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "    return " + " + ".join(["x"] * 20_000) + "\n",
        HEAD + "    return " + " - ".join(["x * 2"] * 2_000) + "\n",
        HEAD + "    return " + " * ".join(["x"] * 5_000) + "\n",
        "x = " + " + ".join(["1"] * 20_000) + "\n",
        HEAD + "".join(f"    y{at} = x + {at}\n" for at in range(5_000)) + "    return y0\n",
        HEAD + "    y = x\n" + "    y = y + 1\n" * 2_000 + "    return y\n",
        "".join(f"def g{at}(x: f64) -> f64 = x + {at}\n" for at in range(2_000)),
        "".join(f"c{at} = {at}\n" for at in range(5_000)),
        "record R:\n" + "".join(f"    a{at}: f64\n" for at in range(2_000)),
        "def f(" + ", ".join(f"a{at}: f64" for at in range(2_000)) + ") -> f64 = a0\n",
        "def f(x: f64) -> f64 = sum([" + ", ".join(["x"] * 5_000) + "])\n",
        "# " + "long " * 100_000 + "\nx = 1\n",
        f'"""{"words " * 100_000}"""\n',
        "def f(" + "a" * 50_000 + ": f64) -> f64 = 1.0\n",
    ],
    ids=range(14),
)
@pytest.mark.timeout(60)
def test_long_programs_are_fine(text: str) -> None:
    assert receives(text) == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "    return " + " + ".join(["x"] * 20_000) + " + undefined\n",
        HEAD + "    return " + " and ".join(["x"] * 20_000) + "\n",
        HEAD + "    return " + " < ".join(["x"] * 20_000) + "\n",
        HEAD + "    return " + "a" * 50_000 + "\n",
        HEAD + "    return x + " + "9" * 5_000 + "\n",
        "x = 1\n" * 5_000,
        "def f(" + ", ".join(["a: f64"] * 2_000) + ") -> f64 = a\n",
        "x = " + "(" * 100_000,
        "x" * 999_999 + "\n",
        "@" * 10_000,
        "\n" * 900_000 + "?",
        "#" * 1_000_001,
        "é" * 500_001,
    ],
    ids=range(13),
)
@pytest.mark.timeout(60)
def test_long_faults_are_told_shortly(text: str) -> None:
    wrong = weakness(text)
    # A file over the limit is refused as a whole, so its message has no place.
    assert wrong is None or wrong.startswith("no place: `model.dg` is larger"), wrong
    found = found_in(text)
    assert found
    for diagnostic in found:
        lines = diagnostic.render().splitlines()
        assert len(lines) < 30 and all(len(line) < 400 for line in lines), [line[:200] for line in lines]


# ---- files and the command ------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "dgraph"]


def refused(folder: Path, *arguments: str) -> str:
    """What the command says, which ends with code 1 and without a traceback."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=folder, timeout=200)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF\x02\x01\x00\x00", "not text"),
        (b"x = 1\n# caf\xe9\n", "not UTF-8"),
        (b"#" * 1_000_001, "larger than a program may be"),
        (b"x = " + b"(" * 5_000, "nested more than 200 deep"),
        (b"x = 1 & 2\n", "`&` is not an operator"),
        (b"def f(x: f64) -> f64 = y\n", "`y` is not defined"),
        (b"from a import b\n", "there is no module `a`"),
        (b"\xff\xfex\x00", "not text"),
    ],
    ids=range(8),
)
def test_the_command_refuses(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "model.dg").write_bytes(content)
    assert words in refused(tmp_path, "check", "model.dg")


def test_the_command_refuses_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.dg").mkdir()
    assert "cannot read" in refused(tmp_path, "check", "folder.dg")
    assert "cannot read" in refused(tmp_path, "check", "absent.dg")
    assert "cannot read" in refused(tmp_path, "run", "absent.dg:main", "--arg", "x=1")


def test_modules_that_import_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.dg").write_text("import b\n", encoding="utf-8")
    (tmp_path / "b.dg").write_text("import c\n", encoding="utf-8")
    (tmp_path / "c.dg").write_text("import a\n", encoding="utf-8")
    said = refused(tmp_path, "check", "a.dg")
    assert "imports itself" in said and all(f"{name}.dg:1:1" in said for name in "abc")


def test_a_fault_in_an_imported_module(tmp_path: Path) -> None:
    (tmp_path / "a.dg").write_text("import b\n", encoding="utf-8")
    (tmp_path / "b.dg").write_text("def f(x: f64) -> f64 = (x\n", encoding="utf-8")
    assert "b.dg:1:24" in refused(tmp_path, "check", "a.dg")
    (tmp_path / "b.dg").unlink()
    (tmp_path / "b.dg").mkdir()
    assert "there is no module `b`" in refused(tmp_path, "check", "a.dg")


def test_every_fault_of_the_command_has_a_place_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "model.dg").write_text("def f(x: f64) -> f64 = a\ndef g(x: f64) -> f64 = b\n", encoding="utf-8")
    said = refused(tmp_path, "check", "model.dg")
    assert said.count("error: ") == 2 and "\n\nerror: " in said


def test_places_are_checked_by_these_tests() -> None:
    assert all(fault_of(diagnostic) is None for diagnostic in found_in("def f(x: f64) -> f64 = y\n"))
