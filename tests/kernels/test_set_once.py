"""Which names of generated source need no place in memory."""

import ast

import pytest

from dgraph.kernels.set_once import names_set_once


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = n + 1\nreturn a", {"n", "a"}),
        ("a = n\na = a + 1\nreturn a", {"n"}),
        ("a = 0\na += n\nreturn a", {"n"}),
        ("n = n + 1\nreturn n", set()),
        ("if n > 0:\n    a = 1\n    b = a\nreturn n", {"n", "a", "b"}),
        ("if n > 0:\n    a = 1\nelse:\n    b = 2\nreturn a", {"n", "b"}),
        ("for i in range(n):\n    a = i * 2\n    b = a", {"n", "i", "a", "b"}),
        ("for i in range(n):\n    b = a\n    a = i", {"n", "i", "b"}),
        ("for i in range(n):\n    a = 1\nreturn i", {"n", "a"}),
        ("for i in range(n):\n    i = i + 1", {"n"}),
        ("for i in range(n):\n    a = i\nfor i in range(n):\n    b = i", {"n", "a", "b"}),
        ("while True:\n    a = n\n    if a > 3:\n        break", {"n", "a"}),
        ("while True:\n    a = n\n    if a > 3:\n        break\nreturn a", {"n"}),
    ],
)
def test_names_that_are_set_once_and_read_behind_it(body, expected):
    text = "\n".join(f"    {line}" for line in body.splitlines())
    (function,) = ast.parse(f"def f(n):\n{text}\n").body
    assert names_set_once(function) == expected
