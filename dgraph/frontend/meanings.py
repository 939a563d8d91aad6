"""What each function of the language means, for readers: its docstring, or an entry here for those of a family that
share one rule. Each begins with how it is called."""

from __future__ import annotations

import inspect

from dgraph.frontend.builtins import ELEMENTWISE
from dgraph.frontend.calls import SYNTACTIC
from dgraph.frontend.context import BUILTINS
from dgraph.ir.op import OPS

FAMILIES = {
    "sum": "`sum(x, axis=0)`, `sum(x[i] for i)`: the sum; bools count. Of nothing 0.",
    "prod": "`prod(x, axis=0)`, `prod(x[i] for i)`: the product. Of nothing 1.",
    "mean": "`mean(x, axis=0)`, `mean(x[i] for i)`: the mean; bools count. Of nothing a fault of the run.",
    "max": (
        "`max(x, axis=0)`, `max(x[i] for i)`: the largest entry, of nothing -inf; its derivative belongs to the first "
        "one. `max(a, b, ...)` goes entry by entry; ties share the derivative equally."
    ),
    "min": (
        "`min(x, axis=0)`, `min(x[i] for i)`: the smallest entry, of nothing inf; its derivative belongs to the first "
        "one. `min(a, b, ...)` goes entry by entry; ties share the derivative equally."
    ),
    "logsumexp": (
        "`logsumexp(x, axis=0)`, `logsumexp(x[i] for i)`: `log(sum(exp(x)))` without overflow. Of nothing -inf."
    ),
    "any": "`any(c, axis=0)`, `any(c[i] for i)`: whether one holds. Of nothing False.",
    "all": "`all(c, axis=0)`, `all(c[i] for i)`: whether all hold. Of nothing True.",
    "argmax": (
        "`argmax(x, axis=0)`, `argmax(x[i] for i)`: the place of the first largest entry, over several axes in "
        "row-major order; a NaN wins. Of nothing a fault of the run."
    ),
    "argmin": (
        "`argmin(x, axis=0)`, `argmin(x[i] for i)`: the place of the first smallest entry, over several axes in "
        "row-major order; a NaN wins. Of nothing a fault of the run."
    ),
    "softmax": "`softmax(x, axis=-1)`: `exp(x) / sum(exp(x))` along an axis, without overflow.",
    "log_softmax": "`log_softmax(x, axis=-1)`: the logarithm of `softmax`.",
    "zeros": "`zeros(n, m)`, `zeros(like=x)`, `zeros()`: zeros, of the type that they meet if no shape is given.",
    "ones": "`ones(n, m)`, `ones(like=x)`, `ones()`: ones, of the type that they meet if no shape is given.",
    "normal": (
        "`normal(key, n, m, scale=1)`: draws from the standard normal distribution, times `scale`; with a shape, "
        "`like=x`, or of the type that they meet."
    ),
    "uniform": (
        "`uniform(key, n, m, scale=1)`: numbers spread evenly over [0, 1), times `scale`; with a shape, "
        "`like=x`, or of the type that they meet."
    ),
    "bernoulli": "`bernoulli(key, p, n, m)`: True with probability p, one number or one for each entry.",
    "randint": "`randint(key, low, high, n, m)`: integers from low to high - 1.",
    "grad": "`grad(f, wrt=x)`: the gradient of a function with a scalar result, as a function.",
    "value_and_grad": "`value_and_grad(f, wrt=x)`: the value and the gradient.",
    "jvp": "`jvp(f, wrt=x)(..., dx)`: the value, and its change along dx.",
    "vjp": "`vjp(f, wrt=x)(..., ct)`: the gradient of f weighted with ct.",
    "jacobian": '`jacobian(f, wrt=x, mode="auto")`: all partial derivatives, the axes of the result first.',
    "hessian": "`hessian(f, wrt=x)`: all second derivatives.",
    "hvp": "`hvp(f, wrt=x)(..., v)`: the second derivatives times v.",
    "vmap": "`vmap(f, over=x)`: the function for every entry along the first axis of x.",
    "range": "`for i in range(start, stop, step)`: the integers from a start up to but without a stop.",
    "enumerate": "`for i, x in enumerate(xs)`: places and entries.",
    "zip": "`for x, y in zip(xs, ys)`: the entries of several arrays side by side.",
}


def functions_of_the_language() -> dict[str, str]:
    """What each function of the language means, by name, in the order of the alphabet."""
    names = sorted(name for name in BUILTINS if not name.startswith("_"))
    return {name: FAMILIES.get(name) or _documented(name) for name in names}


def _documented(name: str) -> str:
    if name in ELEMENTWISE and not BUILTINS[name].__doc__:
        first = (inspect.getdoc(OPS[name]) or "").split("\n\n")[0]
        return f"`{name}(x)`: {first[0].lower() + first[1:]}"
    return inspect.getdoc(BUILTINS[name]) or inspect.getdoc(SYNTACTIC.get(name)) or ""
