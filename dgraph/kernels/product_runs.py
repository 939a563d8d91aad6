"""How what is not equally far apart lies in a nested product."""

from __future__ import annotations

from dgraph.classes import dataclass
from dgraph.sizes import Size


@dataclass(frozen=True, slots=True)
class Runs:
    """How the rows and summed indices of a nested product lie: so many in a run, and leaps from run to run, in entries
    of a matrix, down it or across it."""

    rows: Size
    inner: Size
    target_down: Size
    left_down: Size
    left_across: Size
    right_down: Size

    @property
    def sizes(self) -> tuple[Size, ...]:
        """All of them."""
        return self.rows, self.inner, self.target_down, self.left_down, self.left_across, self.right_down
