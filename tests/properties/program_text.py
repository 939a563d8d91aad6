"""Random programs as text: well typed, smooth almost everywhere, bounded, legal for every n and m from 2 on.

`Writer` draws from a source of whole numbers, so that hypothesis can shrink a program that fails.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

HEAD = '''"""A random program."""

record Pair[n]:
    a: f64 = 0.5
    b: f64[n] = ones()
    k: i32 = 2

param p: Pair[3]

def smooth(z: f64, c: f64) -> f64 = sin(z) / (1 + c ** 2)

def spread[n](z: f64[n], c: f64) -> f64[n]:
    out[i] = tanh(z[i] + c) * z[n - 1 - i]
    return out

def twice(f: fn(f64) -> f64, z: f64) -> f64 = f(0.5 * f(z))

def total[P: record](u: P, v: P) -> f64 = dot(u, v) / (1 + dot(v, v))

'''
FORMALS = "s: f64, x: f64[n], y: f64[m], w: f64[n, m], q: Pair[n], d: f64[n], k: i64[n], steps: size, r: key"
LINE = f"""
def line[n, m](z: f64, {FORMALS}, ds: f64, dx: f64[n], dy: f64[m], dw: f64[n, m]) -> f64:
    value, array, count = main(s + z * ds, x + z * dx, y + z * dy, w + z * dw, q, d, k, steps, r)
    return value + 0.3 * sum(array)
