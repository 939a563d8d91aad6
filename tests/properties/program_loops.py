"""More statements of random programs: loops that end early, walk with integers, draw noise, write into matrices."""

from dataclasses import replace

from program_text import Scope, Writer


def _ends_early(to: Writer, scope: Scope, depth: int) -> Scope:
    """A `while` whose end is decided inside of its body, by a carried flag."""
    a, done, c = to.fresh("a"), to.fresh("done"), to.fresh("c")
    to.write(f"{a}, {done}, {c} = {to.scalar(scope, 1)}, False, 0")
    inner = scope.with_scalar(a).with_count(f"min({c}, 2)")
    to.wish()
    to.write(f"while not {done} and {c} < {to.pick(['n', '3', 'steps', 'k[0]'])}:")
    with to.block():
        to.write(f"if {a} > {to.number()} or {to.condition(inner)}:")
        with to.block():
            to.write(f"{done} = True")
            if to.draw(2):
                to.body(inner, [a], depth)
        to.write("else:")
        with to.block():
            to.body(inner, [a], depth)
            to.write(f"{c} += 1")
    return scope.with_scalar(a).with_count(f"min({c}, 2)")


def _hops(to: Writer, scope: Scope, depth: int) -> Scope:
    """A loop that goes through an array by an index it carries; how many steps only the run decides."""
    a, j, t = to.fresh("a"), to.fresh("j"), to.fresh("t")
    x = to.pick(scope.arrays["n",])
    to.write(f"{a}, {j} = {to.scalar(scope, 1)}, {to.pick(['k[0]', 'k[1]', '1 - k[0]'])}")
    to.wish()
    to.write(f"for {t} in range({to.pick(['k[0]', 'k[0] + k[1]', '2 * k[1] + 1', 'steps'])}):")
    with to.block():
        inner = scope.with_scalar(a).with_index(j, "n").with_index(j, "m")
        to.body(inner, [a], depth)
        to.write(f"{a} += 0.3 * {x}[{j}] * sin({a})")
        to.write(f"{j} = ({j} + {t} + k[{j}]) % 2")
    return scope.with_scalar(a).with_count(j)


def _noise(to: Writer, scope: Scope, depth: int) -> Scope:
    """A loop that draws, some of its carries keys."""
    a, t, z, key = to.fresh("a"), to.fresh("t"), to.fresh("z"), to.fresh("key")
    to.write(f"{a}, {key} = {to.scalar(scope, 1)}, fold(r, {to.draw(5)})")
    to.wish()
    to.write(f"for {t} in range({to.pick(['n', 'steps', 'k[1] + 1'])}):")
    with to.block():
        if to.draw(2):
            to.write(f"{key}, {z}k = split({key})")
            to.write(f"{z}: f64 = normal({z}k)")
        else:
            to.write(f"{z}: f64 = uniform(fold({key}, {t}))")
        to.body(scope.with_scalar(a).with_scalar(z), [a], depth)
    return scope.with_scalar(a)


def _table(to: Writer, scope: Scope, _: int) -> Scope:
    """Loops that fill a matrix from its own entries, rows and columns."""
    u, i, j = to.fresh("u"), to.fresh("i"), to.fresh("j")
    to.write(f"{u} = 0.5 * {to.matrix(scope, 1)}")
    inner = scope.with_array(u, ("n", "m")).with_index(i, "n")
    to.wish()
    to.write(f"for {i} in {to.pick(['range(n)', 'range(1, n)', 'range(n - 1, -1, -1)'])}:")
    with to.block():
        kind = to.draw(4)
        if kind == 0:
            to.write(f"{u}[{i}] = 0.5 * tanh({u}[({i} + 1) % n] + {to.scalar(inner, 2)})")
        elif kind == 1:
            to.write(f"{u}[{i}, {to.index(inner, 'm')}] {to.pick(['=', '+=', '*='])} 0.4 * {to.scalar(inner, 2)}")
            to.write(f"{u}[:, 0] = 0.9 * {u}[:, 0] + 0.1 * {u}[{i}, 1]")
        elif kind == 2:
            to.wish()
            to.write(f"for {j} in range(1, m):")
            with to.block():
                to.write(f"{u}[{i}, {j}] = tanh({u}[{i}, {j} - 1] + {u}[{i} // 2, {j}])")
                if to.draw(2):
                    to.write(f"{u}[{i}, {j}] += 0.2 * {to.scalar(inner.with_index(j, 'm'), 1)}")
        else:
            to.write(f"{u}[{i}, {j}] *= 0.5 * {to.scalar(inner.with_index(j, 'm'), 2)} for {j} if {j} > 0")
            to.write(f"{u}[0] += 0.1 * {u}[{i}] ** 2")
    return scope.with_array(u, ("n", "m"))


