"""The command line: `dgraph check | run | grad | train | draw | show | explain | profile | export
| fmt | doctor`.

Exit codes: 0 done, 1 a fault in the program, data or arguments (a diagnostic on standard error), 2 wrong usage of the
command, 3 a fault of dgraph itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper

from dgraph import __version__
from dgraph.errors import CheckFailed, DgraphError

SHOW_STAGES = ("tree", "graph", "optimised", "grad", "loops", "numba", "llvm", "cuda", "ptx")
DRAW_STAGES = ("source", "optimised", "forward", "reverse", "kernels", "schedule")
RUNS = 20
DEBUG = "say where numbers stop being finite, and show where inside dgraph a fault arose"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    _open_closed_streams()
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What a terminal's encoding lacks is shown as an escape; in JSON that is still the same text.
            stream.reconfigure(errors="backslashreplace")
    try:
        code: int = options.command(options)
        sys.stdout.flush()
        return code
    except DgraphError as fault:
        # What fails in a run fails in the program, and the message has the place.
        if options.debug and not isinstance(fault, CheckFailed):
            traceback.print_exc()
        if getattr(options, "json", False) and options.name == "check":
            from dgraph.cli import commands

            commands.print_check(fault.diagnostics)
        sys.stderr.write(f"{fault}\n")
        return 1
    except BrokenPipeError:
        # Nobody reads on; what is still to be flushed at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as fault:
        sys.stderr.write(f"error: there is not enough memory\n   = {fault}\n")
        return 1
    except OSError as fault:
        if options.debug:
            traceback.print_exc()
        sys.stderr.write(f"error: {fault.filename or 'the system'}: {fault.strerror or fault}\n")
        return 1
    except Exception as fault:
        if options.debug:
            traceback.print_exc()
        sys.stderr.write(
            f"error: a fault of dgraph itself, not of your program: {type(fault).__name__}: {fault}\n"
            "   = please report it with the program; --debug shows where it happened\n"
        )
        return 3


def _open_closed_streams() -> None:
    """What is written to a stream that the caller has closed goes nowhere, and nothing is read from one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _parser() -> argparse.ArgumentParser:
    # Most of dgraph is read here and not at the top, so that Ctrl-C meets `main` also while that goes on.
    from dgraph.cli import commands
    from dgraph.cli import explain as explaining
    from dgraph.cli import profile as profiling

    parser = argparse.ArgumentParser(
        prog="dgraph", description="A compiler and visualiser for differentiable programs."
    )
    parser.add_argument("--version", action="version", version=f"dgraph {__version__}")
    commands_of = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands_of.add_parser(name, help=text, description=text)
        sub.set_defaults(command=run)
        sub.add_argument("--debug", action="store_true", help=DEBUG)
        return sub

    def values(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--arg", action="append", default=[], metavar="NAME=VALUE", help="JSON, @file.npy, @file.npz:key"
        )
        sub.add_argument("--seed", type=int, default=0, help="seed of the params' initial values")
        sub.add_argument("--params", metavar="DIR", help="use the parameters of a training run")

    def target(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("target", metavar="FILE[:FUNC]", help="FUNC defaults to main, else the only @entry")

    def how(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        sub.add_argument("--precision", choices=("f32", "f64"), help="promote all floats")
        sub.add_argument("--budget", metavar="AMOUNT", help="the most memory of a call, as in 200MB")

    def as_json(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="print one JSON object")

    def steered(sub: argparse.ArgumentParser) -> None:
        text = "force or forbid what is chosen by cost, for experiments: lanes=on|off products=off blocks=off"
        sub.add_argument("--schedule", action="append", metavar="NAME=VALUE", help=text)

    check = command("check", commands.check, "check types and sizes, then the derivatives of each @entry")
    target(check)
    check.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="check at this point")
    check.add_argument("--seed", type=int, default=0)
    check.add_argument("--params", metavar="DIR", help="check at the parameters of a training run")
    as_json(check)

    run = command("run", commands.run, "call a function")
    for add in (target, values, how, as_json):
        add(run)

    grad = command("grad", commands.grad, "value and derivatives of a function")
    for add in (target, values, how, as_json):
        add(grad)
    grad.add_argument("--wrt", metavar="NAMES", help="names separated by commas; default: the first float formal")
    grad.add_argument("--mode", choices=("forward", "reverse"))

    train = command("train", commands.train, "train the @train functions of a program")
    train.add_argument("target", metavar="FILE")
    train.add_argument("--data", metavar="PATH", help="an .npz or .csv file, or a folder of idx files")
    train.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override an option of @train")
    train.add_argument("--seed", type=int, help="seed of the params' initial values, of the order of rows and of keys")
    train.add_argument("--params", metavar="DIR", help="start from the parameters of another run")
    train.add_argument("--out", metavar="DIR", help="the run folder; default runs/PROGRAM-NUMBER")
    train.add_argument("--resume", metavar="DIR", help="go on with the run in this folder")
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    as_json(train)

    draw = command("draw", commands.draw, "draw a stage of a function's graph")
    target(draw)
    values(draw)
    draw.add_argument("--stage", choices=DRAW_STAGES, default="source")
    draw.add_argument("--wrt", metavar="NAMES", help="for --stage reverse")
    draw.add_argument("-o", "--output", required=True, metavar="FILE", help=".svg .png .pdf .dot")

    show = command("show", commands.show, "print a stage as text")
    target(show)
    show.add_argument("--stage", choices=SHOW_STAGES, default="graph")
    show.add_argument("--wrt", metavar="NAMES", help="for --stage grad")
    steered(show)

    explain = command("explain", explaining.explain, "what a function and its derivative cost and keep, and why")
    for add in (target, values, steered, as_json):
        add(explain)
    explain.add_argument("--wrt", metavar="NAMES", help="names separated by commas; default: the first float formal")
    explain.add_argument("--budget", metavar="BYTES", help="what straight code may hold, as in 200MB")

    def of_derivative(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--precision", choices=("f32", "f64"), help="promote all floats")
        sub.add_argument("--grad", action="store_true", help="the value and its derivative, by --wrt")
        sub.add_argument("--wrt", metavar="NAMES", help="names separated by commas; default: the first float formal")

    profile = command("profile", profiling.profile, "where the time of a call goes")
    for add in (target, values, of_derivative, steered, as_json):
        add(profile)
    profile.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"tell the fastest of N calls ({RUNS})")

    export = command("export", commands.export, "write a function as a file that runs without compiling")
    for add in (target, of_derivative):
        add(export)
    export.add_argument("--aot", required=True, metavar="OUT.dgb", help="the bundle, for `dgraph run` and load_bundle")
    export.add_argument("--seed", type=int, default=0, help="seed of the params' initial values")
    export.add_argument("--params", metavar="DIR", help="use the parameters of a training run")

    formats = command("fmt", commands.fmt, "format programs, in place")
    formats.add_argument("files", nargs="+", metavar="FILE", help="`-` is standard input, written to standard output")
    formats.add_argument("--check", action="store_true", help="write nothing; list files that would change, and fail")
    formats.add_argument("--diff", action="store_true", help="write nothing; show what would change")

    doctor = command("doctor", commands.doctor, "what dgraph found on this machine, and which of it is used")
    as_json(doctor)
    return parser
