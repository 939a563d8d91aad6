"""Between host values and graph leaves: adapt arguments to declared types, build results from leaves."""

from __future__ import annotations

import operator
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from dgraph.errors import ArgumentError, DataError, Diagnostic, Label, Span
from dgraph.ir.graph import Formal
from dgraph.kernels.call import is_masked
from dgraph.program.records import RecordValue
from dgraph.types import Array, DType, Extent, Record, Tuple, Type, dtype_of_numpy, leaves, with_axes

if TYPE_CHECKING:
    from dgraph.program.functions import Function

LIMITS = {"i32": (-(2**31), 2**31 - 1), "i64": (-(2**63), 2**63 - 1), "u8": (0, 255), "key": (0, 2**64 - 1)}
LARGEST_SIZE = 2**40
"""More than any axis that fits into memory."""


def bind_arguments(
    name: str, formals: Sequence[Formal], given: Sequence[Any], named: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[Any]:
    """One host value per formal, from positional and keyword arguments and defaults. Raises `ArgumentError`."""
    names = [formal.name for formal in formals]
    required = [known for known in names if known not in defaults]
    if len(given) > len(names):
        _fault(f"{name} takes {len(names)} arguments ({', '.join(names)}), not {len(given)}")
    values = dict(zip(names, given, strict=False))
    for key, value in named.items():
        if key not in names:
            from difflib import get_close_matches

            near = get_close_matches(key, names, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(names) or 'none'}"
            _fault(f"{name} has no argument `{key}`", note=hint)
        if key in values:
            _fault(f"{name} got `{key}` twice: by position and by name")
        values[key] = value
    missing = [known for known in required if known not in values]
    if missing:
        listed = ", ".join(f"`{formal.name}: {formal.type}`" for formal in formals if formal.name in missing)
        _fault(f"{name} misses {'an argument' if len(missing) == 1 else 'arguments'}: {listed}")
    return [values[known] if known in values else defaults[known] for known in names]


def flatten(name: str, type_: Type, value: Any, span: Span | None = None) -> Iterator[np.ndarray[Any, Any]]:
    """The leaves of one argument as C-contiguous arrays of the declared dtype. Raises `ArgumentError`."""
    if isinstance(type_, Array):
        yield _array(name, type_, value, span)
    elif isinstance(type_, Tuple):
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(type_.items):
            many = isinstance(value, tuple | list)
            given = f"one of {len(value)}" if many else describe(value)
            _fault(f"`{name}` is a tuple of {len(type_.items)} entries, not {given}", span)
        for position, (item, entry) in enumerate(zip(type_.items, value, strict=True)):
            yield from flatten(f"{name}.{position}", item, entry, span)
    elif isinstance(type_, Record):
        yield from _record(name, type_, value, span)
    else:
        _fault(f"`{name}` is a function; the host cannot pass one", span)


Picker = Callable[[Any, list[Any]], None]


def picker(type_: Type) -> Picker:
    """A function that appends the leaves of a value of a type as they are, unchecked: the quick way in.

    It raises `KeyError`, `AttributeError`, `TypeError` or `ValueError` where `flatten` would have something to say.
    """
    if isinstance(type_, Array):
        return lambda value, found: found.append(value)
    if isinstance(type_, Tuple):
        items = [picker(item) for item in type_.items]

        def pick_tuple(value: Any, found: list[Any]) -> None:
            for pick, entry in zip(items, value, strict=True):
                pick(entry, found)

        return pick_tuple
    if not isinstance(type_, Record):
        raise TypeError(type_)
    fields = [(name, picker(with_axes(item, type_.axes))) for name, item in type_.fields]

    def pick_record(value: Any, found: list[Any]) -> None:
        if not isinstance(value, Mapping):
            for name, pick in fields:
                pick(getattr(value, name), found)
            return
        if len(value) != len(fields):
            raise KeyError(type_.name)
        for name, pick in fields:
            pick(value[name], found)

    return pick_record


def extent(name: str, value: Any) -> int:
    """The number of a formal of type `size`. Raises `ArgumentError`."""
    try:
        number = -1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= LARGEST_SIZE:
        _fault(f"`{name}` is a size, so it takes a whole number, 0 to {LARGEST_SIZE}, not {describe(value)}")
    return number


def build(type_: Type, leaves: Iterator[Any]) -> Any:
    """The host value of a type from its leaves in order."""
    if isinstance(type_, Tuple):
        return tuple(build(item, leaves) for item in type_.items)
    if isinstance(type_, Record):
        fields = ((field, with_axes(item, type_.axes)) for field, item in type_.fields)
        return RecordValue(type_.name, {field: build(item, leaves) for field, item in fields})
    return next(leaves)


def _record(name: str, type_: Record, value: Any, span: Span | None) -> Iterator[np.ndarray[Any, Any]]:
    if type_.axes and isinstance(value, list | tuple):
        yield from _stacked(name, type_, value, span)
        return
    names = [field for field, _ in type_.fields]
    if isinstance(value, Mapping):
        unknown = [key for key in value if key not in names]
        if unknown:
            from difflib import get_close_matches

            near = get_close_matches(str(unknown[0]), names, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(names)}"
            _fault(f"`{name}` is a {type_.name}, which has no field `{unknown[0]}`", span, hint)
    for field, item in type_.fields:
        if isinstance(value, Mapping):
            present, entry = field in value, value.get(field)
        else:
            present, entry = hasattr(value, field), getattr(value, field, None)
        if not present:
            title = f"`{name}` is a {type_.name} and needs the field `{field}`"
            _fault(title, span, f"its fields are {', '.join(names)}; {describe(value)} was given")
        yield from flatten(f"{name}.{field}", with_axes(item, type_.axes), entry, span)


def _stacked(name: str, type_: Record, value: Sequence[Any], span: Span | None) -> Iterator[np.ndarray[Any, Any]]:
    """A list of records for an array of records: leaf by leaf along a new leading axis."""
    inner = Record(type_.name, type_.fields, type_.arguments, type_.axes[1:])
    rows = [list(flatten(f"{name}[{at}]", inner, entry, span)) for at, entry in enumerate(value)]
    if not rows:
        yield from _no_rows(name, type_, span)
        return
    for parts in zip(*rows, strict=True):
        try:
            yield np.stack(parts)
        except ValueError:
            _fault(f"the entries of `{name}` differ in shape", span)


def _no_rows(name: str, type_: Record, span: Span | None) -> Iterator[np.ndarray[Any, Any]]:
    """The leaves of an empty list of records, where their types say all other sizes."""
    for field, item in type_.fields:
        for leaf, array in leaves(with_axes(item, type_.axes), f"{name}.{field}"):
            rest = [extent.constant for extent in array.shape[1:]]
            if None in rest:
                note = f"give its arrays: `{{'{field}': numpy.zeros((0, ...)), ...}}`"
                _fault(f"`{name}` is an empty list, which does not say the sizes of `{leaf}`", span, note)
            yield np.zeros((0, *(extent or 0 for extent in rest)), array.dtype.numpy)


def _array(name: str, type_: Array, value: Any, span: Span | None) -> np.ndarray[Any, Any]:
    array = as_array(name, value, span, f"is {_article(type_)} {type_}")
    if array.dtype != type_.dtype.numpy:
        literal = isinstance(value, bool | int | float | list | tuple) and not isinstance(value, np.generic)
        array = (_literal if literal else _converted)(name, type_.dtype, array, span)
    if array.ndim != type_.rank:
        _fault(f"`{name}` has {axes_in_words(array.ndim)}, and {type_} has {type_.rank}", span)
    return np.require(array, type_.dtype.numpy, ["C", "A"])


def as_array(name: str, value: Any, span: Span | None = None, wanted: str = "takes numbers") -> np.ndarray[Any, Any]:
    """Anything that holds numbers as a NumPy array or scalar, of whatever dtype. Raises `ArgumentError`."""
    if is_masked(value):
        _fault(f"`{name}` is a masked array", span, "fill it: `.filled(value)`")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    try:
        if isinstance(value, bool | int | float | list | tuple | np.generic):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        if hasattr(value, "__array__"):
            return np.asarray(value)
    except Exception as fault:  # what an array of another library raises is its own affair
        if isinstance(value, list | tuple) and isinstance(fault, ValueError):
            _fault(f"`{name}` is a nested list whose rows differ in length", span)
        _fault(f"`{name}` cannot be read as an array", span, f"{type(fault).__name__}: {fault}")
    _fault(f"`{name}` {wanted}, not {describe(value)}", span)


def _converted(name: str, wanted: DType, array: np.ndarray[Any, Any], span: Span | None) -> np.ndarray[Any, Any]:
    """An array of another dtype, where no value can change: a wider integer. Floats never convert by themselves."""
    found = dtype_of_numpy(array.dtype)
    if array.dtype.newbyteorder("=") == wanted.numpy:
        return array.astype(wanted.numpy)
    if wanted.kind == "int" and array.dtype.kind in "iu":
        low, high = LIMITS[wanted.name]
        fits = not array.ndim and low <= int(array) <= high
        if fits or np.can_cast(array.dtype, wanted.numpy):
            return array.astype(wanted.numpy)
    note = f"cast it: `{name}.astype(numpy.{wanted.numpy_name})`" if array.dtype.kind in "fiub" else ""
    # Whoever passes an array of uint64 need not know that keys are made of them.
    words = array.dtype if found is None or found.kind == "key" else found
    _fault(f"`{name}` is {words}, and {wanted} is declared", span, note)


def _literal(name: str, wanted: DType, array: np.ndarray[Any, Any], span: Span | None) -> np.ndarray[Any, Any]:
    """What a Python number or nested list holds, in the declared dtype."""
    if wanted.is_float and array.dtype == object and all(type(entry) in (int, float) for entry in array.flat):
        with suppress(OverflowError):
            array = array.astype(np.float64)
    kind = array.dtype.kind
    if not array.size:
        return array.astype(wanted.numpy)
    allowed = {"float": "fiu", "int": "iu", "key": "iu", "bool": "b"}[wanted.kind]
    if kind not in allowed:
        what = {"f": "a float", "b": "a bool", "i": "an integer", "u": "an integer", "c": "a complex number"}.get(kind)
        if what is None:
            _fault(f"`{name}` is {wanted}, and not every entry given is a number in range", span)
        _fault(f"`{name}` is {wanted}, and {what} was given", span)
    if wanted.name in LIMITS:
        low, high = LIMITS[wanted.name]
        if int(array.min()) < low or int(array.max()) > high:
            _fault(f"`{name}` is {wanted}, which holds {low} to {high}", span)
    with np.errstate(over="ignore"):
        found = array.astype(wanted.numpy)
    if wanted.is_float and not np.array_equal(np.isfinite(found), np.isfinite(array)):
        _fault(f"`{name}` is {wanted}, and not every number given fits", span)
    return found


def _article(type_: Array) -> str:
    return "an" if type_.dtype.name[0] in "fi" else "a"


def axes_in_words(count: int) -> str:
    """`2 axes`."""
    return "no axes (it is one number)" if count == 0 else "1 axis" if count == 1 else f"{count} axes"


def describe(value: Any) -> str:
    """A value as messages name it."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)[:40]
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}{list(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _fault(title: str, span: Span | None = None, note: str = "") -> NoReturn:
    labels = (Label(span, "declared here"),) if span is not None else ()
    raise ArgumentError(Diagnostic(title, labels, note))


def located(fault: ArgumentError, function: Function) -> ArgumentError:
    """The same fault with the declaration of the argument, or else of the function, shown."""
    first = fault.diagnostics[0]
    declared = function.program.module.functions.get(function.recipe.root.name)
    if first.labels or declared is None:
        return fault
    quoted = re.split(r"[.\[]", first.title.split("`")[1])[0] if "`" in first.title else ""
    place = next((formal.span for formal in declared.formals if formal.name == quoted), declared.span)
    return ArgumentError(Diagnostic(first.title, (Label(place, "declared here"),), first.note))


def read_arrays(path: Path) -> np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]]:
    """The array of a `.npy` file, or those of an `.npz` file by name. Raises `DataError`."""
    from zipfile import BadZipFile

    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as fault:
        note = fault.strerror if isinstance(fault, OSError) else None
        note = note or "it is damaged, holds Python objects, or is no .npy or .npz file"
        raise DataError(Diagnostic(f"cannot read {path} as a NumPy file", (), note)) from None


def is_extent(formal: Formal) -> bool:
    """Whether a formal is a size given by the host."""
    return isinstance(formal.type, Extent)
