"""Dataclasses whose methods are written when they are first needed.

Writing and compiling the methods of some four hundred small classes took a quarter of the time that a first result
takes; most programs make instances of few of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, slots=False, kw_only=False):
        """The decorator of the standard library, for what this package asks of it."""

        def made(cls):
            by_hand = vars(cls)
            has_equality, has_hash = "__eq__" in by_hand, by_hand.get("__hash__") is not None
            has_text = "__repr__" in by_hand
            cls = dataclasses.dataclass(cls, init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)
            names = ["__init__"] if "__init__" not in by_hand else []
            if not has_text:
                cls.__repr__ = _shown
            if eq and not has_equality:
                names.append("__eq__")
            if eq and not has_hash:
                cls.__hash__ = None
                names += ["__hash__"] if frozen else []
            if frozen:
                cls.__setattr__ = cls.__delattr__ = _refuse
            for name in names:
                setattr(cls, name, _later(cls, name, names, frozen))
            return cls

        return made if cls is None else made(cls)


def _later(cls: type, name: str, names: list[str], frozen: bool) -> Callable[..., Any]:
    """A method that writes all methods of its class first, then does what it should have."""

    def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
        written = _written(cls, frozen)
        for each in names:
            setattr(cls, each, written[each])
        return written[name](self, *arguments, **keywords)

    return method


def _written(cls: type, frozen: bool) -> dict[str, Callable[..., Any]]:
    """The methods of a dataclass."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_none": dataclasses.MISSING}
    formals, keywords, lines = ["self"], list[str](), list[str]()
    fields = dataclasses.fields(cls)
    for field in fields:
        name, value = field.name, field.name
        has_factory = field.default_factory is not dataclasses.MISSING
        if has_factory:
            known[f"_new_{name}"] = field.default_factory
            value = f"_new_{name}() if {name} is _none else {name}" if field.init else f"_new_{name}()"
        elif field.default is not dataclasses.MISSING:
            known[f"_default_{name}"] = field.default
        if field.init:
            default = "=_none" if has_factory else f"=_default_{name}" if f"_default_{name}" in known else ""
            (keywords if field.kw_only else formals).append(f"{name}{default}")
        if field.init or has_factory:
            lines.append(f"    _set(self, {name!r}, {value})" if frozen else f"    self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    mine, other = ("".join(f"{of}.{field.name}, " for field in fields if field.compare) for of in ("self", "other"))
    text = [
        f"def __init__({', '.join([*formals, *(['*', *keywords] if keywords else [])])}):",
        *(lines or ["    pass"]),
        "def __eq__(self, other):",
        "    if other.__class__ is not self.__class__:",
        "        return NotImplemented",
        f"    return ({mine}) == ({other})",
        "def __hash__(self):",
        f"    return hash(({mine}))",
    ]
    methods: dict[str, Callable[..., Any]] = {}
    exec("\n".join(text), known, methods)
    for name, method in methods.items():
        method.__qualname__ = f"{cls.__qualname__}.{name}"
    return methods


@recursive_repr()
def _shown(self: Any) -> str:
    parts = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(parts)})"


def _refuse(self: object, name: str, _value: object = None) -> None:
    raise dataclasses.FrozenInstanceError(f"{type(self).__qualname__} cannot change: {name!r} stays as it is")
