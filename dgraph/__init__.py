"""The public face of dgraph: names load the part they belong to when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dgraph.errors import DgraphError
    from dgraph.program import (
        Compiled,
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

__version__ = "0.1.0"

__all__ = [
    "Compiled",
    "DgraphError",
    "Function",
    "Program",
    "__version__",
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
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = "errors" if name == "DgraphError" else "program"
    value: object = getattr(import_module(f"{__name__}.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
