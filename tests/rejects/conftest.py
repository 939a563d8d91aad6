"""What the tests of the corpus share: a cache of their own, and nightly tests that run only when they are asked for."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the nightly tests, unless `-m` names them; another `-m` does not bring them in."""
    if "nightly" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("nightly") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache that other work has filled is slow to keep small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DGRAPH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
