"""The problems of the AD benchmark in C++ by Enzyme, through the C++ call of the wheel `enzyme-ad`, sizes built in.

Runs in an environment of its own, since the wheel wants a JAX of its own (`enzyme-ad==0.0.16` with `jax==0.8.1`), and
needs gcc's headers. The call costs some microseconds. Left out are problems with loops of unknown length, `ht`, and
`ode` of 100,000 entries, whose compilation takes many minutes.
"""

import math
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from enzyme_ad.jax import cpp_call
from gradbench_data import Form, Workload
from measure import versions

jax.config.update("jax_enable_x64", True)

VERSIONS = versions("enzyme_ad")
SOURCE = Path(__file__).with_suffix(".cpp").read_text(encoding="utf-8")
PARTS = ("primal", "derivative")
LONGEST = 20_000
VARIANTS = {"Enzyme": ("-O3",), "Enzyme native": ("-O3",), "Enzyme native -ffast-math": ("-O3", "-ffast-math")}


def forms(work: Workload) -> dict[str, Form]:
    """The forms of a problem by name."""
    if work.problem not in CALLS or (work.problem == "ode" and len(work.inputs["x"]) > LONGEST):
        return {}
    sizes, arguments, value, slope = CALLS[work.problem](work.inputs)
    moved = [jnp.asarray(argument) for argument in arguments]
    constants = "".join(f"constexpr int {name} = {number};\n" for name, number in sizes.items())
    source = f"#define {work.problem.upper()}\n{constants}{SOURCE}"
    found = {}
    for title, options in VARIANTS.items():
        options += processor() if "native" in title else ()
        calls = (
            called(source, part, options, shapes, moved) for part, shapes in zip(PARTS, (value, slope), strict=True)
        )
        found[title] = Form(*calls)
    return found


def called(
    source: str, part: str, options: tuple[str, ...], outputs: list[Any], arguments: list[Any]
) -> Callable[[], Any]:
    """A call of a function of the source."""
    shapes = [jax.core.ShapedArray(shape, kind) for shape, kind in outputs]
    given = (*options, *headers())
    run = jax.jit(lambda *args: cpp_call(*args, out_shapes=shapes, source=source, fn=part, argv=given))
    return lambda: jax.block_until_ready(run(*arguments))


def gcc(*options: str) -> str:
    """What gcc says of itself."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("gcc, whose headers are needed, is missing")
    done = subprocess.run([compiler, *options], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


@cache
def processor() -> tuple[str, ...]:
    """Options that name this processor."""
    known = gcc("-march=native", "-Q", "--help=target").partition("-march=")[2].split()
    return ("-target-cpu", known[0])


@cache
def headers() -> tuple[str, ...]:
    """Options that name the folders of gcc's headers."""
    told = gcc("-E", "-xc++", "-v", "/dev/null")
    folders = told.partition("> search starts here:")[2].partition("End of search list")[0].split()
    return tuple(part for folder in folders for part in ("-internal-isystem", folder))


Call = tuple[dict[str, int], list[Any], list[Any], list[Any]]


def real(*shapes: tuple[int, ...]) -> list[Any]:
    """Outputs of real numbers."""
    return [(shape, jnp.float64) for shape in shapes]


def _gmm(given: Any) -> Call:
    (n, d), k = given["x"].shape, len(given["alpha"])
    half = (d + 1) / 2
    log_gamma = d * (d - 1) / 4 * math.log(math.pi) + sum(math.lgamma(half - j / 2) for j in range(d))
    constant = k * ((d + 1) * d * math.log(1 / math.sqrt(2)) - log_gamma) - n * d / 2 * math.log(2 * math.pi)
    active = [given[name] for name in ("alpha", "mu", "q", "l")]
    return (
        {"N": n, "D": d, "K": k},
        [*active, given["x"], np.array([constant])],
        real((1,)),
        real(*(a.shape for a in active)),
    )


def _ba(given: Any) -> Call:
    n, m, p = (len(given[name]) for name in ("cams", "x", "w"))
    arguments = [given[name] for name in ("cams", "x", "w", "feats")]
    sparse = [((3 * p + 1,), jnp.int32), ((31 * p,), jnp.int32), *real((31 * p,))]
    return (
        {"CAMERAS": n, "POINTS": m, "P": p},
        [*arguments, given["obs"].astype(np.int32)],
        real((2 * p,), (p,)),
        sparse,
    )


def _lstm(given: Any) -> Call:
    arguments = [given[name] for name in ("main_params", "extra_params", "state", "sequence")]
    length, bits = given["sequence"].shape
    sizes = {"L": len(given["state"]) // 2, "B": bits, "C": length}
    return sizes, arguments, real((1,)), real(*(argument.shape for argument in arguments[:2]))


def _kmeans(given: Any) -> Call:
    (n, d), k = given["points"].shape, len(given["centroids"])
    return {"N": n, "D": d, "K": k}, [given["points"], given["centroids"]], real((1,)), real((k, d))


def _det(given: Any) -> Call:
    return {"N": len(given["a"])}, [given["a"]], real((1,)), real(given["a"].shape)


def _llsq(given: Any) -> Call:
    return {"N": given["n"], "M": len(given["x"])}, [given["x"]], real((1,)), real(given["x"].shape)


def _lse(given: Any) -> Call:
    return {"N": len(given["x"])}, [given["x"]], real((1,)), real(given["x"].shape)


def _ode(given: Any) -> Call:
    shape = given["x"].shape
    return {"N": shape[0], "S": given["s"]}, [given["x"]], real(shape), real(shape)


CALLS: dict[str, Callable[[Any], Call]] = {
    "gmm": _gmm,
    "ba": _ba,
    "lstm": _lstm,
    "kmeans": _kmeans,
    "det": _det,
    "llsq": _llsq,
    "lse": _lse,
    "ode": _ode,
}
