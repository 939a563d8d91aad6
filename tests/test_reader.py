"""Text to tree: shapes of trees, layout, limits, encodings, and the words of the messages."""

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lark import Token, Tree

from dgraph.errors import Diagnostic, ParseError
from dgraph.reader import grammar_text, parse_module, parse_signature, read_file
from dgraph.reader.advice import mistakes
from dgraph.reader.parse import MOST, parser

PROGRAMS = sorted(Path(__file__).parent.glob("programs/*.dg"))
HEAD = "def f(x: f32) -> f32:\n"


def tree(text: str) -> Tree[Token]:
    return parse_module(text, "model.dg")[1]


def body(*lines: str) -> Tree[Token]:
    """The suite of a function with these statements."""
    return tree(HEAD + "".join(f"    {line}\n" for line in lines)).children[-1].children[-1]


def expression(text: str) -> Tree[Token]:
    """The tree of one expression."""
    return tree(f"x = {text}\n").children[1].children[2]


def short(node: Tree[Token] | Token | None) -> str:
    """A tree on one line."""
    if not isinstance(node, Tree):
        return str(node)
    if node.data in ("name", "int", "float", "string"):
        return str(node.children[0])
    return f"{node.data}({', '.join(short(child) for child in node.children)})"


def faults(text: str) -> tuple[Diagnostic, ...]:
    """The diagnostics of a malformed program, each with its labels inside the text."""
    with pytest.raises(ParseError) as caught:
        parse_module(text, "model.dg")
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.render()
        for label in diagnostic.labels:
            assert 0 <= label.span.start <= label.span.end <= len(label.span.source.text)
    return caught.value.diagnostics


def fault(text: str) -> Diagnostic:
    return faults(text)[0]


# ---- Trees ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b - c * d / e", "terms(a, +, b, -, factors(c, *, d, /, e))"),
        ("-a ** -b ** c", "neg(pow(a, neg(pow(b, c))))"),
        ("a @ b.T", "factors(a, @, member(b, T))"),
        ("0 <= i + a < n", "compare(0, <=, terms(i, +, a), <, n)"),
        ("not a and b or c and d", "logical_or(logical_and(logical_not(a), b), logical_and(c, d))"),
        ("a if b else c if d else e", "choose(a, b, choose(c, d, e))"),
        ("lambda x, y: x + y", "anonymous(names(x, y), terms(x, +, y))"),
        ("lambda: x", "anonymous(None, x)"),
        ("f(a, axis=1)", "call(f, arguments(a, keyword(axis, 1)))"),
        ("f()", "call(f, None)"),
        ("sum(x[i] for i)", "reduce(sum, index(x, subscripts(i)), indices(over_inferred(i), None))"),
        (
            "max(a for i in range(2) for j, k if i < j)",
            "reduce(max, a, indices(over_range(i, call(range, arguments(2))), over_inferred(j, k), "
            "guard(compare(i, <, j))))",
        ),
        ("[j for j in range(h)]", "comprehension(j, indices(over_range(j, call(range, arguments(h))), None))"),
        ("[[1, 2], [3, 4]]", "array(array(1, 2), array(3, 4))"),
        ("x[1:-1, ::2, ..., i]", "index(x, subscripts(slice(1, neg(1), None), slice(None, None, 2), ellipsis(), i))"),
        ("(a, b)", "tuple(a, b)"),
        ("(a,)", "tuple(a)"),
        ("(a)", "a"),
        ("a, b", "tuple(a, b)"),
        ("m.layers[0].w", "member(index(member(m, layers), subscripts(0)), w)"),
        ("1_000 + 1e-3 + .5 + 2.", "terms(1_000, +, 1e-3, +, .5, +, 2.)"),
        ("state + record.type", "terms(state, +, member(record, type))"),
    ],
)
def test_expression(text: str, expected: str) -> None:
    assert short(expression(text)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y = x", "bind(place(y), x, None)"),
        ("a, b = b, a", "bind(place(a), place(b), tuple(b, a), None)"),
        ("(v, h), s = g", "bind(targets(place(v), place(h)), place(s), g, None)"),
        ("x[i], x[j] = a", "bind(place(x, at(subscripts(i))), place(x, at(subscripts(j))), a, None)"),
        ("z[i, j] = i for i in n for j", "bind(place(z, at(subscripts(i, j))), i, "
         "indices(over_range(i, n), over_inferred(j), None))"),
        ("y: f32[n, 2] = zeros()", "typed_bind(y, array_type(path(f32), dims(n, 2), None), call(zeros, None))"),
        ("y: nn.Dense[i, o][depth] = p", "typed_bind(y, array_type(path(nn, Dense), dims(i, o), dims(depth)), p)"),
        ("m.lower -= rate * g", "rebind(place(m, field_of(lower)), -=, factors(rate, *, g), None)"),
        ("count[label[i]] += 1 for i", "rebind(place(count, at(subscripts(index(label, subscripts(i))))), +=, 1, "
         "indices(over_inferred(i), None))"),
        ("state = x", "bind(place(state), x, None)"),
        ('assert x > 0, "message"', 'check(compare(x, >, 0), "message")'),
        ("assert x > 0", "check(compare(x, >, 0), None)"),
        ("return x, y", "result(tuple(x, y))"),
    ],
)  # fmt: skip
def test_statement(line: str, expected: str) -> None:
    assert short(body(line).children[1]) == expected


