"""What the tests of the corpus share: a cache of their own, and an environment that each leaves as it was."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache that other work has filled is slow to keep small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DGRAPH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """A call of the corpus may set variables, and need not be run to its end."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
