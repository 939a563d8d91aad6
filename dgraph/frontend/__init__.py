"""The front end: from the text of a program to typed graphs.

module = load_program("model.dg")              # or parse_program(text)
check(module)                                  # up to ten diagnostics; none if all is well
functions(module)["loss"].formals              # what a program offers
graph = lower_function(module, "loss")         # or lower_function(module, Derived("grad", "loss", wrt="model"))
start = lower_initialiser(module, "model")     # from a key to the initial value of a param
"""

from dgraph.frontend import (
    assertions,
    atoms,
    batching,
    derivative_rules,
    jacobians,
    linear_algebra,
    loops,
    rearrange,
    shapes,
    solutions,
)
from dgraph.frontend.checks import check
from dgraph.frontend.entry import Derived, Target, lower_function, target_name
from dgraph.frontend.initialisers import lower_initialiser
from dgraph.frontend.listing import FormalInfo, FunctionInfo, RecordInfo, StoredInfo, functions, records, stored
from dgraph.frontend.modules import Module
from dgraph.frontend.modules import load as load_program
from dgraph.frontend.modules import parse as parse_program
from dgraph.frontend.values import Annotated

__all__ = [
    "Annotated",
    "Derived",
    "FormalInfo",
    "FunctionInfo",
    "Module",
    "RecordInfo",
    "StoredInfo",
    "Target",
    "check",
    "functions",
    "load_program",
    "lower_function",
    "lower_initialiser",
    "parse_program",
    "records",
    "stored",
    "target_name",
]

RULES = (assertions, atoms, batching, derivative_rules, jacobians, linear_algebra, loops, rearrange, shapes, solutions)
"""The files whose rules are entered in the tables by importing them."""
