"""`dgraph fmt`: what it writes, and that it changes neither meaning nor comments, however a program was written."""

import re
from pathlib import Path
from random import Random

import pytest
from format_mutations import Scribe

from dgraph.errors import ParseError
from dgraph.reader import format as formatting
from dgraph.reader import format_layout, parse_module
from dgraph.reader.format import format_text

ROOT = Path(__file__).parents[1]
REJECTS = ROOT / "tests" / "rejects"
HIDDEN = {".venv", "node_modules", "build", "dist"}
PROGRAMS = sorted(
    file
    for file in ROOT.rglob("*.dg")
    if REJECTS not in file.parents and not HIDDEN & set(file.relative_to(ROOT).parts)
)
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")))
MESSAGES = ROOT / "docs" / "errors.md"
"""The page whose programs are faulty on purpose."""
BLOCK = re.compile(r"^```dg *(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SEEDS = 4


def relative(file: Path) -> str:
    """A path as it is shown."""
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", PROGRAMS, ids=relative)
def test_every_program_is_formatted(file):
    text = file.read_text(encoding="utf-8")
    assert format_text(text, str(file)) == text


@pytest.mark.parametrize("page", [page for page in PAGES if page != MESSAGES], ids=relative)
def test_every_program_of_the_documentation_is_formatted(page):
    for name, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        try:
            result = format_text(block, str(page))
        except ParseError:
            # A page may show a mistake, in a block with a name; the tests of pages run those.
            assert name
        else:
            assert result == block


def comments(text: str) -> list[str]:
    """The comments of a program, found without its formatter; no program has a `#` in a string."""
    bare = re.sub(r'"""[\s\S]*?"""', "", text)
    return [match.rstrip() for match in re.findall(r"#.*", bare)]


@pytest.mark.parametrize("width", [120, 40])
@pytest.mark.parametrize("file", PROGRAMS, ids=relative)
def test_however_a_program_is_written(file, width, monkeypatch):
    monkeypatch.setattr(format_layout, "WIDTH", width)
    text = file.read_text(encoding="utf-8")
    _, tree = parse_module(text, "program")
    for seed in range(SEEDS):
        written = Scribe(Random(f"{file.name} {seed}"), breaks=seed % 3 > 0, comments=seed % 2 > 0).rewrite(text)
        result = format_text(written, "program")
        assert parse_module(result, "program")[1] == tree
        assert comments(result) == comments(written)
        assert format_text(result, "program") == result
        if seed == 0:
            assert result == format_text(text, "program")


def test_the_mutations_change_the_text_and_add_comments():
    text = (ROOT / "tests/programs/conv.dg").read_text(encoding="utf-8")
    plain = Scribe(Random(0), breaks=False, comments=False).rewrite(text)
    noted = Scribe(Random(1), breaks=True, comments=True).rewrite(text)
    assert plain != text
    assert len(comments(noted)) > len(comments(text)) + 5


CASES = {
    "spaces": (
        """
x=-1+2*3**-2
def f[n,*s,T:float](x:T[n,*s],k:f64=1.0,g:fn( f64 )->f64=lambda z:z)->(T[n],f64)=g(x,axis=-1)@-x
def g(x: f64[4], p: P[3] [2]) -> f64:
    y = x [ 1 : -1 ] + x[k+1:] + x[:k+1:2] + x[a:b] + x[..., -1, ::2] + x[i:, f(j):f(j)+1]
    y[i , 0]+=sum ( a [i] for i  in range( n )for j if not i==j )
    (a,b) , c=( 1,2 ),(x , )
    return [ 1.0,2.0 ] if y<0 else not(a)
""",
        """
x = -1 + 2 * 3 ** -2
def f[n, *s, T: float](x: T[n, *s], k: f64 = 1.0, g: fn(f64) -> f64 = lambda z: z) -> (T[n], f64) = g(x, axis=-1) @ -x

def g(x: f64[4], p: P[3][2]) -> f64:
    y = x[1:-1] + x[k + 1 :] + x[: k + 1 : 2] + x[a:b] + x[..., -1, ::2] + x[i:, f(j) : f(j) + 1]
    y[i, 0] += sum(a[i] for i in range(n) for j if not i == j)
    (a, b), c = (1, 2), (x,)
    return [1.0, 2.0] if y < 0 else not (a)
""",
    ),
    "blank lines": (
        '''


"""Doc."""
a = 1
b = 2



c = 3
# about d
# more about d
def d(x: f64) -> f64:

    """Doc."""


    y = x



    return y
def e(x: f64) -> f64 = x
# about nothing

@entry

# between
@metric
def f(x: f64) -> f64 = x
g = 1


''',
        '''
"""Doc."""

a = 1
b = 2


c = 3

# about d
# more about d
def d(x: f64) -> f64:
    """Doc."""

    y = x

    return y

def e(x: f64) -> f64 = x
# about nothing

@entry
# between
@metric
def f(x: f64) -> f64 = x

g = 1
''',
    ),
    "comments between lines belong to the block whose margin they reach": (
        """
def f(x: f64) -> f64:
# first
  if x > 0: # ends a line
      y = x
      # deep
    # between
  # shallow
  else:
      y = 2.0
     # inner
  # outer
 # off
  return y
  # the end of f
# after f
""",
        """
def f(x: f64) -> f64:
    # first
    if x > 0:  # ends a line
        y = x
        # deep
    # between
    # shallow
    else:
        y = 2.0
    # inner
    # outer
    # off
    return y
    # the end of f

# after f
""",
    ),
    "comments inside brackets open them": (
        """
def f(a: f64, # one
      b: f64) -> f64:
    return ( a + # sum
      b
      # end
      )
x = g( # first
  h(1, 2), # second
  3)
""",
        """
def f(
    a: f64,  # one
    b: f64,
) -> f64:
    return (
        a +  # sum
        b
        # end
    )

x = g(  # first
    h(1, 2),  # second
    3,
)
""",
    ),
    "brackets that end a line stay open, others close": (
        """
a = f(
  x, y)
b = f(x,
      y)
c = [
  1, 2,
  3, 4]
d = (
    a +
    b
    or c)
e = [
    x,
]
f = (
    x,
)
""",
        """
a = f(
    x, y
)
b = f(x, y)
c = [
    1, 2,
    3, 4,
]
d = (
    a
    + b
    or c
)
e = [
    x
]
f = (
    x,
)
""",
    ),
    "line ends and marks of other systems": ("\ufeffa = 1\r\nb = 2\rc = 3", "\na = 1\nb = 2\nc = 3\n"),
    "nothing": ("", "\n"),
    "nothing but comments": ("  # a\n\n\n\n#b", "\n# a\n\n\n#b\n"),
}


@pytest.mark.parametrize(("written", "expected"), CASES.values(), ids=CASES)
def test_what_is_written(written, expected):
    result = format_text(written.removeprefix("\n"), "program")
    assert result == expected.removeprefix("\n")
    assert format_text(result, "program") == result


LONG = """
def f[n](first: f64[n], second: f64[n], third: f64[n]) -> (f64[n], f64[n]) = g(first)
def h(x: f64) -> f64:
    total = first * second + third * fourth + fifth * sixth + seventh
    b = first + some_function(second, third, fourth, fifth, sixth)
    c = first + some_function(argument_one, argument_two, argument_three, argument_four)
    d[i, j] = first[i] * second[j] + third[i] * fourth[j] for i for j in range(3)
    e = outer(inner(first, second, third), inner(fourth, fifth))
    f = sum(first_factor[i, j] * second_factor[j, i] for i, j if i < j)
    t = [first if one else second if two else third if three else fourth]
    if condition_one(x) and condition_two(x) or condition_three(x):
        a = x
    assert condition_one(x) and condition_two(x), "a message of words"
    return first_result, second_result, third_result, fourth_result
"""

SHORT = """
def f[n](
    first: f64[n], second: f64[n], third: f64[n]
) -> (f64[n], f64[n]) = g(first)

def h(x: f64) -> f64:
    total = (
        first * second + third * fourth + fifth * sixth + seventh
    )
    b = first + some_function(second, third, fourth, fifth, sixth)
    c = first + some_function(
        argument_one, argument_two, argument_three, argument_four
    )
    d[i, j] = (
        first[i] * second[j] + third[i] * fourth[j]
    ) for i for j in range(3)
    e = outer(inner(first, second, third), inner(fourth, fifth))
    f = sum(
        first_factor[i, j] * second_factor[j, i] for i, j if i < j
    )
    t = [
        first if one
        else second if two
        else third if three
        else fourth
    ]
    if (
        condition_one(x) and condition_two(x)
        or condition_three(x)
    ):
        a = x
    assert (
        condition_one(x) and condition_two(x)
    ), "a message of words"
    return (
        first_result, second_result, third_result, fourth_result
    )
"""


def test_long_lines_are_broken(monkeypatch):
    monkeypatch.setattr(format_layout, "WIDTH", 66)
    assert format_text(LONG[1:], "program") == SHORT[1:]
    assert format_text(SHORT[1:], "program") == SHORT[1:]


def test_no_line_of_a_program_is_longer_than_the_width():
    rows = [row for file in PROGRAMS for row in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) > 1000
    assert max(map(len, rows)) <= format_layout.WIDTH


def test_a_faulty_program_gets_its_diagnostic():
    with pytest.raises(ParseError, match="is never closed"):
        format_text("x = (1\ny = 2\n", "program")


def test_brackets_as_deep_as_they_may_be():
    deep = f"def f(x: f64) -> f64:\n    return {'g(' * 196}x + 1{')' * 196}\n"
    result = format_text(deep, "program")
    assert result.count("\n") == 1 + 1 + 2 * 196 + 1
    assert format_text(result, "program") == result


def test_a_result_with_another_meaning_is_refused(monkeypatch):
    monkeypatch.setattr(formatting, "lay_out", lambda _: ["x = 2"])
    with pytest.raises(formatting.FormatFault, match="meaning"):
        format_text("x = 1\n", "program")


def test_a_result_without_a_comment_is_refused(monkeypatch):
    monkeypatch.setattr(formatting, "lay_out", lambda _: ["x = 1"])
    with pytest.raises(formatting.FormatFault, match="comment"):
        format_text("x = 1  # one\n", "program")
