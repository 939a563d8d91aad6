"""A call on fixed arrays, without checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgraph.kernels.call import Workspace
    from dgraph.kernels.compile import CompiledGraph


class BoundCall:
    """A call on fixed arrays. It reads them as they are at each call and writes the same `outputs`; one thread at a
    time may call it."""

    def __init__(
        self,
        compiled: CompiledGraph,
        workspace: Workspace,
        arrays: tuple[Any, ...],
        sizes: tuple[tuple[str, int], ...],
        results: list[Any],
    ) -> None:
        self.compiled = compiled
        self.workspace = workspace
        self.arrays = arrays
        self.sizes = sizes
        pairs = zip(results, compiled.outputs, strict=True)
        self.outputs = [result if port.type.rank else result.reshape(()) for result, port in pairs]
        self._has_numbers = any(not port.type.rank for port in compiled.inputs)

    def __call__(self) -> list[Any]:
        """Run. Raises `CheckFailed` if a check fails."""
        if self._has_numbers:
            self.compiled.refill(self.workspace, self.arrays, self.sizes)
        status = self.compiled.run_entry(self.workspace)
        if status:
            self.compiled.refuse(status, self.workspace, self.sizes)
        return self.outputs
