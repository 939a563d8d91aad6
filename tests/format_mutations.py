"""The same program written otherwise: other spaces, margins, blank lines, line ends inside brackets, more comments."""

from random import Random

from dgraph.reader import parse_module
from dgraph.reader.format_words import Group, Item, Line, head, logical_lines, tail

TIGHT = ("NAME", "INT", "FLOAT", "STRING", "LONG_STRING")


class Scribe:
    """Writes programs with random freedom in all that has no meaning."""

    def __init__(self, random: Random, *, breaks: bool, comments: bool) -> None:
        self.random, self.breaks, self.comments = random, breaks, comments
        self.count = 0

    def rewrite(self, text: str) -> str:
        """The program, written otherwise."""
        source, _ = parse_module(text, "program")
        margins = [0]
        rows: list[str] = []
        for line in logical_lines(source.text + "\n"):
            margins = margins[: line.depth + 1]
            while len(margins) <= line.depth:
                margins.append(margins[-1] + self.random.randint(1, 9))
            if self.comments:
                rows.extend(self.above(margins))
            margin = " " * margins[line.depth]
            rows.extend([" " * self.random.randint(0, 2)] * line.blanks)
            rows.append(margin + (line.comment or self.line(line)) + " " * self.random.randint(0, 2))
        return "\n".join(rows) + "\n" * self.random.randint(0, 3)

    def above(self, margins: list[int]) -> list[str]:
        """Comments and blank lines to stand above a line."""
        rows = []
        while self.random.random() < 0.15:
            rows.append(self.random.choice(["", " " * self.random.randint(0, margins[-1] + 3) + self.comment()]))
        return rows

    def comment(self) -> str:
        """A comment unlike all others."""
        self.count += 1
        return f"#{self.random.choice(['', ' ', '!'])}note {self.count} ( [ \" '"

    def line(self, line: Line) -> str:
        """A logical line."""
        text = self.items(line.items, nested=False)
        last = tail(line.items[-1])
        if self.comments and not last.after and self.random.random() < 0.1:
            text += " " + self.comment()
        return text

    def items(self, items: list[Item], *, nested: bool) -> str:
        """Items with their comments."""
        text, previous = "", ""
        for item in items:
            if previous:
                text += self.gap(previous, head(item).kind, nested=nested, written=head(item).broken)
            text += "".join(f"\n{comment}\n" for comment in head(item).before)
            text += head(item).text
            if isinstance(item, Group):
                text += f"{item.opener.after}\n" if item.opener.after else ""
                first = head(item.items[0]) if item.items else item.closer
                text += self.gap("(", ")", nested=True, written=first.broken)
                text += self.items(item.items, nested=True)
                text += "".join(f"\n{comment}\n" for comment in item.closer.before)
                text += self.gap("(", ")", nested=True, written=item.closer.broken) + item.closer.text
            text += tail(item).after + ("\n" if nested and tail(item).after else "")
            previous = tail(item).kind
        return text

    def gap(self, before: str, after: str, *, nested: bool, written: bool) -> str:
        """White space between two words, of which there must be some between two made of letters."""
        letters = all(kind in TIGHT or kind.isalpha() for kind in (before, after))
        gap = " " * self.random.randint(int(letters), 3)
        if nested and self.comments and self.random.random() < 0.03:
            gap += self.comment() + "\n" + " " * self.random.randint(0, 12)
        if nested and (self.random.random() < 0.1 if self.breaks else written):
            gap += "\n" * self.random.randint(1, 3) + " " * self.random.randint(0, 12)
        return gap