def test_blocks() -> None:
    suite = body(
        '"""What it does."""',
        "@checkpoint(none)",
        "for i, v in enumerate(x):",
        "    while v > 0:",
        "        v -= 1",
        "",
        "  # A comment may stand anywhere.",
        "scope s:",
        "    if x > 0:",
        "        y = x",
        "    elif x < 0:",
        "        y = -x",
        "    else:",
        "        y = x",
        "def g(f: fn(f32, f32) -> (f32, f32)) -> f32 = f(x)[0]",
        "return y",
    )
    doc, loop, scope, inner, result = suite.children
    assert [node.data for node in (doc, loop, scope, inner, result)] == [
        "docstring",
        "for_loop",
        "scope",
        "function",
        "result",
    ]
    assert short(loop.children[0]) == "annotations(annotation(checkpoint, arguments(none)))"
    assert [str(name) for name in loop.children[1:3]] == ["i", "v"]
    (branch,) = scope.find_data("branch")
    assert [getattr(child, "data", None) for child in branch.children] == ["compare", "suite", "elif", "suite"]


def test_declarations() -> None:
    module = tree(
        '"""Module."""\n\nimport nn.layers as l\nfrom nn.init import glorot as g, zeros\n\n'
        "type Field[n] = fn(f64) -> f64[n]\nn = 3\nm: f32 = 0.5\n"
        "record R[n, *s, T: float]:\n    state: T[n, *s] = zeros()\n    type: f32\n\n"
        "param p: R[3]\nstate state: R[3] = start\n\n@entry\ndef f[P: record](scope: P, k: size = 1) = k\n"
    )
    assert [node.data for node in module.children] == [
        *("docstring", "import_module", "import_names", "type_alias", "constant", "constant"),
        *("record", "param", "state", "function"),
    ]
    assert short(module.children[-1].children[2]) == (
        "signature(generics(dtype(P, record)), formals(formal(scope, array_type(path(P), None, None), None), "
        "formal(k, array_type(path(size), None, None), 1)), None)"
    )


def test_soft_keywords_are_names_elsewhere() -> None:
    suite = body("type = x", "scope, state = type, type", "record: f32 = scope", "param[0] += state", "return record")
    assert [node.data for node in suite.children[1:]] == ["bind", "bind", "typed_bind", "rebind", "result"]


def test_positions_are_offsets_into_the_source() -> None:
    source, module = parse_module("\ufeffx = 1\r\n\r\ny = a + b\r\n", "model.dg")
    assert source.text == "x = 1\n\ny = a + b\n"
    (terms,) = module.find_data("terms")
    assert source.text[terms.meta.start_pos : terms.meta.end_pos] == "a + b"
    assert source.position(terms.meta.start_pos) == (3, 5)


# ---- Layout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "\n", "  \n\n", "# only a comment", '"""Only words."""', "x = 1", "x = 1  # why", "x = 1\r\ny = 2\r\n",
     "x = 1\ry = 2", "x = 1\r\ny = 2\nz = 3\r", "\ufeff# a mark\nx = 1\n", "x = (\n1 +\n# why\n      2\n)\n",
     "def f(x: f32) -> f32:\n  return x\n   \n\t\ndef g(\nx: f32,\n) -> f32:\n        return x", "\tx\t=\t1".strip()],
)  # fmt: skip
def test_layout_accepted(text: str) -> None:
    assert tree(text).data == "module"


