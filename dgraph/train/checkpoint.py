"""Where a run stands, and the file from which it goes on to the same bits as if it had never stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from dgraph import params as parameters
from dgraph.classes import dataclass
from dgraph.errors import DataError, Diagnostic
from dgraph.ir.graph import Formal
from dgraph.types import leaves

CHECKPOINT = "checkpoint.safetensors"
Leaves = list[Any]
Values = dict[str, Leaves]


@dataclass
class Standing:
    """Where a run stands, between two steps.

    `values` are params and states by name, `optimisers` the optimiser states of each `@train` function in order,
    `epoch` the number of whole epochs done, `batch` the batches done of the next one with the sums of their `losses`,
    `steps` the steps done in all; `rows` are the figures of the epochs, `best_epoch` and `best` the epoch with the
    least loss on the validation rows and its values, `seconds` the time it all took.
    """

    values: Values
    optimisers: list[list[Leaves]]
    losses: list[float]
    epoch: int = 0
    batch: int = 0
    steps: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best: Values | None = None
    seconds: float = 0.0

    @property
    def kept(self) -> Values:
        """The values that the run hands over: the best, if it chooses, else the last."""
        return self.values if self.best is None else self.best

    @property
    def kept_epoch(self) -> int:
        """The number of epochs after which `kept` stood."""
        return self.epoch if self.best is None else self.best_epoch

    def is_finite(self) -> bool:
        """Whether every number of the params and states is finite."""
        return all(
            bool(np.isfinite(leaf).all())
            for own in self.values.values()
            for leaf in own
            if np.asarray(leaf).dtype.kind == "f"
        )


@dataclass(frozen=True)
class Origin:
    """What a run was started with: whoever goes on with it starts from the same."""

    program: str
    seed: int
    settings: tuple[str, ...]
    data: str
    digest: str


def save_checkpoint(
    folder: Path, standing: Standing, origin: Origin, formals: Sequence[Formal], states: Sequence[Sequence[Formal]]
) -> None:
    """Write where a run stands as one file, whole or not at all. `formals` are those of the values, `states` those of
    each function's optimiser."""
    named = dict(_named(formals, standing.values, "values"))
    if standing.best is not None:
        named |= dict(_named(formals, standing.best, "best"))
    for at, (own, held) in enumerate(zip(states, standing.optimisers, strict=True)):
        named |= dict(_named(own, {formal.name: leaf for formal, leaf in zip(own, held, strict=True)}, f"state{at}"))
    facts = {
        "origin": {**vars(origin)},
        "losses": standing.losses,
        "epoch": standing.epoch,
        "batch": standing.batch,
        "steps": standing.steps,
        "rows": standing.rows,
        "best_epoch": standing.best_epoch,
        "has_best": standing.best is not None,
        "seconds": standing.seconds,
    }
    parameters.save(folder / CHECKPOINT, named, facts)


def _named(formals: Sequence[Formal], values: Mapping[str, Leaves], start: str) -> Iterator[tuple[str, Any]]:
    for formal in formals:
        for (label, _), leaf in zip(leaves(formal.type, formal.name), values[formal.name], strict=True):
            yield f"{start}/{label}", np.asarray(leaf)


def read_origin(folder: Path) -> Origin:
    """What the run in a folder was started with. Raises `DataError`."""
    return _origin(folder, _load(folder)[1])


def _load(folder: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    path = folder / CHECKPOINT
    if not path.is_file():
        what = "there is no run folder" if not folder.is_dir() else "no run can go on from"
        note = "a run writes its first checkpoint when an epoch is done or when it is interrupted"
        raise DataError(Diagnostic(f"{what} {folder}", (), note))
    return parameters.load(path)


def _origin(folder: Path, facts: Mapping[str, Any]) -> Origin:
    try:
        held = facts["origin"]
        return Origin(held["program"], held["seed"], tuple(held["settings"]), held["data"], held["digest"])
    except (KeyError, TypeError):
        raise DataError(Diagnostic(f"{folder / CHECKPOINT} is not a checkpoint of a run")) from None


def load_checkpoint(folder: Path, formals: Sequence[Formal], states: Sequence[Sequence[Formal]]) -> Standing:
    """Where the run in a folder stands. Raises `DataError` if it does not fit the program."""
    arrays, facts = _load(folder)

    def part(own: Sequence[Formal], start: str) -> Values:
        held = {name.partition("/")[2]: leaf for name, leaf in arrays.items() if name.startswith(f"{start}/")}
        # Scalars come out of kernels as NumPy scalars, so they go in again as such.
        return {
            formal.name: [leaf[()] for leaf in parameters.fit_leaves(formal.name, formal.type, held)] for formal in own
        }

    try:
        return Standing(
            part(formals, "values"),
            [list(part(own, f"state{at}").values()) for at, own in enumerate(states)],
            facts["losses"],
            facts["epoch"],
            facts["batch"],
            facts["steps"],
            facts["rows"],
            facts["best_epoch"],
            part(formals, "best") if facts["has_best"] else None,
            facts["seconds"],
        )
    except DataError as fault:
        title = f"the run in {folder} does not fit the program: {fault.diagnostics[0].title}"
        raise DataError(Diagnostic(title, (), "go on with the program as it was when the run began")) from None
    except (KeyError, TypeError):
        raise DataError(Diagnostic(f"{folder / CHECKPOINT} is not a checkpoint of a run")) from None
