"""The tables of a parser as data beside its grammar: to make them anew takes a tenth of a second.

They fit one text of the grammar and one version of Lark; for another they are made anew, at each start.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import lark
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from dgraph.reader.files import grammar_text
from dgraph.reader.layout import Layout


def tables_name(grammar: str) -> str:
    """The file of `grammar/` with the tables of a grammar."""
    return f"{grammar.removesuffix('.lark')}.json"


def maker(grammar: str) -> list[str]:
    """What the tables of a grammar are made by and from: the version of Lark, and a hash of the text."""
    return [lark.__version__, sha256(grammar_text(grammar).encode()).hexdigest()]


def tables_of(grammar: str, parser: Lark) -> str:
    """The tables of a parser as text."""
    data, memo = parser.memo_serialize([TerminalDef, Rule])
    data["options"].update(postlex=None, import_paths=[])
    parts = ",\n".join(f"{json.dumps(key)}:{_packed(part)}" for key, part in data["parser"]["parser"].items())
    data["parser"]["parser"] = None
    head = f'"maker":{_packed(maker(grammar))},\n"memo":{_packed(memo)},\n"data":{_packed(data)}'
    return f'{{{head},\n"table":{{\n{parts}}}}}\n'


def _packed(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


def parser_from_tables(grammar: str, layout: Layout) -> Lark | None:
    """The parser of a grammar from the data beside it, if there are such and they fit."""
    try:
        stored = json.loads(grammar_text(tables_name(grammar)))
    except FileNotFoundError:
        return None
    if stored["maker"] != maker(grammar):
        return None
    data, table = stored["data"], stored["table"]
    table["tokens"] = _by_number(table["tokens"])
    table["states"] = {number: _by_number(state) for number, state in _by_number(table["states"]).items()}
    data["parser"]["parser"] = table
    data["options"]["postlex"] = layout
    loadable: Any = {"data": data, "memo": _by_number(stored["memo"])}
    return Lark.load(loadable)


def _by_number(entries: dict[str, Any]) -> dict[int, Any]:
    return {int(key): value for key, value in entries.items()}