@pytest.mark.parametrize(
    ("text", "title", "line", "column"),
    [
        ("  x = 1\n", "the first line is indented", 1, 3),
        ("x = 1\n  y = 2\n", "this line is indented, but opens no block", 2, 3),
        (HEAD + "return x\n", "this line should be indented", 2, 1),
        (HEAD, "this line opens a block, and nothing follows it", 1, 21),
        (HEAD + "\treturn x\n", "this line is indented with a tab", 2, 1),
        (HEAD + "    y = x\n  return y\n", "the indentation of this line matches no open block", 3, 3),
        (HEAD + "    y = x)\n    return y\n", "`)` closes nothing", 2, 10),
        (HEAD + "    y = (x]\n    return y\n", "`]` does not close `(`", 2, 11),
        (HEAD + "    return (x + 1\n\ndef g(x: f32) -> f32 = x\n", "`(` is never closed", 2, 12),
        (HEAD + "    y = f(x,\n    z = 3\n    return z\n", "`(` is never closed", 2, 10),
        (HEAD + "    y = x[1\n    for i in range(3):\n        y = 1\n", "`[` is never closed", 2, 10),
        ("x = [1, 2\n", "`[` is never closed", 1, 5),
    ],
)
def test_layout_refused(text: str, title: str, line: int, column: int) -> None:
    diagnostic = fault(text)
    place = diagnostic.labels[0].span
    assert (diagnostic.title, place.line, place.column) == (title, line, column)


def test_unclosed_bracket_shows_both_places() -> None:
    diagnostic = fault(HEAD + "    y = f(x,\n    z = 3\n    w = 4\n")
    assert [label.span.line for label in diagnostic.labels] == [2, 4]
    assert diagnostic.labels[1].span.text == "w"


def test_missing_block_shows_its_header() -> None:
    diagnostic = fault(HEAD + "    if x > 0:\n    return x\n")
    assert [label.span.line for label in diagnostic.labels] == [3, 2]


# ---- Limits and encodings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 100_000,
        "x = " + "(" * 201 + "1" + ")" * 201,
        "x = " + "[" * 300 + "1" + "]" * 300,
        "x = " + "-" * 50_000 + "1",
        "x = " + "not " * 50_000 + "a",
        "x = " + "a if b else " * 20_000 + "c",
        "x = " + "a ** " * 20_000 + "b",
        "x = " + "lambda: " * 20_000 + "b",
        "x = a" + ".b" * 20_000,
        "x = f" + "()" * 20_000,
        "type T = " + "fn() -> " * 20_000 + "f32",
        HEAD + "".join(" " * (4 + depth) + "if x > 0:\n" for depth in range(300)) + " " * 400 + "y = x\n",
        HEAD + "    if x > 0:\n        y = 1\n" + "    elif x > 1:\n        y = 2\n" * 300 + "    return y\n",
    ],
)
def test_deep_nesting_is_refused(text: str) -> None:
    (diagnostic,) = faults(text)
    assert diagnostic.title == "this is nested more than 200 deep"
    assert diagnostic.note


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 200 + "1" + ")" * 200,
        "x = " + "f(" * 190 + "1" + ")" * 190,
        HEAD + "".join(" " * (4 + depth) + "if x > 0:\n" for depth in range(190)) + " " * 400 + "y = x\n",
    ],
)
def test_nesting_below_the_limit_is_accepted(text: str) -> None:
    assert tree(text).data == "module"


@pytest.mark.parametrize("joint", [" + ", " - ", " * ", " and ", " or ", " < ", ", "])
def test_long_chains_are_flat(joint: str) -> None:
    chain = expression("(" + joint.join(["a"] * 20_000) + ")")
    assert sum(isinstance(child, Tree) for child in chain.children) == 20_000
    assert all(not isinstance(child, Tree) or child.data == "name" for child in chain.children)


def test_large_programs_are_refused(tmp_path: Path) -> None:
    for text in ("x" * 1_000_001, "é" * 500_001):
        assert fault(text).title == "`model.dg` is larger than a program may be"
    big = tmp_path / "big.dg"
    big.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ParseError, match="larger than a program may be"):
        read_file(big)
    big.write_bytes(b"#" * 1_000_000)
    assert tree(read_file(big)).data == "module"


