"""The grammars have no conflict, and every program of the project parses."""

from pathlib import Path

import pytest
from lark.exceptions import GrammarError

import dgraph.reader.parse
from dgraph.reader import grammar_text, parse_module, parse_signature, parse_text
from dgraph.reader.parse import build

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
