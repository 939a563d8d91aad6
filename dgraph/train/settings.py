"""What a `@train` annotation asks for, with `--set` on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

from dgraph.errors import ArgumentError, Diagnostic, ScopeError, Span
from dgraph.frontend import Annotated, FunctionInfo

NUMBERS: dict[str, type] = {"batch": int, "epochs": int, "test": float}
KNOWN = ("optimiser", "wrt", "batch", "epochs", "test", "data")


@dataclass(frozen=True)
class Settings:
    """Options of one `@train` function.

    `optimiser` names the two functions `NAME_start` and `NAME`, called with `options`. `batch` rows make a step,
    `epochs` passes over the data are made, `test` of the rows are held out at the end of the data (a count, or a
    fraction below 1). `data` is a file beside the program. `wrt` names the params to train; empty means all.
    """

    function: str
    span: Span
    optimiser: str = "sgd"
    options: Mapping[str, float] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()
    batch: int = 32
    epochs: int = 10
    test: float = 0.2
    data: Path | None = None

    def test_rows(self, rows: int) -> int:
        """How many of the rows are held out."""
        return min(rows, int(self.test) if self.test >= 1 else round(self.test * rows))


def read_settings(info: FunctionInfo, folder: Path) -> Settings:
    """The settings of a `@train` function. Raises `ScopeError` for an option that does not exist or does not fit."""
    note = info.annotations["train"]
    settings = Settings(info.name, info.span)
    if note.arguments:
        raise ScopeError.at(info.span, "@train takes its options by name", note="@train(optimiser=adam(rate=1e-3))")
    for name, value in note.keywords.items():
        settings = _apply(settings, name, value, folder)
    return settings


def _apply(settings: Settings, name: str, value: Any, folder: Path) -> Settings:
    span = settings.span
    if name == "optimiser":
        if not isinstance(value, Annotated) or value.arguments or not all(map(_is_number, value.keywords.values())):
            raise ScopeError.at(span, "an optimiser is a name with options", note="as in optimiser=adam(rate=1e-3)")
        return replace(settings, optimiser=value.name, options=dict(value.keywords))
    if name == "wrt":
        names = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(item, Annotated) for item in names):
            raise ScopeError.at(span, "wrt takes names of params", note="as in wrt=critic")
        return replace(settings, wrt=tuple(item.name for item in names))
    if name == "data":
        if not isinstance(value, str):
            raise ScopeError.at(span, 'data takes a file name in quotes, as in data="digits.npz"')
        return replace(settings, data=folder / value)
    if name in NUMBERS and _is_number(value):
        return _with_number(settings, name, value, span)
    near = get_close_matches(name, KNOWN, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"its options are {', '.join(KNOWN)}"
    title = f"{name} of @train takes a number" if name in NUMBERS else f"@train has no option `{name}`"
    raise ScopeError.at(span, title, note="" if name in NUMBERS else hint)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _with_number(settings: Settings, name: str, value: float, span: Span | None = None) -> Settings:
    whole = NUMBERS[name] is int
    if not isfinite(value) or (whole and value != int(value)) or value < (1 if whole else 0):
        title = f"{name}={value:g} is not {'a whole number of at least 1' if whole else 'a number of at least 0'}"
        raise ScopeError.at(span, title) if span is not None else ArgumentError(Diagnostic(title))
    return replace(settings, **{name: NUMBERS[name](value)})


def override(settings: Settings, texts: Sequence[str]) -> Settings:
    """Settings changed by texts such as `epochs=3`, `rate=0.01`; a name that is no setting is the optimiser's.

    Raises `ArgumentError`.
    """
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            equals = ""
        if not equals or not name or number != number:
            raise ArgumentError(Diagnostic(f"--set {text} is not NAME=NUMBER", (), "as in --set epochs=3"))
        if name in NUMBERS:
            settings = _with_number(settings, name, number)
        else:
            settings = replace(settings, options={**settings.options, name: number})
    return settings
