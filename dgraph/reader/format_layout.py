"""Where the lines of a long statement end: brackets are opened and expressions broken until everything fits.

What a line looks like follows from two facts alone, which brackets are open and before which items a line begins;
both can be read back from the result, so formatting it once more changes nothing.
"""

from __future__ import annotations

from dataclasses import field

from dgraph.classes import dataclass
from dgraph.reader.format_roles import OPERATORS, breakable, is_operand, is_word
from dgraph.reader.format_words import Group, Item, Line, Word, head
from dgraph.reader.layout import LIMIT

WIDTH = 120
INDENT = 4


@dataclass
class Row:
    """A physical line, and which items of which list it shows, at which depth of brackets, from which column on."""

    indent: int
    parts: list[str] = field(default_factory=list)
    length: int = 0
    comment: str = ""
    shown: list[tuple[int, list[Item], int, int]] = field(default_factory=list)

    @property
    def width(self) -> int:
        """The columns taken, comments not counted."""
        return self.indent + self.length

    def add(self, text: str) -> None:
        """Go on with a text."""
        self.parts.append(text)
        self.length += len(text)

    def __str__(self) -> str:
        text = " " * self.indent + "".join(self.parts)
        return f"{text}  {self.comment}" if self.comment and self.parts else text + self.comment


def lay_out(line: Line) -> list[str]:
    """The physical lines of a logical line whose roles are set."""
    while True:
        settle_commas(line.items)
        rows = render(line)
        # From the last, because brackets put around the end of a statement move no item before them.
        changed = [shorten(line, row) for row in reversed(rows) if row.width > WIDTH]
        if not any(changed):
            return [str(row) for row in rows]


# ---- From what is open and broken to rows ----------------------------------------------------------------------------


def settle_commas(items: list[Item]) -> None:
    """End an open group of entries in a comma if they stand on several lines, and no other group."""
    for item in items:
        if not isinstance(item, Group) or not item.items:
            continue
        inside, last = item.items, item.items[-1]
        several = any(is_separator(inside[at - 1]) and head(inside[at]).broken for at in range(1, len(inside)))
        if not is_separator(last):
            if item.comma and item.open and several:
                end = inside[-1].closer if isinstance(inside[-1], Group) else inside[-1]
                inside.append(Word("COMMA", ",", after=end.after, separator=True))
                end.after = ""
        elif not (item.open and several) and not head(last).before and not (item.tuple and is_single(inside)):
            end = inside[-2].closer if isinstance(inside[-2], Group) else inside[-2]
            if not (end.after and head(last).after):
                end.after = end.after or head(last).after
                inside.pop()
        settle_commas(inside)


def is_separator(item: Item) -> bool:
    """Whether an item is a comma between entries."""
    return isinstance(item, Word) and item.separator


def is_single(items: list[Item]) -> bool:
    """Whether the only comma is the last item."""
    return not any(is_separator(item) for item in items[:-1])


def render(line: Line) -> list[Row]:
    """The physical lines of a logical line, as its groups stand."""
    rows = [Row(line.depth * INDENT)]
    emit(line.items, rows, line.depth * INDENT, 0)
    return [row for row in rows if row.parts or row.comment]


def emit(items: list[Item], rows: list[Row], indent: int, depth: int) -> None:
    """Add items to the last of the rows, and begin further rows at an indent."""
    for at, item in enumerate(items):
        word = head(item)
        if word.broken:
            rows.extend(Row(indent, comment=comment) for comment in word.before)
            rows.append(Row(indent))
        elif word.space:
            rows[-1].add(" ")
        show(word, rows[-1], (depth, items, at))
        if isinstance(item, Group):
            if item.open:
                emit(item.items, rows, indent + INDENT, depth + 1)
                rows.extend(Row(indent + INDENT, comment=comment) for comment in item.closer.before)
                rows.append(Row(indent))
            else:
                emit(item.items, rows, indent, depth + 1)
            show(item.closer, rows[-1], (depth, items, at))


def show(word: Word, row: Row, place: tuple[int, list[Item], int]) -> None:
    """Add a word to a row."""
    row.shown.append((*place, row.width))
    row.add(word.text)
    row.comment = row.comment or word.after


# ---- Making a row shorter --------------------------------------------------------------------------------------------


def shorten(line: Line, row: Row) -> bool:
    """Open a group or break an expression of a row that is too wide; whether anything could be done."""
    if not row.shown or line.first.kind == "LONG_STRING":
        return False
    depth = min(depth for depth, _, _, _ in row.shown)
    items = next(items for level, items, _, _ in row.shown if level == depth)
    places = [(at, column) for level, _, at, column in row.shown if level == depth]
    low, high = places[0][0], places[-1][0]
    columns = dict(reversed(places))
    if items is line.items:
        return shorten_statement(line, columns, low, high) or open_best(items, columns, low, high)
    if not head(items[0]).broken:
        # The row ends inside a group that is not open.
        return open_best(items, columns, low, high)
    return shorten_entries(items, columns, low, high)


