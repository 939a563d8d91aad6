"""Functions that are generic in a dtype, a shape or a record, called by the host: each call's arguments say what they
stand for.

Such a function is compiled once per dtype and rank of its open arguments; sizes stay free, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic, Label, NotSupported
from dgraph.program.arguments import as_array, axes_in_words, describe, located
from dgraph.program.compiled import Compiled, Options, compile_function
from dgraph.program.records import RecordValue
from dgraph.types import DTYPES, DType, dtype_of_numpy

if TYPE_CHECKING:
    from dgraph.kernels.demand import Memory
    from dgraph.program.functions import Function, Types

PLURALS = {"float": "floats", "int": "integers", "number": "numbers"}
KINDS = {"float": ("float",), "int": ("int",), "number": ("float", "int")}
RECORD = "record"
"""The kind of a generic that stands for any record, or for an array."""


@dataclass(frozen=True)
class OpenFormal:
    """A formal whose type a call decides: a dtype by its name, or the generic that stands for one with its kind; the
    least number of axes; how many leading axes `vmap` puts in front of them; and whether a call must give it."""

    dtype: str
    kind: str
    rank: int
    batched: int
    is_required: bool


@dataclass(frozen=True)
class Open:
    """The formals of a function in order, and those among them whose type a call decides."""

    names: tuple[str, ...]
    formals: Mapping[str, OpenFormal]

    def to_json(self) -> Any:
        """Plain data."""
        return [self.names, {name: asdict(formal) for name, formal in self.formals.items()}]

    @classmethod
    def from_json(cls, data: Any) -> Open:
        """What `to_json` wrote."""
        return cls(tuple(data[0]), {name: OpenFormal(**facts) for name, facts in data[1].items()})


class Generic(Compiled):
    """A function whose kernels are made when a call says for which types; then it is called as any `Compiled`.

    `source`, `report` and `signature` are those of its only specialisation.
    """

    def __init__(self, function: Function, options: Options, open_: Open) -> None:
        self.function = function
        self.options = options
        self.open = open_
        self.made: dict[Types, Compiled] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in ("signature", "kernel"):
            raise AttributeError(name)
        if len(self.made) == 1:
            return getattr(next(iter(self.made.values())), name)
        listed = " and ".join(f"`{formal}`" for formal in self.open.formals)
        title = f"{self.function.recipe.words} is generic, so the types of {listed} are needed"
        declared = self.function.program.module.functions[self.function.recipe.root.name]
        note = "call it first" if not self.made else f"it has been called with {len(self.made)} sets of types"
        raise NotSupported(Diagnostic(title, (Label(declared.name_span, "generic"),), note))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Specialise for the types of the arguments, and call."""
        return self.specialised(arguments, named)(*arguments, **named)

    def leaves(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, int]]:
        """The leaves of all formals as arrays, and the numbers of the size formals."""
        return self.specialised(arguments, named).leaves(arguments, named)

    def bind(self, *arguments: Any, **named: Any) -> Any:
        """A call without checks on fixed arrays."""
        return self.specialised(arguments, named).bind(*arguments, **named)

    def memory(self, *arguments: Any, **named: Any) -> Memory:
        """The bytes that a call on these arguments uses."""
        return self.specialised(arguments, named).memory(*arguments, **named)

    def specialised(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> Compiled:
        """The function compiled for the types of some arguments. Raises `ArgumentError` if they do not say them."""
        types = self.types_of(dict(zip(self.open.names, arguments, strict=False)) | dict(named))
        found = self.made.get(types)
        if found is None:
            found = self.made[types] = compile_function(self.function.with_types(types), self.options)
        return found

    def exact(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> Compiled:
        """The function for the types of some arguments."""
        return self.specialised(arguments, named)

    def stand_in(self, given: Mapping[str, Any]) -> Function:
        """The function for the types of some arguments, and for f64, i32 and the fewest axes where there is none."""
        assumed = {
            name: np.zeros((2,) * (formal.rank + formal.batched), _numpy(formal))
            for name, formal in self._opened()
            if formal.kind != RECORD
        }
        return self.function.with_types(self.types_of(assumed | dict(given)))

    def types_of(self, given: Mapping[str, Any]) -> Types:
        """The dtype and the number of axes of every open formal that is given."""
        try:
            return self._types_of(given)
        except ArgumentError as fault:
            raise located(fault, self.function) from None

    def _types_of(self, given: Mapping[str, Any]) -> Types:
        for name, formal in self._opened():
            if formal.is_required and name not in given:
                raise ArgumentError(Diagnostic(f"{self.function.recipe.words} misses the argument `{name}`"))
        types, plain = [], {}
        for name, formal in self._opened():
            if name in given:
                record = self._record_of(name, formal, given[name])
                if record is None:
                    plain[name] = formal
                else:
                    types.append((name, record, formal.rank))
        arrays = {name: (formal, given[name], as_array(name, given[name])) for name, formal in plain.items()}
        solved: dict[str, str] = {}
        for name, (formal, value, array) in arrays.items():
            is_open = formal.kind != RECORD and formal.dtype not in DTYPES and formal.dtype not in solved
            if is_open and not _is_literal(value):
                solved[formal.dtype] = self._promoted(_dtype_of(name, formal, array)).name
        for name, (formal, value, array) in arrays.items():
            known = DTYPES.get(formal.dtype)
            if formal.kind == RECORD:
                known = self._promoted(_any_dtype(name, array))
            dtype = self._promoted(known).name if known is not None else solved.get(formal.dtype)
            if dtype is None and "float" in KINDS.get(formal.kind, ()):
                dtype = self.options.precision
            if dtype is None:
                title = f"`{name}` may be of any dtype, and {describe(value)} says none"
                note = f"give a NumPy value, as in `numpy.float32({name})`, or on the command line `{name}=@file.npy`"
                raise ArgumentError(Diagnostic(title, (), f"{note}, or say a precision"))
            rank = array.ndim - formal.batched
            if rank < 0:
                raise ArgumentError(Diagnostic(f"`{name}` has {axes_in_words(array.ndim)}; vmap runs over its first"))
            types.append((name, dtype, rank))
        return tuple(types)

    def _record_of(self, name: str, formal: OpenFormal, value: Any) -> str | None:
        """The name of the record type of a value; None if the formal is not for records or the value is an array."""
        if formal.kind != RECORD or isinstance(value, np.ndarray | np.generic | bool | int | float | list | tuple):
            return None
        if not isinstance(value, Mapping) and (hasattr(value, "__dlpack__") or hasattr(value, "__array__")):
            return None
        # A warm start of what is not generic loads no front end.
        from dgraph.frontend.listing import visible_records

        known = visible_records(self.function.program.module)
        own = getattr(value, "_name", None) if isinstance(value, RecordValue) else None
        if own in known:
            return str(own)
        fields = {record: {field for field, _ in info.fields} for record, info in known.items()}
        if isinstance(value, Mapping):
            fitting = [record for record, names in fields.items() if names == set(value)]
        else:
            fitting = [record for record, names in fields.items() if names and all(hasattr(value, x) for x in names)]
        if len(fitting) != 1:
            title = f"`{name}` may be any record, and {describe(value)} does not say which"
            listed = ", ".join(f"`{record}`" for record in fitting or known)
            note = f"it could be {listed}" if fitting else f"the program has {listed or 'no records'}"
            raise ArgumentError(Diagnostic(title, (), note))
        return fitting[0]

    def _opened(self) -> Sequence[tuple[str, OpenFormal]]:
        return list(self.open.formals.items())

    def _promoted(self, dtype: DType) -> DType:
        return DTYPES[self.options.precision] if self.options.precision and dtype.is_float else dtype


def concrete(function: Function, given: Mapping[str, Any], precision: str | None = None) -> Function:
    """The function itself, or if it is generic, the function for the types of some arguments; see `stand_in`."""
    from dgraph.program.lower import open_formals

    opened = open_formals(function.program.module, function.recipe)
    return function if opened is None else Generic(function, Options(precision=precision), opened).stand_in(given)


def _is_literal(value: Any) -> bool:
    """Whether a value takes the dtype that is asked for."""
    return isinstance(value, bool | int | float | list | tuple) and not isinstance(value, np.generic)


def _numpy(formal: OpenFormal) -> np.dtype[Any]:
    return DTYPES.get(formal.dtype, DTYPES["i32" if formal.kind == "int" else "f64"]).numpy


def _any_dtype(name: str, array: np.ndarray[Any, Any]) -> DType:
    found = dtype_of_numpy(array.dtype.newbyteorder("="))
    if found is None:
        raise ArgumentError(Diagnostic(f"`{name}` is an array of {array.dtype}, which is no type of the language"))
    return found


def _dtype_of(name: str, formal: OpenFormal, array: np.ndarray[Any, Any]) -> DType:
    found = dtype_of_numpy(array.dtype.newbyteorder("="))
    if found is None or found.kind not in KINDS[formal.kind]:
        title = f"`{name}` is {found or array.dtype}, and `{formal.dtype}` stands for {PLURALS[formal.kind]}"
        raise ArgumentError(Diagnostic(title))
    return found