def _returns(to: Writer, scope: Scope, depth: int) -> Scope:
    """A function with several ways out, some behind loops; called later, also from points and loops."""
    f, z = to.fresh("f"), to.fresh("z")
    to.write(f"def {f}({z}: f64) -> f64:")
    with to.block():
        inner = replace(scope.with_scalar(z), can_assign=())
        for _ in range(1 + to.draw(2)):
            to.write(f"if {to.pick([f'{z} > {to.number()}', to.condition(inner)])}:")
            with to.block():
                here = to.statement(inner, depth - 1) if depth > 0 else inner
                to.write(f"return {to.scalar(here, 2)}")
            if depth > 0:
                inner = to.statement(inner, depth - 1)
        to.write(f"return {to.scalar(inner, 2)}")
    return replace(scope, functions=(*scope.functions, f))


def _lanes(to: Writer, scope: Scope, depth: int) -> Scope:
    """A `while` at each point of an array, each with its own number of steps, some with none."""
    f, z, a, c, v = (to.fresh(letter) for letter in "fzacv")
    to.write(f"def {f}({z}: f64) -> f64:")
    with to.block():
        to.write(f"{a}, {c} = {z}, 0")
        to.wish()
        to.write(f"while {a} > {to.pick(['0.1', '-0.3', '0.6'])} and {c} < 6:")
        with to.block():
            inner = replace(scope.with_scalar(z).with_scalar(a), can_assign=())
            to.body(inner, [a], depth)
            to.write(f"{a}, {c} = 0.8 * {a} - 0.1, {c} + 1")
        to.write(f"return {a} + 0.1 * {c} * {z}")
    x = to.pick(scope.arrays["n",])
    to.write(f"{v} = " + to.pick([f"vmap({f})({x})", f"[{f}({x}[i]) for i in range(n)]", f"vmap(grad({f}))({x})"]))
    return replace(scope.with_array(v, ("n",)), functions=(*scope.functions, f))


def _whole_state(to: Writer, scope: Scope, _: int) -> Scope:
    """A loop that carries an array and a record as wholes."""
    v, q, t = to.fresh("v"), to.fresh("q"), to.fresh("t")
    to.write(f"{v}, {q} = {to.vector(scope, 'n', 1)}, {to.pick(scope.records)}")
    inner = replace(scope.with_array(v, ("n",)), records=(*scope.records, q))
    head = to.draw(2)
    if head:
        to.wish()
        to.write(f"for {t} in range({to.pick(['steps', 'n', 'k[0]'])}):")
        inner = inner.with_count(f"min({t}, 2)")
    else:
        to.write(f"{t} = 0")
        to.wish()
        to.write(f"while {t} < 3 and sum({v}) < {to.pick(['0.5', '3', '-1'])}:")
    with to.block():
        to.write(f"{v} = 0.5 * {v} + 0.3 * {to.vector(inner, 'n', 2)}")
        if to.draw(2):
            to.write(f"{q} = 0.5 * {q} + {to.scalar(inner, 1)} * q")
        if to.draw(2):
            to.write(f"{q}.b[{to.index(inner, 'n')}] = 0.3 * {to.scalar(inner, 2)}")
        if not head:
            to.write(f"{t} += 1")
    return replace(scope.with_array(v, ("n",)), records=(*scope.records, q))


