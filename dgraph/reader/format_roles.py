"""What the words of a logical line are to each other: signs and operators, separators, spaces, places for line ends."""

from __future__ import annotations

from dgraph.reader.format_words import Group, Item, Line, Word, head, tail

OPERATORS = (
    ("else",),
    ("if",),
    ("or",),
    ("and",),
    ("==", "!=", "<=", ">=", "<", ">"),
    ("+", "-"),
    ("*", "/", "//", "%", "@"),
)
"""Operators before which a line may end, the loosest first."""

OPERANDS = frozenset({"NAME", "INT", "FLOAT", "STRING", "TRUE", "FALSE"})


def set_roles(line: Line) -> None:
    """Fill in the roles and spaces of a line, and the line ends that it keeps from its source."""
    first = line.first
    declared = first.is_("def", "record", "type")
    if first.is_("@"):
        first.unary = True
    mark(line.items)
    for at, item in enumerate(line.items):
        generics = declared and at == 2
        set_group(item, line.items[at - 1] if at else None, generics=generics)
    set_spaces(line.items, "line")
    equals = next((at for at, item in enumerate(line.items) if is_word(item, "=")), 0)
    if first.kind == "NAME" or first.is_("("):
        for item in line.items[:equals]:
            refuse_commas(item)


def set_group(item: Item, previous: Item | None, *, generics: bool = False) -> None:
    """Fill in the roles inside a group, and whether it stays open."""
    if not isinstance(item, Group):
        return
    follows = previous is not None and is_operand(previous)
    subscript = item.opener.text == "[" and follows and not generics
    mark(item.items)
    generator = any(is_word(inside, "for") for inside in item.items)
    item.comma = item.comma and not generator and not (previous is not None and is_word(previous, "fn"))
    item.tuple = item.opener.text == "(" and not follows
    set_spaces(item.items, "subscript" if subscript else "group")
    for at, inside in enumerate(item.items):
        set_group(inside, item.items[at - 1] if at else None)
    item.open = opened(item)
    keep_breaks(item)


def is_word(item: Item, *texts: str) -> bool:
    """Whether an item is one of these keywords or signs."""
    return isinstance(item, Word) and item.is_(*texts)


def is_operand(item: Item) -> bool:
    """Whether an item ends an operand, so that a bracket after it is a call or a subscript."""
    return isinstance(item, Group) or item.kind in OPERANDS


def refuse_commas(item: Item) -> None:
    """Note for the targets of a binding that the grammar takes no comma after their last one."""
    if isinstance(item, Group) and item.opener.text == "(":
        item.comma = False
        for inside in item.items:
            refuse_commas(inside)


def mark(items: list[Item]) -> None:
    """Tell unary signs from operators, and commas that separate entries from those between names."""
    lambdas = 0
    naming = False
    for at, item in enumerate(items):
        if isinstance(item, Group):
            item.comma = True
            continue
        if item.is_("lambda"):
            lambdas += 1
        elif item.is_(":") and lambdas:
            lambdas -= 1
        elif item.is_("for"):
            naming = True
        elif item.is_("in", "if"):
            naming = False
        elif item.is_(","):
            item.separator = not lambdas and not naming
        elif item.is_("-", "*"):
            item.unary = not at or not is_operand(items[at - 1])


def set_spaces(items: list[Item], kind: str) -> None:
    """Decide before which items a space stands."""
    annotated = kind == "line"
    wide = wide_slices(items) if kind == "subscript" else set()
    lambdas = 0
    for at, item in enumerate(items):
        word = head(item)
        if at == 0:
            continue
        previous = items[at - 1]
        if is_word(previous, "lambda"):
            lambdas += 1
        word.space = spaced(previous, item, annotated=annotated)
        if kind == "subscript" and not lambdas:
            if is_word(item, ":"):
                word.space = item in wide and not is_word(previous, ":", ",")
                if is_word(previous, ","):
                    word.space = True
            elif is_word(previous, ":"):
                word.space = previous in wide
        if is_word(item, ":"):
            annotated = not lambdas or annotated
            lambdas = max(lambdas - 1, 0)
        elif isinstance(item, Word) and item.separator:
            annotated = kind == "line"


def spaced(previous: Item, item: Item, *, annotated: bool) -> bool:
    """Whether a space stands between two items; `=` has none around it unless an annotation came before."""
    if isinstance(previous, Word):
        if previous.is_(".") or previous.unary:
            return False
        if previous.is_("=") and not annotated:
            return False
    if isinstance(item, Group):
        return not is_operand(previous) and not is_word(previous, "fn")
    return not (item.is_(",", ":", ".") or (item.is_("=") and not annotated))


def wide_slices(items: list[Item]) -> set[Item]:
    """The colons of those slices of a subscript that have a part of more than one word."""
    wide: set[Item] = set()
    colons: list[Item] = []
    part: list[Item] = []
    complicated = False
    for item in [*items, None]:
        if item is not None and not (isinstance(item, Word) and (item.separator or item.is_(":"))):
            part.append(item)
            continue
        if part and is_word(part[0], "-"):
            del part[0]
        complicated |= len(part) > 1 or any(isinstance(inside, Group) for inside in part)
        part = []
        if item is not None and is_word(item, ":"):
            colons.append(item)
            continue
        if complicated:
            wide.update(colons)
        colons, complicated = [], False
    return wide


def forced(items: list[Item], at: int) -> bool:
    """Whether a comment demands a line end before an item."""
    return bool(head(items[at]).before) or (at > 0 and bool(tail(items[at - 1]).after))


def breakable(items: list[Item], at: int) -> bool:
    """Whether a line may end before an item of an open group."""
    previous = items[at - 1]
    return (isinstance(previous, Word) and previous.separator) or is_operator(items[at])


def is_operator(item: Item) -> bool:
    """Whether an item joins two parts of an expression, and may begin a line."""
    return isinstance(item, Word) and not item.unary and (item.is_("for") or any(item.is_(*row) for row in OPERATORS))


def opened(group: Group) -> bool:
    """Whether a group is written open: its first line ends after the opening bracket, or it holds a comment."""
    if group.opener.after or group.closer.before:
        return True
    if any(head(item).before or tail(item).after for item in group.items):
        return True
    return bool(group.items) and head(group.items[0]).broken


def keep_breaks(group: Group) -> None:
    """Of the line ends in the source keep those that stand where they may, in an open group."""
    items = group.items
    for at, item in enumerate(items[:-1]):
        # A line that ends after an operator ends before it instead.
        if at and is_operator(item) and head(items[at + 1]).broken and not forced(items, at + 1):
            head(item).broken = True
    for at, item in enumerate(items):
        word = head(item)
        if not group.open:
            word.broken = False
        elif at == 0 or forced(items, at):
            word.broken = True
        elif not breakable(items, at):
            word.broken = False
