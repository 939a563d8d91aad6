"""The statements of random programs: bindings, definitions, choices, loops, updates, nested functions, records."""

from dataclasses import replace

from program_loops import LOOPS
from program_text import STATEMENTS, Scope, Writer

__all__ = ["Writer"]


def _bind_scalar(to: Writer, scope: Scope, _: int) -> Scope:
    name, made = to.fresh("a"), to.scalar(scope, 3)
    to.write(f"{name} = {made}")
    return scope.with_scalar(name)


def _bind_vector(to: Writer, scope: Scope, _: int) -> Scope:
    size = to.pick(["n", "m"])
    name, made = to.fresh("v"), to.vector(scope, size, 3)
    to.write(f"{name} = {made}")
    return scope.with_array(name, (size,))


def _bind_matrix(to: Writer, scope: Scope, _: int) -> Scope:
    name, made = to.fresh("u"), to.matrix(scope, 3)
    to.write(f"{name} = {made}")
    return scope.with_array(name, ("n", "m"))


def _define(to: Writer, scope: Scope, _: int) -> Scope:
    name, i = to.fresh("v"), to.fresh("i")
    made = to.scalar(scope.with_index(i, "n"), 3)
    to.write(f"{name}[{i}] = {made} for {i} in range(n)")
    return scope.with_array(name, ("n",))


def _choose(to: Writer, scope: Scope, depth: int) -> Scope:
    name, start = to.fresh("a"), to.scalar(scope, 1)
    to.write(f"{name} = {start}")
    scope = scope.with_scalar(name)
    to.write(f"if {to.condition(scope)}:")
    with to.block():
        to.body(scope, [name], depth)
    if to.draw(2):
        to.write(f"elif {to.condition(scope)}:")
        with to.block():
            to.body(scope, [name], depth)
    if to.draw(2):
        to.write("else:")
        with to.block():
            to.body(scope, [name], depth)
    return scope


def _count(to: Writer, scope: Scope, depth: int) -> Scope:
    """A loop that carries scalars and collects."""
    a, b, t, ys = to.fresh("a"), to.fresh("b"), to.fresh("t"), to.fresh("v")
    to.write(f"{a}, {b} = {to.scalar(scope, 1)}, 0.2")
    scope = scope.with_scalar(a).with_scalar(b)
    size = to.pick(["n", "m", "steps"])
    to.wish()
    to.write(f"for {t} in range({size}):")
    with to.block():
        to.body(scope.with_index(t, size), [a, b], depth)
        if to.draw(3) == 0:
            to.write(f"{a}, {b} = {b}, {a}")
        collects = size != "steps" and to.draw(2)
        if collects:
            to.write(f"{ys}[{t}] = {to.scalar(scope.with_index(t, size), 1)}")
    return scope.with_array(ys, (size,)) if collects else scope


def _update(to: Writer, scope: Scope, _: int) -> Scope:
    """A loop that updates the places of an array that it carries."""
    v, t = to.fresh("v"), to.fresh("t")
    to.write(f"{v} = 0.5 * {to.vector(scope, 'n', 1)}")
    inner = scope.with_array(v, ("n",)).with_index(t, "n")
    kind = to.draw(4)
    if kind == 0:
        to.write(f"{v}[k[{t}]] += 0.3 * {to.scalar(scope.with_index(t, 'n'), 2)} for {t} in range(n)")
    elif kind == 1:
        to.write(f"{v}[1:] = 0.5 * {v}[:-1] + {to.scalar(scope, 1)}")
    else:
        to.wish()
        to.write(f"for {t} in {to.pick(['range(n)', 'range(n - 1, -1, -1)'])}:")
        with to.block():
            place = to.pick([t, f"k[{t}]", f"({t} + 1) % n"])
            to.write(f"{v}[{place}] {to.pick(['=', '+='])} 0.4 * {to.scalar(inner, 2)}")
            if to.draw(2):
                to.write(f"{v}[0], {v}[1] = {v}[1], 0.5 * {v}[0]")
    return scope.with_array(v, ("n",))


def _walk(to: Writer, scope: Scope, depth: int) -> Scope:
    """A loop over rows, or over two arrays side by side."""
    a, t, r, e = to.fresh("a"), to.fresh("t"), to.fresh("r"), to.fresh("e")
    to.write(f"{a} = {to.scalar(scope, 1)}")
    scope = scope.with_scalar(a)
    kind = to.draw(3)
    if kind < 2:
        to.wish()
    if kind == 0:
        to.write(f"for {t}, {r} in enumerate({to.matrix(scope, 1)}):")
        inner = scope.with_index(t, "n").with_array(r, ("m",))
    elif kind == 1:
        to.write(f"for {r}, {e} in zip({to.matrix(scope, 1)}, {to.pick(scope.arrays['n',])}):")
        inner = scope.with_scalar(e).with_array(r, ("m",))
    else:
        to.write(f"for {e} in ({to.scalar(scope, 1)}, {to.scalar(scope, 1)}, s):")
        inner = scope.with_scalar(e)
    with to.block():
        to.body(inner, [a], depth)
    return scope


def _while(to: Writer, scope: Scope, depth: int) -> Scope:
    a, c = to.fresh("a"), to.fresh("c")
    to.write(f"{a}, {c} = {to.scalar(scope, 1)}, 0")
    scope = scope.with_scalar(a)
    to.wish()
    to.write(f"while {c} < {to.pick(['2', '3', 'steps'])} and {a} < {to.pick(['1.5', '0.8', '40'])}:")
    with to.block():
        to.body(scope, [a], depth)
        to.write(f"{c} += 1")
    return scope


def _nested(to: Writer, scope: Scope, depth: int) -> Scope:
    f, z = to.fresh("f"), to.fresh("z")
    to.write(f"def {f}({z}: f64) -> f64:")
    before = scope
    with to.block():
        inner = replace(scope.with_scalar(z), can_assign=())
        if depth > 0 and to.draw(2):
            inner = to.statement(inner, depth - 1)
        to.write(f"return {to.scalar(inner, 2)}")
    return replace(before, functions=(*before.functions, f))


def _record(to: Writer, scope: Scope, _: int) -> Scope:
    r = to.fresh("r")
    known = to.pick(scope.records)
    kind = to.draw(3)
    if kind == 0:
        to.write(f"{r} = Pair(a={to.scalar(scope, 2)}, b={to.vector(scope, 'n', 2)}, k=3)")
    elif kind == 1:
        to.write(f"{r} = 0.5 * {known} - {to.scalar(scope, 1)} * q")
    else:
        to.write(f"{r} = {known}")
        to.write(f"{r}.a = {to.scalar(scope, 2)}")
        to.write(f"{r}.b[1] += {to.scalar(scope, 2)}")
    return replace(scope, records=(*scope.records, r))


STATEMENTS.extend(
    [
        _bind_scalar,
        _bind_scalar,
        _bind_vector,
        _bind_matrix,
        _define,
        _choose,
        _choose,
        _count,
        _count,
        _update,
        _walk,
        _while,
        _nested,
        _record,
        *LOOPS,
    ]
)
