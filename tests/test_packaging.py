"""The wheel and the source distribution carry everything that dgraph needs when there is no checkout beside it."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(target, source, folder):
    """The file that the build backend makes of the source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel as an installer makes it from the source distribution alone."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def names_under(folder):
    """Every file below the folder of the checkout, but what Python left there."""
    files = (file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(ROOT).as_posix() for file in files}


def test_wheel_holds_the_package_the_grammar_and_the_standard_library(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    grammar = {f"dgraph/{name}" for name in names_under("grammar")}
    assert "dgraph/grammar/dg.lark" in grammar
    assert held == names_under("dgraph") | grammar


def test_source_distribution_holds_what_the_checks_need(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("benchmarks", "dgraph", "docs", "examples", "grammar", "tests")
    files = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "pyproject.toml"}
    wanted = files.union(*map(names_under, folders))
    assert wanted <= held


def test_installed_wheel_parses_a_program_far_from_any_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import dgraph; "
        "program = dgraph.parse('def square(x: f64) -> f64 = x * x'); "
        "print(dgraph.__file__, program.square(3.0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    file, value = done.stdout.split()
    assert Path(file).is_relative_to(site)
    assert float(value) == 9.0
