"""Load, compile, call: programs as Python sees them."""

from typing import TYPE_CHECKING

from dgraph.program.functions import (
    Function,
    Program,
    compile,
    find_nonfinite,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    load,
    load_bundle,
    parse,
    value_and_grad,
    vjp,
    vmap,
)

if TYPE_CHECKING:
    from dgraph.program.compiled import Compiled

__all__ = [
    "Compiled",
    "Function",
    "Program",
    "compile",
    "find_nonfinite",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "load",
    "load_bundle",
    "parse",
    "value_and_grad",
    "vjp",
    "vmap",
]


def __getattr__(name: str) -> object:
    if name == "Compiled":
        from dgraph.program.compiled import Compiled

        return Compiled
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
