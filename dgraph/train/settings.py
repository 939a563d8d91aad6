"""What a `@train` annotation asks for, with `--set` on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dgraph.errors import ArgumentError, Diagnostic, ScopeError, Span
from dgraph.frontend import tree as t

NUMBERS: dict[str, type] = {"batch": int, "epochs": int, "test": float}


@dataclass(frozen=True)
class Settings:
    """Options of one `@train` function.

    `optimiser` names the two functions `NAME_start` and `NAME`, called with `options`. `batch` rows make a step,
    `epochs` passes over the data are made, `test` of the rows are held out at the end of the data (a count, or a
    fraction below 1). `data` is a file relative to the program. `wrt` names the params to train; empty means all.
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


def read_settings(function: t.Function, folder: Path) -> Settings:
    """The settings of a `@train` function. Raises `DgraphError` at the place of a fault."""
    note = next(item for item in function.annotations if item.name == "train")
    settings = Settings(function.name, note.span)
    if note.arguments:
        raise ScopeError.at(note.arguments[0].span, "@train takes its options by name", note="@train(optimiser=adam(rate=1e-3))")
    for keyword in note.keywords:
        settings = _apply(settings, keyword, folder)
    return settings


def _apply(settings: Settings, keyword: t.Keyword, folder: Path) -> Settings:
    name, value = keyword.name, keyword.value
    if name == "optimiser":
        if isinstance(value, t.Name):
            return replace(settings, optimiser=value.name, options={})
        if isinstance(value, t.Call) and isinstance(value.function, t.Name) and not value.arguments:
            options = {option.name: _number(option.value) for option in value.keywords}
            return replace(settings, optimiser=value.function.name, options=options)
        raise ScopeError.at(value.span, "an optimiser is a name with options", note="as in optimiser=adam(rate=1e-3)")
    if name == "wrt":
        items = value.items if isinstance(value, t.Tuple) else (value,)
        if not all(isinstance(item, t.Name) for item in items):
            raise ScopeError.at(value.span, "wrt takes names of params")
        return replace(settings, wrt=tuple(item.name for item in items if isinstance(item, t.Name)))
    if name == "data":
        if not isinstance(value, t.String):
            raise ScopeError.at(value.span, 'data takes a file name in quotes, as in data="digits.npz"')
        return replace(settings, data=folder / value.value)
    if name in NUMBERS:
        return _with_number(settings, name, _number(value), value.span)
    known = [item.name for item in fields(Settings) if item.name not in ("function", "span", "options")]
    near = get_close_matches(name, known, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"its options are {', '.join(known)}"
    raise ScopeError.at(keyword.span, f"@train has no option `{name}`", note=hint)


def _number(value: t.Expression) -> float:
    if isinstance(value, t.Number):
        return value.value
    if isinstance(value, t.Negate):
        return -_number(value.operand)
    raise ScopeError.at(value.span, "an option of @train is a number written out")


def _with_number(settings: Settings, name: str, value: float, span: Span | None = None) -> Settings:
    whole = NUMBERS[name] is int
    if (whole and value != int(value)) or value < (1 if whole else 0):
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
            number: Any = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ArgumentError(Diagnostic(f"--set {text} is not NAME=NUMBER", (), "as in --set epochs=3"))
        if name in NUMBERS:
            settings = _with_number(settings, name, number)
        else:
            settings = replace(settings, options={**settings.options, name: number})
    return settings