def shorten_entries(items: list[Item], columns: dict[int, int], low: int, high: int) -> bool:
    """Shorten a row inside an open group."""
    if any(is_separator(items[at - 1]) for at in range(low + 1, high + 1)):
        return break_at(items, [at for at in range(1, len(items)) if is_separator(items[at - 1])])
    clauses = [at for at in range(low, high + 1) if is_word(items[at], "for")]
    if clauses and clauses[0] > low:
        return break_at(items, clauses[:1])
    if clauses:
        found = [at for at in range(low + 1, high + 1) if is_word(items[at], "if")] or clauses[1:]
        return break_at(items, found) or open_best(items, columns, low, high)
    found = loosest(items, low + 1, high + 1)
    if found and hugs(items, found) and open_last(items, columns, low, high):
        return True
    return break_at(items, found) or open_best(items, columns, low, high)


def shorten_statement(line: Line, columns: dict[int, int], low: int, high: int) -> bool:
    """Shorten a row of a statement outside all brackets."""
    items = line.items
    start, stop = value_of(line)
    if line.first.is_("def"):
        formals = next(at for at, item in enumerate(items) if isinstance(item, Group) and item.opener.text == "(")
        sign = columns.get(start - 1, WIDTH)
        if formals in columns and not (start and sign + len("= (") <= WIDTH) and open_group(items[formals]):
            return True
    if not start or start < low or stop - 1 > high or start >= stop:
        return False
    if any(isinstance(item, Group) and item.open for item in items[start:stop]):
        return False
    if any(is_separator(item) for item in items[start:stop]):
        return wrap(line, start, stop)
    found = loosest(items, start + 1, stop)
    if hugs(items, found) and open_last(items, columns, start, stop - 1):
        return True
    return bool(found) and wrap(line, start, stop)


def value_of(line: Line) -> tuple[int, int]:
    """Where the expression of a statement begins and ends; nowhere, (0, 0), if it has none."""
    items, first = line.items, line.first
    stop = len(items)
    if is_word(items[-1], ":"):
        stop -= 1
    start = 0
    if first.is_("return", "if", "elif", "while", "assert"):
        start = 1
    elif first.is_("for"):
        start = next(at for at, item in enumerate(items) if is_word(item, "in")) + 1
    else:
        signs = (at for at, item in enumerate(items) if is_word(item, "=", "+=", "-=", "*=", "/="))
        start = next(signs, -1) + 1
        if start:
            stop = next((at for at in range(start, stop) if is_word(items[at], "for")), stop)
    if first.is_("assert"):
        stop = next((at for at in range(start, stop) if is_separator(items[at])), stop)
    return (start, stop) if start else (0, 0)


def loosest(items: list[Item], start: int, stop: int) -> list[int]:
    """The places of those operators that bind loosest, if a line does not already begin with them."""
    for row in OPERATORS:
        found = [at for at in range(start, stop) if is_word(items[at], *row) and breakable(items, at)]
        if found:
            return [at for at in found if not head(items[at]).broken]
    return []


def hugs(items: list[Item], operators: list[int]) -> bool:
    """Whether the last operand may be opened rather than an expression broken: after one operator of arithmetic."""
    return not operators or (len(operators) == 1 and not is_word(items[operators[0]], "else", "if", "or", "and"))


def break_at(items: list[Item], places: list[int]) -> bool:
    """Begin lines before items; whether that is new for any."""
    fresh = [at for at in places if not head(items[at]).broken]
    for at in fresh:
        head(items[at]).broken = True
    return bool(fresh)


def open_last(items: list[Item], columns: dict[int, int], low: int, high: int) -> bool:
    """Open the last item, if it is a group whose first line fits."""
    if is_separator(items[high]):
        high -= 1
    item = items[high]
    call = high > low and is_operand(items[high - 1])
    if not isinstance(item, Group) or (item.opener.text == "[" and call) or columns.get(high, WIDTH) >= WIDTH:
        return False
    return open_group(item)


def open_best(items: list[Item], columns: dict[int, int], low: int, high: int) -> bool:
    """Open the last group of a row: rather one whose first line fits, rather a call than a subscript."""

    def merit(at: int) -> tuple[bool, bool, int]:
        subscript = head(items[at]).text == "[" and at > 0 and is_operand(items[at - 1])
        return columns.get(at, WIDTH) < WIDTH, not subscript, at

    groups = [at for at in range(low, high + 1) if at in columns and isinstance(items[at], Group)]
    return any(open_group(items[at]) for at in sorted(groups, key=merit, reverse=True))


def open_group(item: Item) -> bool:
    """Open a group; whether it was closed and holds anything."""
    if not isinstance(item, Group) or item.open or not item.items:
        return False
    item.open = True
    head(item.items[0]).broken = True
    return True


def wrap(line: Line, start: int, stop: int) -> bool:
    """Put a pair of open brackets around an expression, if it may nest one deeper."""
    inside = line.items[start:stop]
    if line.depth + 1 + max(map(nesting, inside)) > LIMIT:
        return False
    group = Group(Word("LPAR", "("), inside, Word("RPAR", ")"), comma=True, tuple=True)
    group.opener.space = head(inside[0]).space
    last = inside[-1].closer if isinstance(inside[-1], Group) else inside[-1]
    group.closer.after, last.after = last.after, ""
    head(inside[0]).space = False
    line.items[start:stop] = [group]
    return open_group(group)


def nesting(item: Item) -> int:
    """How deep brackets nest in an item."""
    return 1 + max(map(nesting, item.items), default=0) if isinstance(item, Group) else 0
