"""`dgraph explain`: what a function and its derivative cost and keep, and why, for people to read or as JSON."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dgraph.cli.commands import chosen, load_target, names_of, steering_of
from dgraph.cli.values import print_json, read_arguments
from dgraph.errors import ArgumentError, Diagnostic
from dgraph.passes.costs import NOMINAL
from dgraph.sizes import AMOUNT_WORDS, bytes_in


def explain(options: Namespace) -> int:
    """`dgraph explain`."""
    from dgraph.program.explain import explain as explained

    program, name = load_target(options)
    budget = None if options.budget is None else budget_of(options.budget)
    arguments = read_arguments(options.arg)
    found = explained(chosen(program, name), names_of(options.wrt), arguments, budget, steering_of(options))
    if options.json:
        print_json(found)
    else:
        sys.stdout.write(text_of(found))
    return 0


def budget_of(text: str) -> int:
    """The bytes of an amount of memory. Raises `ArgumentError`."""
    found = bytes_in(text)
    if found is None:
        raise ArgumentError(Diagnostic(f'"{text}" is no amount of memory', (), AMOUNT_WORDS))
    return found


# ---- text -----------------------------------------------------------------------------------------------------------


def text_of(found: Mapping[str, Any]) -> str:
    """The explanation for a person."""
    blocks = [list(_head(found)), list(_cost(found)), list(_memory(found)), list(_loops(found)), list(_copies(found))]
    blocks += [
        list(_kernels(found)),
        list(_schedule(found)),
        list(_threads(found)),
        list(_curve(found)),
        list(_choice(found)),
    ]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block) + "\n"


def _head(found: Mapping[str, Any]) -> Iterator[str]:
    told = f", and {found['derivative']}" if found["derivative"] else ""
    told += f" with respect to {', '.join(found['wrt'])}" if found["wrt"] else ""
    sizes = ", ".join(f"{name} = {number:,}" for name, number in found["sizes"].items())
    yield f"{found['function']}{told}{f', at {sizes}' if sizes else ''}"


def _cost(found: Mapping[str, Any]) -> Iterator[str]:
    parts = _parts(found["cost"])
    rows = [["cost", *parts]]
    for key, words in (
        ("operations", "operations"),
        ("products", "in products"),
        ("moved", "bytes moved"),
    ):
        amounts = [part[key] for part in parts.values()]
        rows.append([f"  {words}", *map(_amount, amounts)])
    if all(part["seconds"] is not None for part in parts.values()):
        rows.append(["  time by the model", *(in_seconds(part["seconds"]) for part in parts.values())])
    yield from _table(rows)
    last = list(parts.values())[-1]
    if last["assumed"] and last["seconds"] is not None:
        yield f"  with {NOMINAL} for {', '.join(last['assumed'])}, which only the run decides"
    if last.get("again"):
        yield f"  {in_seconds(last['again'])} of that for steps that are run again"
    if found["cost"].get("ratio") is not None:
        yield f"  the derivative takes {found['cost']['ratio']:.1f} times as long"


def _memory(found: Mapping[str, Any]) -> Iterator[str]:
    parts = _parts(found["memory"])
    rows = [["memory", *parts]]
    for key in ("arena", "tapes", "results", "arguments"):
        rows.append([f"  {key}", *(_bytes(part[key]) for part in parts.values())])
    yield from _table(rows)


def _parts(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("function", "derivative") if name in found}


def _loops(found: Mapping[str, Any]) -> Iterator[str]:
    if found["loops"]:
        yield "loops"
    for loop in found["loops"]:
        yield f"  line {loop['line']}: {loop['text']}"
        rows = [["steps", _amount(loop["steps"])]]
        keeps_less = loop["checkpoint"] is not None and loop["checkpoint"]["value"] != 0
        for at, row in enumerate(loop["kept"]):
            name = row["name"] + (" at the start of the step" if row["what"] == "carried" else "")
            word = "kept of one step" if keeps_less else "kept"
            rows.append([word if not at else "", name, f"{_bytes(row['bytes'])} a step", _line(row)])
        for at, row in enumerate(loop["again"]):
            ops = _counted(row["ops"])
            rows.append(["computed again" if not at else "", ops, "", _line(row)])
        if loop["free"]:
            rows.append(["read for nothing", ", ".join(loop["free"])])
        for at, row in enumerate(loop["curve"]):
            mark = "-> " if row["chosen"] else "   "
            words = f"{mark}{in_bytes(row['bytes'])} a step"
            rows.append(["can keep" if not at else "", words, f"{in_seconds(row['seconds'])} more" if at else ""])
        rows += _checkpoint(loop["checkpoint"])
        if not loop["kept"] and loop["checkpoint"] is None and found["derivative"]:
            rows.append(["kept", "nothing"])
        yield from (f"    {line}" for line in aligned(rows))


def _checkpoint(asked: Mapping[str, Any] | None) -> list[list[str]]:
    if asked is None:
        return []
    if asked["option"] == "every" and not asked["value"]:
        return [["@checkpoint", "none: every step is kept"]]
    rows = [["@checkpoint", f"{_option(asked)}, a state has {_bytes(asked['state'])}"]]
    disk = asked.get("disk")
    if asked.get("states") is not None:
        where = " in memory" if disk else ""
        rows.append(["", f"{_many(asked['states'], 'state')} {'is' if asked['states'] == 1 else 'are'} kept{where}"])
    if disk and disk["states"] is not None:
        times = ""
        if "writes" in disk:
            times = f": one is written {_times(disk['writes'])} and read {_times(disk['reads'])}"
        rows.append(["", f"{_many(disk['states'], 'state')} at most on disk{times}"])
    if asked.get("advances") is not None:
        most = f", none more than {_times(asked['repetitions'])}" if "repetitions" in asked else ""
        bound = f"if there are {_many(asked['at_most'], 'step')}, " if asked.get("at_most") is not None else ""
        rows.append(["", f"{bound}{_many(asked['advances'], 'step')} run forwards{most}"])
    return rows


def _option(asked: Mapping[str, Any]) -> str:
    """The option as it is written, and its number where that is computed."""
    told = f"{asked['option']}=" + (f'"{asked["value"]}"' if asked["option"] == "budget" else str(asked["value"]))
    if asked["number"] not in (None, asked["value"]):
        told += f", which is {asked['number']:,}"
    return f"{told}, disk={asked['disk']['value']}" if asked.get("disk") else told


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _copies(found: Mapping[str, Any]) -> Iterator[str]:
    if found["copies"]:
        yield "copies, where an update could not be done in place"
    rows = []
    for row in found["copies"]:
        often = " at each step" if row["each_step"] else ""
        rows.append([f"line {row['line']}:", row["text"], f"{_bytes(row['bytes'])}{often}", row["why"]])
    yield from (f"  {line}" for line in aligned(rows))


def _kernels(found: Mapping[str, Any]) -> Iterator[str]:
    if found["kernels"]:
        yield "kernels"
    alike: dict[tuple[str, ...], list[int]] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for kernel in found["kernels"]:
        over = f" over {', '.join(kernel['over'])}" if kernel["over"] else ""
        half = "adjoint" if kernel["derived"] == "adjoint" else ""
        ops = _counted(kernel["ops"]) if kernel["kind"] == "nest" else ""
        key = f"{kernel['kind']}{over}", half, ops
        alike.setdefault(key, []).extend(kernel["lines"])
        counts[key] += 1
    rows = [[f"{counts[key]} x", key[0], _ranges(sorted({*lines})), *key[1:]] for key, lines in alike.items()]
    yield from (f"  {line}" for line in aligned(rows))


def _schedule(found: Mapping[str, Any]) -> Iterator[str]:
    """How the nests run: what goes several at a time, and what else was considered at which price."""
    rows = []
    for row in found["schedule"]:
        how = [f"{lane['loop']}: {lane['at_a_time']} at a time" for lane in row["lanes"]]
        how += [_many(row["products"], "matrix product")] if row["products"] else []
        how += [_many(row["sums"], "sum") + " in blocks"] if row["sums"] else []
        where = f"line {row['line']}" if row["line"] else ""
        rows.append([row["kernel"], where, ", ".join(how) or "left to LLVM"])
        for ways in row["considered"]:
            told = [f"{'-> ' if way['taken'] else ''}{way['way']} {way['cost']:.3g}" for way in ways]
            if rows[-1][3:]:
                rows.append(["", "", ""])
            rows[-1].append("; ".join(told))
    if rows:
        yield "schedule, with instructions for each point of the ways that were considered"
    yield from (f"  {line}" for line in aligned(rows))


def _threads(found: Mapping[str, Any]) -> Iterator[str]:
    """Which kernels threads share, from what size on; with sizes, those that they share."""
    rows = []
    for row in found["threads"]:
        if row["parts"] is None:
            how = f"a part for each {row['least']} of {row['operations']} operations, up to {row['most']}"
        elif row["parts"] > 1:
            how = f"{row['parts']} parts"
        else:
            continue
        rows.append([row["kernel"], f"line {row['line']}" if row["line"] else "", how])
    if rows:
        yield "threads share"
    yield from (f"  {line}" for line in aligned(rows))


def _curve(found: Mapping[str, Any]) -> Iterator[str]:
    curve = found["curve"]
    if curve is None or (curve["budget"] is None and len(curve["points"]) == 1 and not found["derivative"]):
        return
    points = curve["points"]
    if len(points) == 1:
        yield "straight code keeps nothing that computing it again would save"
    else:
        yield "straight code can compute values again instead of keeping them"
        rows = [["", "arena", "more time", "computed again"]]
        for point in points:
            mark = "->" if point["chosen"] else ""
            lines = sorted({at["line"] for at in point["again"] if at["line"]})
            again = f"{_many(point['nodes'], 'node')} of {_ranges(lines)}" if point["nodes"] else "nothing"
            rows.append([mark, in_bytes(point["bytes"]), in_seconds(point["seconds"]), again])
        yield from (f"  {line}" for line in aligned(rows))
    if not curve["fits"] and found["choice"] is None:
        yield f"  no choice keeps within {in_bytes(curve['budget'])}"


def _choice(found: Mapping[str, Any]) -> Iterator[str]:
    """What a call chooses to keep within the budget."""
    choice = found["choice"]
    if choice is None:
        return
    yield f"a budget of {in_bytes(choice['budget'])}"
    if not choice["fits"]:
        yield f"  {choice['why']}"
        return
    often = f"{choice['slowdown']:.2f} times that of a call that keeps all"
    yield f"  the peak is {in_bytes(choice['peak'])}, the time by the model {often}"
    for loop in choice["loops"]:
        each = "a state every " if loop["keeps"] == "every" else ""
        yield f"  {loop['loop']} keeps {each}{_many(loop['number'], 'step' if each else 'state')}"
    for loop in choice["steps"]:
        yield f"  {loop['loop']} keeps {in_bytes(loop['bytes'])} of a step instead of {in_bytes(loop['of'])}"
    if choice["again"]:
        yield f"  computed again: {', '.join(choice['again'])}"
    if not choice["loops"] and not choice["steps"] and not choice["again"]:
        yield "  all is kept"


# ---- words ----------------------------------------------------------------------------------------------------------


def in_bytes(count: int) -> str:
    """An amount of memory in words."""
    return _scaled(count, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)), "bytes")


def in_seconds(seconds: float) -> str:
    """A time in words."""
    if not seconds:
        return "0 s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _scaled(count: int, units: Sequence[tuple[str, float]], plain: str) -> str:
    for unit, scale in units:
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:,} {plain}".rstrip()


def _amount(amount: Mapping[str, Any]) -> str:
    return amount["formula"] if amount["number"] is None else f"{amount['number']:,}"


def _bytes(amount: Mapping[str, Any]) -> str:
    return f"{amount['formula']} bytes" if amount["number"] is None else in_bytes(amount["number"])


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _counted(ops: Mapping[str, int]) -> str:
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in sorted(ops.items()))


def _line(row: Mapping[str, Any]) -> str:
    return f"line {row['line']}: {row['text']}" if row["line"] else ""


def _ranges(lines: Sequence[int]) -> str:
    """Lines in words, those in a row together."""
    if not lines:
        return ""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    told = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"line{'' if len(lines) == 1 else 's'} {told}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their columns below one another; the last column of a row is as long as it is."""
    widths: dict[int, int] = {}
    for row in rows:
        for at, cell in enumerate(row[:-1]):
            widths[at] = max(widths.get(at, 0), len(cell))
    return ["  ".join(cell.ljust(widths.get(at, 0)) for at, cell in enumerate(row)).rstrip() for row in rows]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with a name in front and numbers below one another."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
