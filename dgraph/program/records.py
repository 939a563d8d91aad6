"""What a record is on the host: an object with attributes and keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def _same(one: Any, other: Any) -> bool:
    """Whether two leaves, records or tuples are equal as a whole."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, RecordValue) or isinstance(other, RecordValue):
        return bool(one == other)
    return np.array_equal(one, other)


class RecordValue(Mapping[str, Any]):
    """A record that came out of a function: `p.w`, `p["w"]`, `dict(p)`. It can be passed back in as it is."""

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        self.__dict__.update(fields)
        self.__dict__["_name"] = name
        self.__dict__["_fields"] = dict(fields)

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __getattr__(self, name: str) -> Any:
        fields = ", ".join(self.__dict__.get("_fields", ()))
        raise AttributeError(f"{self.__dict__.get('_name', 'record')} has no field {name!r}; it has {fields}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a record does not change; build a new one, as in dict(record, {name}=...)")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordValue):
            return NotImplemented
        mine, theirs = self._fields, other._fields
        return self._name == other._name and list(mine) == list(theirs) and all(_same(mine[k], theirs[k]) for k in mine)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self._name}({', '.join(f'{key}={value!r}' for key, value in self._fields.items())})"