def test_binary_and_badly_encoded_files(tmp_path: Path) -> None:
    assert fault("x = 1\ny = \0\n").labels[0].span.line == 2
    file = tmp_path / "model.dg"
    file.write_bytes(b"\x7fELF\x02\x01\x00\x00\xff\xfe")
    with pytest.raises(ParseError, match="not text"):
        read_file(file)
    file.write_bytes(b"x = 1\r\n# caf\xe9\r\ny = 2\r\n")
    with pytest.raises(ParseError, match="not UTF-8 text: byte 12 is 0xe9") as caught:
        read_file(file)
    assert (caught.value.span.line, caught.value.span.column) == (2, 6)
    with pytest.raises(ParseError, match="cannot read"):
        read_file(tmp_path / "absent.dg")
    with pytest.raises(ParseError, match="cannot read"):
        read_file(tmp_path)


@pytest.mark.parametrize("character", ["\x07", "\x0c", "\u200b", "\ud800", "$", "€"])
def test_strange_characters_have_a_place(character: str) -> None:
    diagnostic = fault(f"x = 1\ny = {character}2\n")
    assert f"U+{ord(character):04X}" in diagnostic.title
    assert (diagnostic.labels[0].span.line, diagnostic.labels[0].span.column) == (2, 5)


@pytest.mark.parametrize("seed", range(20))
def test_noise_gives_only_diagnostics(seed: int) -> None:
    chance = random.Random(seed)
    words = ["def", "f", "(", ")", "[", "]", ":", "=", "x", "1", "for", "in", "if", "else", "\n", "\n    ", '"', '"""']
    faults("?" + " ".join(chance.choices(words, k=200)))
    parse_or_refuse("".join(chance.choices([chr(code) for code in range(1, 300)], k=300)))
    parse_or_refuse("def f(" + " ".join(chance.choices(words, k=60)))


def test_truncated_programs_give_only_diagnostics() -> None:
    text = (Path(__file__).parent / "programs/lenet.dg").read_text(encoding="utf-8")
    for stop in range(0, len(text), 17):
        parse_or_refuse(text[:stop])


def parse_or_refuse(text: str) -> None:
    """Parse, or fail with diagnostics whose places are in the text."""
    try:
        tree(text)
    except ParseError:
        faults(text)


# ---- Messages -------------------------------------------------------------------------------------------------------


def wanted(title: str) -> str:
    """A title of the table as a pattern."""
    return re.sub("<[a-z]+>", ".+", re.escape(title))


def test_every_known_mistake_is_recognised() -> None:
    wrong = []
    for mistake in mistakes():
        assert mistake.programs, f"{mistake.title!r} has no sample"
        for program in mistake.programs:
            said = fault(program)
            if not re.fullmatch(wanted(mistake.title), said.title) or re.search("<[a-z]+>", said.title + said.note):
                wrong.append(f"wanted {mistake.title!r}, got\n{said.render()}")
    assert not wrong, "\n\n".join(wrong)


def test_every_known_mistake_is_worded() -> None:
    for mistake in mistakes():
        assert mistake.label, mistake.title
        assert not mistake.title.endswith("."), mistake.title
        assert not mistake.note.endswith("."), mistake.title


@pytest.mark.parametrize(
    ("text", "title", "place", "label", "note"),
    [
        (HEAD + "    if x = 1:\n        return x\n", "`=` defines a name; a condition compares with `==`", "=",
         "write `==`", ""),
        ("def f(x: f32, y) -> f32 = x\n", "an argument needs a type", "y", "write a type, as in `x: f32[n]`", ""),
        (HEAD + "    x **= 2\n    return x\n", "`**=` is not an operator", "x **= 2", "write `x = x ** ...`",
         "only `+=`, `-=`, `*=` and `/=` combine an operation with a binding"),
        (HEAD + "    y = x +\n    return y\n", "an expression is expected after `+`", "\n", "the line ends here",
         "inside ( ) an expression may go on in the next line"),
        (HEAD + "    return 2x\n", "a product needs `*`", "2x", "write `2 * ...`", ""),
        (HEAD + "    lambda = 3\n    return x\n", "`lambda` is a keyword and cannot be a name", "lambda",
         "choose another name", ""),
        (HEAD + "    y = x + in\n    return x\n", "did not expect `in` here", "in", "expected an expression",
         "`in` is a keyword and cannot be a name"),
        ("def for(x: f32) -> f32 = x\n", "did not expect `for` here", "for", "expected a name",
         "`for` is a keyword and cannot be a name"),
        ("type T = 3\n", "did not expect `3` here", "3", "expected a type", ""),
        ("import nn.\n", "the end of the line comes too early", "\n", "expected a name", ""),
    ],
)  # fmt: skip
def test_message(text: str, title: str, place: str, label: str, note: str) -> None:
    said = fault(text)
    assert (said.title, said.labels[0].span.text, said.labels[0].words, said.note) == (title, place, label, note)


