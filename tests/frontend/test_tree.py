"""From text to the syntax tree."""

import pytest

from dgraph.errors import ParseError
from dgraph.frontend import tree as t
from dgraph.frontend.read import read_module
from dgraph.reader import parse_module


def read(text: str) -> t.ModuleTree:
    return read_module(*parse_module(text, "test.dg"))


def value(text: str) -> t.Expression:
    (item,) = read(f"x = {text}\n").items
    assert isinstance(item, t.Constant)
    return item.value


def test_a_chain_is_flat_and_keeps_its_order():
    chain = value("a + b - 2 * c")
    assert isinstance(chain, t.Chain)
    assert [link.operator for link in chain.links] == ["+", "-"]
    product = chain.links[1].operand
    assert isinstance(product, t.Chain) and product.links[0].operator == "*"


def test_a_sum_of_20000_terms():
    chain = value("1" + " + 1" * 19_999)
    assert isinstance(chain, t.Chain) and len(chain.links) == 19_999


@pytest.mark.parametrize("text", ["(" * 300 + "1" + ")" * 300, "-" * 300 + "1", "a" + "[0]" * 300, "not " * 300 + "a"])
def test_deep_nesting_is_refused_with_a_place(text):
    with pytest.raises(ParseError) as caught:
        value(text)
    assert caught.value.span is not None


def test_spans_cover_what_was_written():
    call = value("f(x, axis = 1)[0]")
    assert isinstance(call, t.Index) and call.span.text == "f(x, axis = 1)[0]"
    assert isinstance(call.base, t.Call) and call.base.keywords[0].span.text == "axis = 1"


def test_every_statement_and_declaration():
    module = read(
        '"""Doc."""\n'
        "import optim\nfrom nn.init import glorot as g\ntype A[n] = f64[n, *s]\n"
        "record R[n]:\n    w: f64[n] = zeros()\n\nparam p: R[3]\nstate s: f64 = 0.0\n\n"
        "@entry\ndef f[n, *s, T: float](x: T[n], h: fn(f64) -> f64, k: size = 1) -> (f64, f64):\n"
        '    """Says."""\n    a, (b, c) = x\n    y: f64 = 1\n    u[1:-1, ..., ::2].w += 2\n'
        '    z[i, j] = x[i] for i in range(3) for j\n    assert n > 0, "no"\n'
        "    if a < b <= c:\n        d = 1\n    elif b:\n        d = 2\n    else:\n        d = 3\n"
        "    @checkpoint(every=4)\n    for i, q in enumerate(x):\n        d = 4\n"
        "    while d > 0:\n        d -= 1\n"
        "    scope inner:\n        e = lambda v, w: v if v else w\n"
        "    def g(x: f64) -> f64 = x\n    return a, -b ** 2\n"
    )
    kinds = [type(item).__name__ for item in module.items]
    assert kinds == ["ImportModule", "ImportNames", "TypeAlias", "Record", "Stored", "Stored", "Function"]
    function = module.items[-1]
    assert isinstance(function, t.Function) and isinstance(function.body, t.Suite)
    assert function.doc == "Says." and module.doc == "Doc."
    assert [generic.kind for generic in function.generics] == ["size", "shape", "float"]
    kinds = [type(statement).__name__ for statement in function.body.statements]
    expected = ["Bind", "TypedBind", "Rebind", "Bind", "Assert", "If", "For", "While", "Scope", "Function", "Return"]
    assert kinds == expected
    names = {type(node).__name__ for node in t.walk(module)}
    assert {"Slice", "Rest", "Compare", "Choose", "Lambda", "Negate", "Power", "FieldOf", "At", "Targets"} <= names
