"""The table of kinks holds in every mode, to the second order, in loops, index formulas and batches, interpreted and
compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kinks import KINKS, Kink

import dgraph as dg
from dgraph.ad import expand
from dgraph.frontend import lower_function, parse_program
from dgraph.ir.evaluate import evaluate

SECOND = {
    "curve": "hessian(f, wrt=x)",
    "forward over reverse": 'jacobian(slope, wrt=x, mode="forward")',
    "reverse over reverse": 'jacobian(slope, wrt=x, mode="reverse")',
    "forward over forward": 'jacobian(ahead, wrt=x, mode="forward")',
    "reverse over forward": 'jacobian(ahead, wrt=x, mode="reverse")',
}

PLACES = {
    "plain": "    return inner({arguments})\n",
    "for": "    y = 0.0\n    for t in range(2):\n        y += 0.5 * inner({arguments})\n    return y\n",
    "while": "    y, t = 0.0, 0\n    while t < 2:\n        y, t = y + 0.5 * inner({arguments}), t + 1\n    return y\n",
    "formula": "    return mean(inner({arguments}) for t in range(2))\n",
    "vmap": "    return mean(vmap(inner, over=({arguments},))({batches}))\n",
}
"""Where the expression stands: the mean of two of it, whose derivatives are its own."""


def program(kink: Kink, place: str = "plain") -> str:
    """The expression and all its derivatives, each as a function of the same arguments."""
    names = ["x", "c"][: len(kink.at)]
    types = [f"f64[{len(value)}]" if isinstance(value, tuple) else "f64" for value in kink.at]
    formals = ", ".join(f"{name}: {type_}" for name, type_ in zip(names, types, strict=True))
    arguments = ", ".join(names)
    batches = ", ".join(
        f"stack({name}, {name})" if "[" in type_ else f"[{name}, {name}]"
        for name, type_ in zip(names, types, strict=True)
    )
    lines = [f"def inner({formals}) -> f64 = {kink.text}"]
    lines.append(f"def f({formals}) -> f64:\n" + PLACES[place].format(arguments=arguments, batches=batches))
    lines.append(f'def slope({formals}) -> {types[0]} = grad(f, wrt=x, mode="reverse")({arguments})')
    lines.append(f'def ahead({formals}) -> {types[0]} = grad(f, wrt=x, mode="forward")({arguments})')
    for name in names:
        for mode in ("forward", "reverse"):
            lines.append(f'def {mode}_{name}({formals}) = jacobian(f, wrt={name}, mode="{mode}")({arguments})')
    for name, transform in SECOND.items():
        lines.append(f"def {name.replace(' ', '_')}({formals}) = {transform}({arguments})")
    lines.append(f"def both({formals}) = grad(f, wrt=({', '.join(names)},))({arguments})")
    return "\n".join(lines) + "\n"


def wanted(kink: Kink) -> dict[str, Any]:
    """What each function has to give."""
    found = {f"{mode}_{name}": slope for mode in ("forward", "reverse") for name, slope in zip("xc", kink.slopes)}  # noqa: B905
    found |= {"slope": kink.slopes[0], "ahead": kink.slopes[0]}
    if kink.second is not None:
        found |= {name.replace(" ", "_"): kink.second for name in SECOND}
    return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kink", KINKS, ids=lambda kink: kink.id)
def test_derivatives_at_kinks(kink: Kink, place: str) -> None:
    text, arguments = program(kink, place), [np.asarray(value, float)[()] for value in kink.at]
    module = parse_program(text)
    for name, expected in wanted(kink).items():
        (found,) = evaluate(expand(lower_function(module, name)), arguments)
        np.testing.assert_allclose(found, expected, rtol=1e-14, err_msg=f"{kink.id}: {name}, {place}")


@pytest.mark.parametrize("kink", KINKS, ids=lambda kink: kink.id)
def test_compiled_derivatives_at_kinks(kink: Kink) -> None:
    arguments = [np.asarray(value, float)[()] for value in kink.at]
    compiled = dg.parse(program(kink))
    np.testing.assert_allclose(compiled.both(*arguments), kink.slopes, rtol=1e-14)
    if kink.second is not None:
        np.testing.assert_allclose(compiled.curve(*arguments), kink.second, rtol=1e-14)
