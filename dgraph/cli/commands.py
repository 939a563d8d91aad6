"""What each command does."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgraph.cli.values import holds_finite, print_json, read_arguments, show_value
from dgraph.errors import ArgumentError, Diagnostic, ScopeError
from dgraph.program import functions
from dgraph.program.functions import Function, Program
from dgraph.types import leaves

if TYPE_CHECKING:
    from dgraph.ir.graph import Formal
    from dgraph.program.compiled import Compiled


BUNDLE = ".dgb"
"""How names of bundles end."""


def split_target(text: str) -> tuple[str, str | None]:
    """FILE and FUNC of `FILE[:FUNC]`."""
    path, _, name = text.rpartition(":")
    if path and name.isidentifier() and not Path(text).is_file():
        return path, name
    return text, None


def load_target(options: Namespace) -> tuple[Program, str | None]:
    """The program of a target, with the parameters asked for, and the function named in it."""
    path, name = split_target(options.target)
    program = functions.load(path, seed=getattr(options, "seed", 0))
    if getattr(options, "params", None):
        from dgraph.train.folder import load_params

        load_params(program, Path(options.params))
    return program, name


def chosen(program: Program, name: str | None) -> Function:
    """The function named, else `main`, else the only `@entry`. Raises `ScopeError`."""
    if name is not None:
        return program.function(name)
    found = program.module.functions
    if "main" in found:
        return program.function("main")
    entries = [known for known, item in found.items() if any(note.name == "entry" for note in item.annotations)]
    if len(entries) == 1:
        return program.function(entries[0])
    reason = "no @entry" if not entries else f"{len(entries)} entries ({', '.join(entries)})"
    note = f"say which: {program.path}:NAME with NAME of {', '.join(found) or 'none'}"
    raise ScopeError(Diagnostic(f"{program.path} has no function `main` and {reason}", (), note))


def names_of(text: str | None) -> tuple[str, ...] | None:
    """Names separated by commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip()) or None


def steering_of(options: Namespace) -> dict[str, str] | None:
    """The choices of the schedule that are made by hand."""
    pairs = (text.partition("=") for text in options.schedule or ())
    return {name.strip(): value.strip() for name, _, value in pairs} or None


def compiled_as_asked(function: Function, options: Namespace) -> Compiled:
    """A function compiled with the options of a command."""
    return functions.compile(function, device=options.device, precision=options.precision, budget=options.budget)


def run(options: Namespace) -> int:
    """`dgraph run`."""
    if options.target.endswith(BUNDLE):
        compiled = functions.load_bundle(options.target)
    else:
        program, name = load_target(options)
        compiled = compiled_as_asked(chosen(program, name), options)
    given = read_arguments(options.arg)
    result = compiled(**given)
    if options.json:
        print_json({"result": result})
    else:
        print(show_value("result", result))
    warn_of_doubts(options, compiled, given, result)
    return 0


def grad(options: Namespace) -> int:
    """`dgraph grad`."""
    program, name = load_target(options)
    function = chosen(program, name)
    names = names_of(options.wrt)
    derivative = functions.value_and_grad(function, names, mode=options.mode)
    compiled = compiled_as_asked(derivative, options)
    given = read_arguments(options.arg)
    value, slopes = compiled(**given)
    result = value, slopes
    if names is None:
        names, slopes = (first_float_formal(compiled.signature.formals),), (slopes,)
    derivatives = dict(zip(names, slopes, strict=True))
    if options.json:
        print_json({"value": value, "derivatives": derivatives})
    else:
        print(show_value("value", value))
        for known, slope in derivatives.items():
            print(show_value(f"d value / d {known}", slope))
    warn_of_doubts(options, compiled, given, result)
    return 0


def export(options: Namespace) -> int:
    """`dgraph export`."""
    program, name = load_target(options)
    function = chosen(program, name)
    if options.grad or options.wrt:
        function = functions.value_and_grad(function, names_of(options.wrt))
    if not options.aot.endswith(BUNDLE):
        raise ArgumentError(Diagnostic(f"{options.aot} is no name of a bundle", (), f"it ends in `{BUNDLE}`"))
    compiled = functions.compile(function, precision=options.precision)
    compiled.export(options.aot)
    print(f"wrote {options.aot}, {Path(options.aot).stat().st_size:,} bytes")
    return 0


