"""Every word of every program deleted, doubled and replaced: accepted, or refused with a place and a title."""

import random

import pytest
from damage import PROGRAMS, ROOT, damaged, fault_of, found_in, weakness

from dgraph.errors import Diagnostic, Label, Source, Span

SAMPLE = 400


def cases() -> list[tuple[str, str]]:
    """A name and a text for every damage of every program."""
    return [
        (f"{file.relative_to(ROOT)} {name}", text)
        for file in PROGRAMS
        for name, text in damaged(file.read_text(encoding="utf-8"))
    ]


def refused_badly(chosen: list[tuple[str, str]]) -> list[str]:
    """The cases that escape, with what they escape as."""
    return [f"{name}: {found}" for name, text in chosen if (found := weakness(text)) is not None]


def test_damaged_words_are_accepted_or_refused() -> None:
    everything = cases()
    assert len(everything) > 200_000
    wrong = refused_badly(random.Random(0).sample(everything, SAMPLE))
    assert not wrong, "\n".join(wrong)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("file", PROGRAMS, ids=[str(file.relative_to(ROOT)) for file in PROGRAMS])
def test_every_damaged_word_is_accepted_or_refused(file) -> None:
    wrong = refused_badly(list(damaged(file.read_text(encoding="utf-8"))))
    assert not wrong, "\n".join(wrong)


def test_most_damage_is_noticed() -> None:
    text = PROGRAMS[0].read_text(encoding="utf-8")
    chosen = random.Random(1).sample(list(damaged(text)), 100)
    assert sum(bool(found_in(text)) for _, text in chosen) > 60


def test_what_counts_as_an_escape() -> None:
    source = Source("model.dg", "x = 1\n")
    assert fault_of(Diagnostic("", (Label(Span(source, 0, 1)),))) == "a diagnostic without a title"
    assert fault_of(Diagnostic("a title")) == "no place: a title"
    assert fault_of(Diagnostic("a title", (Label(Span(source, 4, 40)),))) == "a place outside the text: a title"
    assert fault_of(Diagnostic("a title", (Label(Span(source, 4, 5)),))) is None
