"""The grammars have no conflict, their tables are those of the text, and every program of the project parses.

Write the tables of a grammar that has changed anew with: pytest tests/test_grammar_strict.py --update
"""

import json
from pathlib import Path

import pytest
from lark.exceptions import GrammarError

import dgraph.reader.files
import dgraph.reader.parse
import dgraph.reader.tables
from dgraph.reader import grammar_text, parse_module, parse_signature, parse_text
from dgraph.reader.layout import Layout
from dgraph.reader.parse import build
from dgraph.reader.tables import maker, parser_from_tables, tables_name, tables_of

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(
    (*ROOT.glob("examples/**/*.dg"), *ROOT.glob("tests/programs/**/*.dg"), *ROOT.glob("dgraph/std/**/*.dg"))
)


@pytest.mark.parametrize("grammar", ["dg.lark", "rules.lark"])
def test_grammar_has_no_conflict(grammar: str) -> None:
    build(grammar, strict=True)


def test_strict_finds_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both rules end a choice in the same way, so the parser could not tell them apart.
    ambiguous = grammar_text("dg.lark").replace('"elif" expr ":" suite\n', '"elif" expr ":" suite elif*\n')
    monkeypatch.setattr(dgraph.reader.parse, "grammar_text", lambda _name: ambiguous)
    with pytest.raises(GrammarError, match="conflict"):
        build("dg.lark", strict=True)


def test_the_tables_fit_the_grammar(request: pytest.FixtureRequest) -> None:
    file = ROOT / "grammar" / tables_name("dg.lark")
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"maker": ["", ""]}
    if request.config.getoption("--update") and stored["maker"] != maker("dg.lark"):
        file.write_text(tables_of("dg.lark", build("dg.lark")), encoding="utf-8")
        dgraph.reader.files.grammar_text.cache_clear()
        return
    # Those of another version of Lark would be left alone, which costs time and nothing else.
    assert stored["maker"][1] == maker("dg.lark")[1], "the tables are those of another grammar: pytest --update"


def test_a_parser_from_tables_reads_as_one_from_the_grammar() -> None:
    stored, built = parser_from_tables("dg.lark", Layout()), build("dg.lark")
    if stored is None:
        pytest.skip("the tables are those of another version of Lark")
    for file in PROGRAMS:
        text = file.read_text(encoding="utf-8") + "\n"
        assert stored.parse(text, "module") == built.parse(text, "module")


def test_tables_of_another_grammar_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgraph.reader.tables, "maker", lambda _grammar: ["", "another"])
    assert parser_from_tables("dg.lark", Layout()) is None
    assert parser_from_tables("rules.lark", Layout()) is None


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: str(file.relative_to(ROOT)))
def test_program_parses(file: Path) -> None:
    source, tree = parse_module(file.read_text(encoding="utf-8"), str(file))
    assert source.path == str(file)
    assert tree.data == "module"


def test_the_corpus_is_there() -> None:
    assert len(PROGRAMS) >= 36


def test_signature_parses() -> None:
    _, tree = parse_signature("[T: float, m, k, n](a: T[m, k], b: T[k, n]) -> T[m, n]")
    assert tree.data == "signature"
    assert [child.data for child in tree.children] == ["generics", "formals", "array_type"]


def test_imported_rules_keep_their_names() -> None:
    _, tree = parse_text("rules.lark", "rules", "x + 0 => x\n", "simplify.rules")
    assert {str(node.data) for node in tree.iter_subtrees()} >= {"rules", "rule", "terms", "name", "int"}