def test_one_message_as_printed() -> None:
    said = fault(HEAD + "    return (x + 1\n\ndef g(x: f32) -> f32 = x\n")
    assert said.render() == (
        "error: `(` is never closed\n"
        " --> model.dg:2:12\n"
        "  |\n"
        "2 |     return (x + 1\n"
        "  |            ^ opened here\n"
        "  ...\n"
        "  |\n"
        "4 | def g(x: f32) -> f32 = x\n"
        "  | --- still open at `def`\n"
        "   = close it with `)` at the end of the expression"
    )


def test_several_mistakes_are_reported_at_once() -> None:
    text = (
        "import\n\nrecord R:\n    w\n\ndef f(x):\n    return x\n\n@entry\n"
        "def g(x: f32) -> f32:\n    if x = 1:\n        return x\n    return 2x\n\n"
        '"""\ndef in_a_docstring(\n"""\n\ndef h(x: f32) -> f32 = x\n\nparam y\n'
    )
    assert [diagnostic.labels[0].span.line for diagnostic in faults(text)] == [1, 4, 6, 11, 21]


def test_an_unclosed_bracket_hides_no_later_mistake() -> None:
    text = HEAD + "    return (x\n\ndef g(x):\n    return x\n\nstate s: f32[(2]\n\nparam p: f32[2\n\nparam q\n"
    assert [diagnostic.labels[0].span.line for diagnostic in faults(text)] == [2, 4, 7, 9, 11]


def test_reports_stop_at_ten() -> None:
    assert len(faults("param x\n" * 30)) == MOST == 10


def test_a_mistake_in_one_line_does_not_blame_the_next() -> None:
    for file in PROGRAMS[:8]:
        text = file.read_text(encoding="utf-8")
        assert len(faults(text.replace("return ", "return $", 1))) == 1


def test_signatures_are_explained_too() -> None:
    with pytest.raises(ParseError, match="an argument needs a type"):
        parse_signature("(x) -> f32")


# ---- Damaged programs -----------------------------------------------------------------------------------------------


def damaged(text: str) -> Iterator[str]:
    """The text with each word deleted, doubled, or replaced."""
    for token in parser("dg.lark").lex(text):
        if token.type not in ("_NEWLINE", "_INDENT", "_DEDENT", "LONG_STRING"):
            before, word, after = text[: token.start_pos], str(token), text[token.end_pos :]
            for new in ("", f"{word} {word}", ")", "def", "=", "'"):
                yield before + new + after


def check_damage(texts: list[str]) -> None:
    """Each text parses, or its first diagnostic has a place and says something about it."""
    silent = 0
    refused = 0
    for text in texts:
        try:
            tree(text)
        except ParseError as error:
            refused += 1
            first = error.diagnostics[0]
            for diagnostic in error.diagnostics:
                assert diagnostic.labels, text
                for label in diagnostic.labels:
                    assert 0 <= label.span.start <= label.span.end <= len(label.span.source.text)
            silent += not (first.labels[0].words or first.note)
    assert refused > len(texts) / 2
    assert silent < refused / 20


def test_damaged_programs() -> None:
    texts = [text for file in PROGRAMS for text in damaged(file.read_text(encoding="utf-8"))]
    check_damage(random.Random(0).sample(texts, 300))


@pytest.mark.slow
def test_more_damaged_programs() -> None:
    texts = [text for file in PROGRAMS for text in damaged(file.read_text(encoding="utf-8"))]
    check_damage(texts[::25])


# ---- Files ----------------------------------------------------------------------------------------------------------


def test_grammars_are_found() -> None:
    for name in ("dg.lark", "rules.lark", "mistakes.toml"):
        assert grammar_text(name)


def test_lark_is_loaded_late() -> None:
    code = "import sys, dgraph.reader; assert 'lark' not in sys.modules; dgraph.reader.parse_module('x = 1', 'a')"
    subprocess.run([sys.executable, "-c", code], check=True)