"""
"""`main` along a line."""
DIFFERENTIATED = ("s", "x", "y", "w", "q", "p")
STATEMENTS: list[Callable[["Writer", "Scope", int], "Scope"]] = []
"""What a statement can be; filled by `program_statements`."""
WISHES = ("every=1", "every=2", "every=5", "slots=1", "slots=2", "slots=9", 'budget="64B"', "none")
Draw = Callable[[int], int]
"""A whole number from 0 up to, not including, the argument."""


@dataclass(frozen=True)
class Scope:
    """What can be named at a place: values by their shape, indices with the size that they run over."""

    scalars: tuple[str, ...]
    arrays: dict[tuple[str, ...], tuple[str, ...]]
    records: tuple[str, ...]
    functions: tuple[str, ...]
    indices: tuple[tuple[str, str], ...] = ()
    counts: tuple[str, ...] = ()
    """Integers from 0 to 2 that the run decides."""
    can_assign: tuple[str, ...] = ()

    def over(self, size: str) -> list[str]:
        """The indices that run over a size."""
        return [name for name, extent in self.indices if extent == size]

    def with_index(self, name: str, size: str) -> "Scope":
        return replace(self, indices=(*self.indices, (name, size)))

    def with_count(self, name: str) -> "Scope":
        return replace(self, counts=(*self.counts, name))

    def with_scalar(self, name: str) -> "Scope":
        return replace(self, scalars=(*(known for known in self.scalars if known != name), name))

    def with_array(self, name: str, shape: tuple[str, ...]) -> "Scope":
        return replace(self, arrays={**self.arrays, shape: (*self.arrays.get(shape, ()), name)})


@dataclass
class Writer:
    """One program. Statements go to `lines`; expressions are returned."""

    draw: Draw
    lines: list[str] = field(default_factory=list)
    indent: int = 1
    made: int = 0
    budget: int = 60

    def program(self, statements: int) -> str:
        """The text of a program whose `main` gives a scalar, an array and an integer."""
        scope = Scope(
            ("s",),
            {("n",): ("x", "d"), ("m",): ("y",), ("n", "m"): ("w",)},
            ("q",),
            (),
            can_assign=(),
        )
        for _ in range(statements):
            scope = self.statement(scope, 2)
        scalars = " + ".join(dict.fromkeys([*scope.scalars, self.scalar(scope, 2)]))
        arrays = [f"sum({name})" for shape in scope.arrays for name in scope.arrays[shape][-3:]]
        self.write(
            f"result = sin({scalars}) + 0.1 * ({' + '.join(arrays)}) + total({scope.records[-1]}, q) + p.a * p.b[0]"
        )
        self.write(f"return result, {self.vector(scope, 'n', 1)}, k[0]")
        body = "\n".join(self.lines)
        return f"{HEAD}def main[n, m]({FORMALS}) -> (f64, f64[n], i64):\n{body}\n"

    # ---- tools --------------------------------------------------------------------------------------------------

    def pick(self, options: Sequence[str]) -> str:
        return options[self.draw(len(options))]

    def write(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def block(self) -> Iterator[None]:
        self.indent += 1
        try:
            yield
        finally:
            self.indent -= 1

    def fresh(self, letter: str) -> str:
        self.made += 1
        return f"{letter}{self.made}"

    def number(self) -> str:
        return self.pick(["0.5", "0.3", "1.2", "-0.7", "2.0", "-1.0"])

    def wish(self) -> None:
        """Some loops say which of their states are kept."""
        if self.draw(3) == 0:
            self.write(f"@checkpoint({self.pick(WISHES)})")

    # ---- expressions --------------------------------------------------------------------------------------------

    def scalar(self, scope: Scope, depth: int) -> str:
        """An expression of a float; small arguments make small values."""
        self.budget -= 1
        if depth <= 0 or self.budget < 0:
            return self.leaf(scope)
        made = SCALARS[self.draw(len(SCALARS))](self, scope, depth - 1)
        return made if made is not None else self.leaf(scope)

    def leaf(self, scope: Scope) -> str:
        kind = self.draw(9)
        if kind == 0:
            return self.number()
        if kind == 1:
            record = self.pick(scope.records)
            return self.pick([f"{record}.a", f"{record}.b[{self.index(scope, 'n')}]", "p.a", "p.b[1]"])
        if kind == 2 and scope.indices:
            return f"0.1 * {self.pick([name for name, _ in scope.indices])}"
        if kind == 3 and scope.counts:
            return f"0.2 * {self.pick(scope.counts)}"
        if kind < 7:
            shapes = [shape for shape in scope.arrays if scope.arrays[shape]]
            shape = shapes[self.draw(len(shapes))]
            indices = ", ".join(self.index(scope, size) for size in shape)
            return f"{self.pick(scope.arrays[shape])}[{indices}]"
        return self.pick(scope.scalars)

    def index(self, scope: Scope, size: str) -> str:
        """A subscript inside an axis."""
        known = scope.over(size)
        if known and self.draw(5):
            name = self.pick(known)
            return self.pick([name, name, f"{size} - 1 - {name}", f"({name} + 1) % {size}", f"{name} // 2"])
        options = ["0", "1", "-1", *(f"{name} % 2" for name in scope.counts[-2:])]
        if scope.over("n"):
            options.append(f"k[{self.pick(scope.over('n'))}]")
        return self.pick(options)

    def condition(self, scope: Scope) -> str:
        options = [f"{self.pick(scope.scalars)} > {self.number()}", "k[0] == 1", "d[0] < d[1] < 0.8"]
        for name, size in scope.indices:
            options += [f"{name} % 2 == 0", f"0 < {name} and {name} < {size} - 1", f"not {name} == 0"]
            if size == "n":
                options += [f"d[{name}] > 0.1", f"x[{name}] > 0.2", f"k[{name}] == 0 or {name} == 1"]
        options += [f"{name} < 2" for name in scope.counts]
        return self.pick(options)

    def vector(self, scope: Scope, size: str, depth: int) -> str:
        """An expression of an array of one axis."""
        self.budget -= 1
        known = scope.arrays.get((size,), ())
        if (depth <= 0 or self.budget < 0) and known:
            return self.pick(known)
        made = VECTORS[self.draw(len(VECTORS))](self, scope, size, depth - 1)
        if made is None:
            return self.pick(known) if known else self.comprehension(scope, size, depth - 1)
        return made

    def comprehension(self, scope: Scope, size: str, depth: int) -> str:
        name = self.fresh("i")
        return f"[{self.scalar(scope.with_index(name, size), depth)} for {name} in range({size})]"

    def matrix(self, scope: Scope, depth: int) -> str:
        """An expression of an array of n rows and m columns."""
        self.budget -= 1
        i, j = self.fresh("i"), self.fresh("j")
        kind = self.draw(6) if depth > 0 and self.budget > 0 else 0
        known = self.pick(scope.arrays["n", "m"])
        if kind == 0:
            return known
        if kind == 1:
            inner = scope.with_index(i, "n").with_index(j, "m")
            return f"[{self.scalar(inner, depth - 1)} for {i} in range(n) for {j} in range(m)]"
        if kind == 2:
            return f"tanh({self.matrix(scope, depth - 1)} + {self.vector(scope, 'm', depth - 1)})"
        if kind == 3:
            return f"({known} if {known} > {self.number()} else {self.scalar(scope, depth - 1)} * {known})"
        if kind == 4:
            return f"0.3 * {known} @ ({known}.T @ {known})"
        return f"({known} * {self.scalar(scope, depth - 1)})"

    # ---- statements ---------------------------------------------------------------------------------------------

    def statement(self, scope: Scope, depth: int) -> Scope:
        """One statement, and the scope behind it."""
        if self.budget < 0:
            return scope
        return STATEMENTS[self.draw(len(STATEMENTS))](self, scope, depth)

    def body(self, scope: Scope, carried: Sequence[str], depth: int) -> None:
        """A block of a loop or a branch that rebinds some of the names carried."""
        for _ in range(self.draw(2)):
            if depth > 0:
                scope = self.statement(replace(scope, can_assign=tuple(carried)), depth - 1)
        for at, name in enumerate(carried):
            if at == 0 or self.draw(3):
                self.write(f"{name} = 0.5 * {name} + 0.4 * {self.scalar(scope, 2)}")


def _unary(words: str) -> Callable[[Writer, Scope, int], str]:
    return lambda to, scope, depth: words.format(to.scalar(scope, depth))


def _binary(words: str) -> Callable[[Writer, Scope, int], str]:
    return lambda to, scope, depth: words.format(to.scalar(scope, depth), to.scalar(scope, depth))


def _choice(to: Writer, scope: Scope, depth: int) -> str:
    return f"({to.scalar(scope, depth)} if {to.condition(scope)} else {to.scalar(scope, depth)})"


def _undefined_side(to: Writer, scope: Scope, depth: int) -> str:
    z = to.pick(scope.scalars)
    return f"(sqrt({z}) if {z} > 0.05 else {to.scalar(scope, depth)})"


def _reducer(to: Writer, scope: Scope, depth: int) -> str:
    size, name = to.pick(["n", "m"]), to.fresh("i")
    inner = scope.with_index(name, size)
    term = to.scalar(inner, depth)
    word = to.pick(["0.5 * sum", "mean", "logsumexp", "max", "min", "prod"])
    guard = f" if {to.condition(inner)}" if word == "0.5 * sum" and to.draw(2) else ""
    term = f"tanh({term})" if word == "prod" else term
    return f"{word}({term} for {name} in range({size}){guard})"


def _two_indices(to: Writer, scope: Scope, depth: int) -> str:
    i, j = to.fresh("i"), to.fresh("j")
    inner = scope.with_index(i, "n").with_index(j, "m")
    return f"mean({to.scalar(inner, depth)} for {i} in range(n) for {j} in range(m))"


def _window(to: Writer, scope: Scope, _: int) -> str:
    v, i = to.pick(scope.arrays["n",]), to.fresh("i")
    return to.pick(
        [
            f"sum(({v}[{i} + 1] - {v}[{i}]) ** 2 for {i})",
            f"sum(tanh({v}[2 * {i} + j]) * j for {i} in range(1) for j in range(2))",
            f"sum({v}[{i} + j - 1] * {v}[{i}] for {i} in range(n) for j in range(3) if 0 <= {i} + j - 1 < n)",
            f"dot({v}[1:], {v}[:-1])",
            f"sum({v}[::-1] * {v})",
            f"sum({v}[::2] ** 2)",
        ]
    )


def _gathered(to: Writer, scope: Scope, depth: int) -> str:
    v = to.pick(scope.arrays["n",])
    return to.pick([f"mean({v}[k] * x)", f"sum(({v}[k] - {to.scalar(scope, depth)}) ** 2) / 4", f"{v}[argmax({v})]"])


def _called(to: Writer, scope: Scope, depth: int) -> str:
    if scope.functions and to.draw(2):
        return f"{to.pick(scope.functions)}({to.scalar(scope, depth)})"
    return f"smooth({to.scalar(scope, depth)}, {to.scalar(scope, depth)})"


def _function_passed(to: Writer, scope: Scope, depth: int) -> str:
    z = to.fresh("z")
    return f"twice(lambda {z}: {to.scalar(scope.with_scalar(z), depth)}, {to.scalar(scope, depth)})"


def _slope(to: Writer, scope: Scope, depth: int) -> str:
    """A derivative inside the program."""
    z = to.fresh("z")
    at = to.scalar(scope, depth)
    inner = to.scalar(scope.with_scalar(z), depth)
    kind = to.draw(5)
    if kind == 0:
        return f"tanh(grad(lambda {z}: {inner} * {z})({at}))"
    if kind == 1:
        return f"tanh(jvp(lambda {z}: sin({z}) * {inner})({at}, 0.5)[1])"
    if kind == 2:
        return f"tanh(sum(grad(lambda {z}: sum(sin({z}) * {to.pick(scope.arrays['n',])}))(x)))"
    if kind == 3:
        return f"tanh(sum(vjp(spread)({to.pick(scope.arrays['n',])}, {at}, x)))"
    return f"tanh(grad(smooth, wrt=c)({at}, {to.scalar(scope, depth)}))"


def _whole(to: Writer, scope: Scope, depth: int) -> str:
    v = to.vector(scope, to.pick(["n", "m"]), depth)
    return to.pick([f"sum({v})", f"norm({v} + 3)", f"logsumexp({v})", f"mean({v})", f"max({v})"])


SCALARS: list[Callable[[Writer, Scope, int], str | None]] = [
    _unary("sin({})"),
    _unary("tanh({})"),
    _unary("sqrt(1 + ({}) ** 2)"),
    _unary("log(2 + cos({}))"),
    _unary("exp(-({}) ** 2)"),
    _binary("({} + {})"),
    _binary("({} - {})"),
    _binary("{} * sin({})"),
    _binary("({}) / (1 + ({}) ** 2)"),
    _choice,
    _choice,
    _undefined_side,
    _reducer,
    _reducer,
    _two_indices,
    _window,
    _gathered,
    _called,
    _function_passed,
    _slope,
    _whole,
]


def _mapped(to: Writer, scope: Scope, size: str, depth: int) -> str:
    return f"tanh({to.vector(scope, size, depth)})"


def _added(to: Writer, scope: Scope, size: str, depth: int) -> str:
    return f"({to.vector(scope, size, depth)} - 0.5 * {to.vector(scope, size, depth)})"


def _scaled(to: Writer, scope: Scope, size: str, depth: int) -> str:
    return f"(({to.scalar(scope, depth)}) * {to.vector(scope, size, depth)})"


def _comprehended(to: Writer, scope: Scope, size: str, depth: int) -> str:
    return to.comprehension(scope, size, depth)


def _product(to: Writer, scope: Scope, size: str, depth: int) -> str:
    w = to.pick(scope.arrays["n", "m"])
    if size == "n":
        return f"tanh({w} @ {to.vector(scope, 'm', depth)})"
    return f"tanh({to.vector(scope, 'n', depth)} @ {w})"


def _scanned(to: Writer, scope: Scope, size: str, depth: int) -> str:
    v = to.vector(scope, size, depth)
    return to.pick([f"tanh(cumsum({v}))", f"softmax({v})", f"({v})[::-1]", f"sort({v})", f"reshape({v}, ({size},))"])


def _picked(to: Writer, scope: Scope, size: str, depth: int) -> str | None:
    if size != "n":
        return None
    v = to.pick(scope.arrays["n",])
    return to.pick([f"{v}[k]", f"({v} if d > 0.1 else {to.vector(scope, 'n', depth)})"])


def _batched(to: Writer, scope: Scope, size: str, depth: int) -> str:
    z, v = to.fresh("z"), to.vector(scope, size, depth)
    inner = to.scalar(scope.with_scalar(z), depth)
    return to.pick([f"vmap(lambda {z}: {inner})({v})", f"tanh(vmap(grad(lambda {z}: {z} * {inner}))({v}))"])


def _spread(to: Writer, scope: Scope, size: str, depth: int) -> str:
    return f"spread({to.vector(scope, size, depth)}, {to.scalar(scope, depth)})"


VECTORS: list[Callable[[Writer, Scope, str, int], str | None]] = [
    _mapped,
    _added,
    _scaled,
    _comprehended,
    _comprehended,
    _product,
    _scanned,
    _picked,
    _batched,
    _spread,
]
