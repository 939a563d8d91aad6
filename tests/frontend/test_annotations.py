"""Annotations: where they may stand, and what their arguments may be."""

import pytest
from frontend_run import faults

from dgraph.train.settings import KNOWN

TRAINED = """
param w: f64[3] = zeros()

{annotation}
def loss[n](x: f64[n]) -> f64 = sum(x) + sum(w)
"""

FOR = """
def f(x: f64) -> f64:
    {annotation}
    for i in range(4):
        x = x * 2
    return x
"""

WHILE = """
def f(x: f64) -> f64:
    {annotation}
    while x < 8.0:
        x = x * 2
    return x
"""


@pytest.mark.parametrize(
    "annotation",
    [
        "@entry",
        "@metric",
        "@train",
        "@train(optimiser=adam, batch=8, epochs=2, wrt=w)",
        '@train(optimiser=sgd(rate=0.1), validation=0.1, test=100, patience=3, shuffle=False, data="d.npz", clip=1.5)',
    ],
)
def test_annotations_of_functions(annotation: str):
    assert faults(TRAINED.format(annotation=annotation)) == []


@pytest.mark.parametrize(
    ("annotation", "title"),
    [
        ("@entry(3)", "`@entry` takes no arguments"),
        ("@metric(3)", "`@metric` takes no arguments"),
        ("@entry\n@entry", "`@entry` stands here twice"),
        ("@Entry", "there is no annotation `@Entry`"),
        ("@train(3)", "`@train` takes its options by name"),
        ("@train(seed=0)", "`@train` has no option `seed`"),
        ("@train(batch=0)", "`batch` of `@train` is a whole number from 1"),
        ("@train(batch=-1)", "`batch` of `@train` is a whole number from 1"),
        ("@train(batch=2.5)", "`batch` of `@train` is a whole number from 1"),
        ("@train(epochs=True)", "`epochs` of `@train` is a whole number from 1"),
        ("@train(clip=0)", "`clip` of `@train` is a positive number"),
        ("@train(shuffle=1)", "`shuffle` of `@train` is `True` or `False`"),
        ("@train(data=w)", "`data` of `@train` is a file name"),
        ("@train(validation=-0.1)", "`validation` of `@train` is a share of the rows or a count of them"),
        ("@train(optimiser=3)", "`optimiser` of `@train` is an optimiser"),
        ("@train(optimiser=adam(1e-3))", "`optimiser` of `@train` is an optimiser"),
        ("@train(optimiser=nothing(rate=1.0))", "there is no function `nothing`"),
        ("@train(optimiser=adam(rates=1e-3))", "the optimiser `adam` has no option `rates`"),
        ("@train(wrt=3)", "`wrt` of `@train` is the names of params"),
        ("@train(wrt=v)", "there is no param `v`"),
        ("@checkpoint(every=3)", "`@checkpoint` does not belong on a function"),
        ("@bound(3)", "`@bound` does not belong on a function"),
        ("@implicit", "`@implicit` does not belong on a function"),
        ("@derivative(of=f)", "there is no function `f` in this file"),
        ("@derivative(of=loss)", "`loss` is its own rule"),
        ("@derivative", "`@derivative` takes the name of a function"),
        ("@derivative(loss)", "`@derivative` takes the name of a function"),
        ('@derivative(of="loss")', "`@derivative` takes the name of a function"),
        ("@derivative(wrt=loss)", "`@derivative` has no option `wrt`"),
    ],
)
def test_faults_of_annotations_of_functions(annotation: str, title: str):
    found = faults(TRAINED.format(annotation=annotation))
    assert [fault.title for fault in found] == [title]
    assert found[0].labels and found[0].note


def test_the_options_of_training_are_those_that_the_check_knows():
    for option in KNOWN:
        (fault,) = faults(TRAINED.format(annotation=f"@train({option}=(1.5, 'x'))".replace("'", '"')))
        assert option in fault.title