def warn_of_doubts(options: Namespace, compiled: Compiled, given: Mapping[str, Any], result: Any) -> None:
    """Say on standard error that a result is nan or infinite; with `--debug` where that began, and that a derivative
    depends on the choice of a basis."""
    if holds_finite(result):
        if options.debug:
            _warn_of_bases(compiled, given)
        return
    sys.stdout.flush()
    if not options.debug:
        note = "run it again with --debug to see the line and the step where that began"
        sys.stderr.write(f"{Diagnostic('the result holds nan or inf', (), note, 'warning').render()}\n")
        return
    from dgraph.program.nonfinite import culprit_of

    exact = compiled.exact((), given)
    leaves, extents = exact.leaves((), given)
    found = culprit_of(exact, exact.run(leaves, extents), leaves, extents, tell_of_replay)
    shown = (replace(diagnostic, severity="warning") for diagnostic in found.diagnostics)
    sys.stderr.write("\n\n".join(diagnostic.render() for diagnostic in shown) + "\n")


def _warn_of_bases(compiled: Compiled, given: Mapping[str, Any]) -> None:
    from dgraph.program.chosen_bases import warning_of

    exact = compiled.exact((), given)
    found = warning_of(exact, *exact.leaves((), given))
    if found is not None:
        sys.stdout.flush()
        sys.stderr.write(f"{found.render()}\n")


def tell_of_replay(seconds: float) -> None:
    """Say that the search for what is not finite goes on."""
    sys.stderr.write(f"looking for where nan or inf began, step by step: {seconds:.0f} s\n")


def first_float_formal(formals: Sequence[Formal]) -> str:
    """The name of the first formal that holds floats."""
    return next(formal.name for formal in formals if any(leaf.dtype.is_float for _, leaf in leaves(formal.type)))


def check(options: Namespace) -> int:
    """`dgraph check`."""
    from dgraph.program.check import check_program

    program, name = load_target(options)
    found = check_program(program, name, read_arguments(options.arg), report=None if options.json else print)
    if options.json:
        print_check(found)
    if found:
        sys.stderr.write("\n\n".join(diagnostic.render() for diagnostic in found) + "\n")
    return 1 if any(diagnostic.severity == "error" for diagnostic in found) else 0


def print_check(diagnostics: Sequence[Diagnostic]) -> None:
    """The JSON object of `dgraph check`."""
    ok = not any(diagnostic.severity == "error" for diagnostic in diagnostics)
    print_json({"ok": ok, "diagnostics": [diagnostic.to_json() for diagnostic in diagnostics]})


def train(options: Namespace) -> int:
    """`dgraph train`."""
    from dgraph.train import run_seed, train_program

    if split_target(options.target)[1] is not None:
        note = "write the file alone: every @train function in it is trained"
        raise ArgumentError(Diagnostic(f"`dgraph train` takes a file, not {options.target}", (), note))
    if options.device != "cpu":
        raise ArgumentError(Diagnostic(f"training with --device {options.device} is not supported yet"))
    if options.resume and options.params:
        raise ArgumentError(Diagnostic("a run goes on with its own parameters", (), "leave out --params"))
    if options.seed is None:
        options.seed = run_seed(options.resume) if options.resume else 0
    program, _ = load_target(options)
    summary = train_program(
        program,
        data=options.data,
        settings=options.set,
        out=options.out,
        resume=options.resume,
        quiet=options.json,
        debug=options.debug,
    )
    if options.json:
        print_json(summary)
    return 0


def draw(options: Namespace) -> int:
    """`dgraph draw`."""
    from dgraph.program.pictures import draw_function

    program, name = load_target(options)
    arguments = read_arguments(options.arg) if options.arg else None
    draw_function(chosen(program, name), options.output, options.stage, arguments, names_of(options.wrt))
    print(f"wrote {options.output}")
    return 0


def show(options: Namespace) -> int:
    """`dgraph show`."""
    from dgraph.program.show import stage_text, tree_text

    program, name = load_target(options)
    if options.stage == "tree":
        text = tree_text(program)
    else:
        text = stage_text(chosen(program, name), options.stage, names_of(options.wrt), steering_of(options))
    sys.stdout.write(text)
    return 0


def fmt(options: Namespace) -> int:
    """`dgraph fmt`."""
    from dgraph.cli.format import format_files

    return format_files(options.files, check=options.check, diff=options.diff)


def doctor(options: Namespace) -> int:
    """`dgraph doctor`."""
    from dgraph.cli.doctor import findings

    facts: dict[str, Any] = findings()
    if options.json:
        print_json(facts)
        return 0
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:<{width}}  {value}")
    return 0
