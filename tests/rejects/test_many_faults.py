"""Several faults in one file are told together, each once and in order, and nothing else is."""

import pytest

import dgraph.ops  # noqa: F401 (fills the table of ops)
from dgraph.errors import DgraphError
from dgraph.frontend import check, parse_program

FAULTS = [
    ("def f{}(x: f64) -> f64 = x + undefined{}", "`undefined{}` is not defined"),
    ("def f{}(x: f64) -> i32 = 2 * x", "i32 is wanted here"),
    ("def f{}[n, m](x: f64[n], y: f64[m]) -> f64[n] = x + y", "the shapes [n] and [m] do not fit"),
    ("def f{}(x: f64) -> f64:\n    y = [x, x]\n    return y[5]", "this index is out of range"),
    ("record R{}:\n    a: f64[size{}]\n", "`size{}` is not a size here"),
    ("param p{}: f64[3]", "`p{}` has no initial value"),
    ("c{} = 1 // 0", "division by zero"),
    ("def f{}(x: f64) -> f64 = grad(x)(x)", "a function is wanted here"),
    ("def f{}(x: f64) -> f64:\n    if x:\n        x = 1.0\n    return x", "a condition is one bool"),
    ("def f{}(x: f64) -> f64 = f{}(x)", "`f{}` calls itself"),
    ("type T{} = nothing{}\ndef f{}(x: T{}) -> f64 = 1.0", "`nothing{}` is not defined"),
    ("def f{}(x: f64) -> f64 = exp(x, x)", "`exp` takes 1 argument, not 2"),
    ("def f{}(x: f64) -> f64 = x.shape", "there is no `.shape` here"),
    ("@entyr\ndef f{}(x: f64) -> f64 = x", "there is no annotation `@entyr`"),
    ("def f{}(x: f64) -> f64:\n    y = 2 * x", "this function returns nothing"),
]
"""Programs with one fault each, and its title; the braces take a number."""

MALFORMED = [
    ("def f{}(x):\n    return x", "an argument needs a type"),
    ("def f{}(x: f64) -> f64:\n    return 2x", "a product needs `*`"),
    ("def f{}(x: f64) -> f64:\n    if x = 1:\n        return x\n    return x", "`=` defines a name"),
    ("record R{}:\n    w", "a field needs a type"),
    ("param p{}", "a `param` needs a type"),
    ("def f{}(x: f64) -> f64:\n    return (x", "`(` is never closed"),
    ("def f{}(x: f64) -> f64 = x && x", "`&&` is not an operator"),
    ("import", "`import` needs the name of a module"),
    ("def f{}(x: f64) -> f64:\n    y = x +\n    return y", "an expression is expected after `+`"),
    ("def f{}(x: f64) -> f64:\n    x++\n    return x", "`++` is not an operator"),
    ("def f{}(x: f64) -> f64:\nreturn x", "this line should be indented"),
    ("def f{}(x: f64) -> f64:\n    print(x)\n    return x", "`print` has no place in a program"),
    ("type T{}: f64", "a type alias is written"),
    ("def f{}(x: f64) => f64:\n    return x", "the type of the result follows `->`"),
    ("def f{}<n>(x: f64[n]) -> f64 = sum(x)", "generic names stand in [ ]"),
]


def titles(text: str) -> list[str]:
    """The titles of the faults of a program."""
    try:
        found = check(parse_program(text, "model.dg"))
    except DgraphError as fault:
        found = list(fault.diagnostics)
    lines = [diagnostic.labels[0].span.line for diagnostic in found]
    assert lines == sorted(lines)
    return [diagnostic.title for diagnostic in found]


def numbered(text: str, number: int) -> str:
    return text.replace("{}", str(number))


@pytest.mark.parametrize("faults", [FAULTS, MALFORMED], ids=["meaning", "form"])
@pytest.mark.parametrize("first", range(0, 15, 5))
@pytest.mark.parametrize("count", [1, 2, 5, 15])
def test_every_fault_is_told_once(faults: list[tuple[str, str]], first: int, count: int) -> None:
    chosen = [faults[(first + at) % len(faults)] for at in range(count)]
    healthy = "def healthy{}(x: f64) -> f64 = sin(x)"
    parts = [numbered(part, at) for at, (text, _) in enumerate(chosen) for part in (text, healthy)]
    wanted = [numbered(title, at) for at, (_, title) in enumerate(chosen)][:10]
    found = titles("\n\n".join(parts) + "\n")
    assert len(found) == len(wanted)
    assert all(title.startswith(want) for title, want in zip(found, wanted, strict=True)), found


def test_the_first_faults_of_many_are_told() -> None:
    text = "".join(f"def f{at}(x: f64) -> f64 = a{at}\n" for at in range(15))
    assert titles(text) == [f"`a{at}` is not defined" for at in range(10)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # A faulty function is not blamed again where it is called, nor a faulty type where it is used.
        ("def g(x: f64) -> f64 = a\ndef f(x: f64) -> f64 = g(x)\ndef h(x: f64) -> f64 = f(x)\n", [
            "`a` is not defined"]),
        ("record R:\n    a: Q\ndef f(r: R) -> f64 = r.a\ndef g(r: R) -> f64 = f(r)\n", ["`Q` is not defined"]),
        ("c = a\ndef f(x: f64) -> f64 = c * x\n", ["`a` is not defined"]),
        ("param w: Q = 0.0\ndef f(x: f64) -> f64 = w * x\n", ["`Q` is not defined"]),
        ("a = b\nb = c\nc = a\ndef f() -> f64 = a\n", ["the constant `a` needs itself"]),
        ("def f(x: f64) -> f64 = g(x)\ndef g(x: f64) -> f64 = f(x)\n", ["`f` calls itself"]),
        ("record A:\n    b: B\nrecord B:\n    a: A\n", ["the type `A` contains itself"]),
        ("def g[T: float](x: T) -> T = a\ndef f(x: f64) -> f64 = g(x)\ndef h(x: f32) -> f32 = g(x)\n", [
            "`a` is not defined"]),
    ],
)  # fmt: skip
def test_a_fault_has_no_followers(text: str, wanted: list[str]) -> None:
    assert titles(text) == wanted