@pytest.mark.parametrize(
    "annotation",
    [
        "@checkpoint(every=2)",
        "@checkpoint(slots=8)",
        '@checkpoint(budget="1.5 GiB")',
        "@checkpoint(none)",
        "@checkpoint(slots=8, disk=20)",
        '@checkpoint(slots=8, disk="2GB")',
        '@checkpoint(budget="1MB", disk=20)',
    ],
)
@pytest.mark.parametrize("loop", ["for", "while"])
def test_annotations_of_loops(loop: str, annotation: str):
    assert faults({"for": FOR, "while": WHILE}[loop].format(annotation=annotation)) == []


def test_a_bound_belongs_on_a_while():
    assert faults(WHILE.format(annotation="@bound(50)")) == []
    assert [fault.title for fault in faults(FOR.format(annotation="@bound(50)"))] == [
        "`@bound` does not belong on a `for` loop"
    ]


DISK_ALONE = "`disk` stands beside `slots` or `budget`, which say what is kept in memory"


@pytest.mark.parametrize(
    ("loop", "annotation", "title"),
    [
        (FOR, "@checkpoint", "`@checkpoint` takes one option"),
        (FOR, "@checkpoint(3)", "`@checkpoint` takes one option"),
        (FOR, "@checkpoint(every=2, slots=2)", "`@checkpoint` takes one option"),
        (FOR, "@checkpoint(depth=1)", "`@checkpoint` has no option `depth`"),
        (FOR, "@checkpoint(every=0)", "`every` is a positive integer"),
        (FOR, "@checkpoint(slots=-1)", "`slots` is a positive integer"),
        (FOR, "@checkpoint(every=2.5)", "`every` is a positive integer"),
        (FOR, "@checkpoint(budget=3)", "a budget is a string"),
        (FOR, "@checkpoint(disk=3)", DISK_ALONE),
        (FOR, "@checkpoint(every=3, disk=3)", DISK_ALONE),
        (FOR, "@checkpoint(slots=3, disk=0)", "`disk` is a positive integer, which counts states, or an amount"),
        (FOR, '@checkpoint(slots=3, disk="3")', '"3" is no amount of room on disk'),
        (FOR, "@checkpoint(slots=0, disk=3)", "`slots` is a positive integer"),
        (FOR, '@checkpoint(budget="big")', '"big" is no amount of memory'),
        (FOR, '@checkpoint(budget="0MB")', '"0MB" is no amount of memory'),
        (FOR, "@checkpoint(every=2)\n    @checkpoint(slots=2)", "`@checkpoint` stands here twice"),
        (FOR, "@unroll(4)", "`@unroll` is not supported yet"),
        (FOR, "@entry", "`@entry` does not belong on a `for` loop"),
        (WHILE, "@bound", "`@bound` takes one positive integer"),
        (WHILE, "@bound(0)", "`@bound` takes one positive integer"),
        (WHILE, "@bound(-1)", "`@bound` takes one positive integer"),
        (WHILE, "@bound(5, 6)", "`@bound` takes one positive integer"),
        (WHILE, "@implicit(3)", "the tolerance of `@implicit` is a positive number"),
        (WHILE, "@implicit(tolerance=0)", "the tolerance of `@implicit` is a positive number"),
        (WHILE, "@implicit(tolerance=x)", "the tolerance of `@implicit` is a positive number"),
        (WHILE, "@implicit(steps=3)", "`@implicit` has no option `steps`"),
        (FOR, "@implicit", "`@implicit` does not belong on a `for` loop"),
        (FOR, "@derivative(of=f)", "`@derivative` does not belong on a `for` loop"),
        (WHILE, "@checkpoint(every=0)", "`every` is a positive integer"),
        (WHILE, "@checkpoint(none)\n    @implicit", "`@checkpoint` has nothing to do beside `@implicit`"),
        (WHILE, "@implicit\n    @checkpoint(slots=2)", "`@checkpoint` has nothing to do beside `@implicit`"),
    ],
)
def test_faults_of_annotations_of_loops(loop: str, annotation: str, title: str):
    found = faults(loop.format(annotation=annotation))
    assert [fault.title for fault in found] == [title]
    assert found[0].labels
