"""What the tests of the corpus share: a cache of their own."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache that other work has filled is slow to keep small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DGRAPH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