def _places(to: Writer, scope: Scope, _: int) -> Scope:
    """Updates of many places by one formula: some coincide, some are left out, some count by what the run decides."""
    v, u, i, j = to.fresh("v"), to.fresh("u"), to.fresh("i"), to.fresh("j")
    to.write(f"{v}, {u} = 0.5 * {to.vector(scope, 'n', 1)}, 0.5 * {to.matrix(scope, 1)}")
    scope = scope.with_array(v, ("n",)).with_array(u, ("n", "m"))
    count = f"range({to.pick(['k[0]', 'k[1] + 1', '1 + k[0]'])})"
    inner = scope.with_index(i, "n")
    both = inner.with_index(j, "m")
    for _ in range(1 + to.draw(2)):
        sign = to.pick(["=", "+=", "-=", "*="])
        if kind := to.draw(7):
            value = f"0.4 * {to.scalar(both if kind in (1, 2) else inner, 2)}"
        if kind == 0:
            to.write(f"{v}[{i}] {sign} {v}[n - 1 - {i}] for {i} in {count}")
        elif kind == 1:
            to.write(f"{u}[k[{i}], {j}] {to.pick(['+=', '-='])} {value} for {i} in range(n) for {j} in range(m)")
        elif kind == 2:
            to.write(f"{u}[{i}, {j}] {sign} {value} for {i} for {j} if {to.condition(both)}")
        elif kind == 3:
            to.write(f"{v}[k[k[{i}]]] += {value} for {i} in {count} if {to.condition(inner)}")
        elif kind == 4:
            to.write(f"{v}[{i} + 1] {sign} 0.5 * {v}[{i}] + {value} for {i} in range(n - 1)")
        elif kind == 5:
            to.write(f"{u}[{i}] {sign} {value} * y for {i} in range(n)")
        else:
            to.write(f"{u}[{i}, 1] {sign} {value} for {i} in {count}")
    return scope


def _extremes(to: Writer, scope: Scope, _: int) -> Scope:
    """The largest, the smallest and where they stand, over counts that the run decides, pairs and repeated rows."""
    a, i, j, p, q = to.fresh("a"), to.fresh("i"), to.fresh("j"), to.fresh("p"), to.fresh("q")
    inner = scope.with_index(i, "n")
    x, w = to.pick(scope.arrays["n",]), to.pick(scope.arrays["n", "m"])
    word = to.pick(["max", "min", "0.3 * sum", "prod", "mean", "logsumexp"])
    count = to.pick(["k[0] + 1", "1 + k[0] * k[1]", "min(n, steps)"])
    kind = to.draw(6)
    if kind == 0:
        to.write(f"{a} = {word}(tanh({to.scalar(inner, 2)}) for {i} in range({count}))")
    elif kind == 1:
        to.write(f"{p}, {q} = {to.pick(['argmax', 'argmin'])}({w}[{i}, {j}] * {x}[{i}] for {i}, {j})")
        to.write(f"{a} = {w}[{p}, {q}] * {to.scalar(scope, 1)}")
    elif kind == 2:
        to.write(f"{a} = max({to.scalar(scope, 1)}, {to.scalar(scope, 1)}, min({to.scalar(scope, 1)}, {x}[0] + 0.1))")
    elif kind == 3:
        to.write(f"{a} = sum({w}[k][{i}, {j}] * {x}[k[{i}]] for {i}, {j}) / 4")
    elif kind == 4:
        guard = to.pick([f"{j} < {i}", f"{j} <= k[{i}]", f"k[{i}] == 1 or {i} == 0"])
        term = to.scalar(inner.with_index(j, "m"), 2)
        to.write(f"{a} = {word}(tanh({term}) for {i} in range(n) for {j} in range(m) if {guard} or {i} + {j} < 1)")
    else:
        rows = to.pick([f"{w}[k]", f"{w}[::-1]", f"[{w}[k[{i}]] for {i} in range(n)]"])
        to.write(f"{a} = tanh(sum({to.pick(['max', 'min', 'sum'])}({rows}, axis={to.draw(2)})))")
    return scope.with_scalar(a)


LOOPS = [
    _ends_early,
    _ends_early,
    _hops,
    _noise,
    _table,
    _table,
    _returns,
    _lanes,
    _whole_state,
    _places,
    _extremes,
]
