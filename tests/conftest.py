"""What every test may use: golden files, and GPU tests that skip themselves where there is no GPU."""

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite the files of tests/golden that differ")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """A function (path relative to tests/golden, text) that asserts the file holds the text, or writes it there."""
    update = request.config.getoption("--update")

    def compare(path: str, text: str) -> None:
        file = GOLDEN / path
        if update:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        assert file.is_file(), f"tests/golden/{path} does not exist; write it with: pytest --update"
        expected = file.read_text(encoding="utf-8")
        assert text == expected, f"differs from tests/golden/{path}; if it should, rewrite it with: pytest --update"

    return compare


@cache
def gpu_obstacle() -> str | None:
    """Why GPU tests cannot run here, or None where they can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "no NVIDIA GPU"
    if find_spec("numba_cuda") is None:
        return "the cuda extra is not installed"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked nightly unless -m speaks of it."""
    if "nightly" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("nightly") is not None]
    items[:] = [item for item in items if item.get_closest_marker("nightly") is None]
    config.hook.pytest_deselected(items=left_out)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and (obstacle := gpu_obstacle()) is not None:
        pytest.skip(obstacle)
