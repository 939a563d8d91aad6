"""What tests of whole programs share."""

import pytest

import dgraph.ops.disk
from dgraph.ops.two_levels import TwoLevels


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch):
    """Writing and reading cost nothing, so that short loops use the disk too."""
    plans: dict[tuple[int, int], TwoLevels] = {}

    def plan(slots: int, disk: int) -> TwoLevels:
        return plans.setdefault((slots, disk), TwoLevels(slots, disk, 0, 0))

    monkeypatch.setattr(dgraph.ops.disk, "two_levels", plan)
