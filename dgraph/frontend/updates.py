"""Updates over a generator: `count[label[i]] += 1 for i in range(n)`, `x[i, j] = e for i for j`.

All points read the old value. Places that `=` writes are provably distinct; contributions of `+=` add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import NotSupported, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.distinct import Row, are_distinct, factors
from dgraph.frontend.facts import facts_of
from dgraph.frontend.formulas import Index, point_names, settled, trial
from dgraph.frontend.nests import guarded, loop_nest
from dgraph.frontend.numbers import affine_of, has_values, truth
from dgraph.frontend.operators import binary, negative
from dgraph.frontend.places import entry_for, write
from dgraph.frontend.ranges import split_linear
from dgraph.frontend.scattered import Slot, Write, write_distinct, write_scattered
from dgraph.frontend.subscripts import At, Pick, Run, at_number, pick_of, picks_of, read, tuple_position
from dgraph.frontend.values import Binding, Bound, Leaf, RecordValue, TupleValue, describe, leaves_of, rebuild
from dgraph.ir.build import close_together
from dgraph.ir.graph import Value
from dgraph.ops.control import If, Space
from dgraph.sizes import Atom, Size
from dgraph.types import I32, I64, Accumulator, Array, Shape


@dataclass(frozen=True)
class Target:
    """What an update changes: an array or an array of records, the subscripts, and how it is put back."""

    value: Leaf | RecordValue
    subscripts: tuple[t.Expression, ...]
    put: Callable[[Bound], Bound]

    @property
    def axes(self) -> Shape:
        """The axes that the subscripts are of."""
        return self.value.axes if isinstance(self.value, RecordValue) else self.value.shape

    @property
    def leaves(self) -> list[Leaf]:
        """The arrays that are changed."""
        return [leaf for _, leaf in leaves_of(self.value) if isinstance(leaf, Leaf)]


def scatter(
    ctx: Context, place: t.Place, operator: str, node: t.Expression, generator: t.Generator, span: Span
) -> None:
    """An update of many places at once. With `+=` entries that meet add up; with `=` the places must be distinct."""
    target = _target(ctx, ctx.names[place.name].value, place.parts, (), place)
    if operator not in ("+", "-", "="):
        node = t.Chain(node.span, _reading(place), (t.Link(node.span, operator, node),))
        operator = "="
    update = _Update(ctx, target, operator, node, generator, span)

    def both() -> Bound:
        picks_of(ctx, target.subscripts, target.axes, place.span)
        return ctx.evaluate(node)

    with settled(ctx, generator.indices, generator.guard, both) as indices:
        if ctx.reads is not None:
            trial(ctx, indices, generator.guard, both)
            return
        changed = update.run(indices)
    ctx.bind(place.name, target.put(changed), place.span)


def _target(
    ctx: Context, value: Bound, parts: Sequence[t.At | t.FieldOf], subscripts: tuple[t.Expression, ...], place: t.Place
) -> Target:
    """What the parts of a place lead to; the subscripts of an array of records go to the arrays of its fields."""
    if not parts:
        if not subscripts or not isinstance(value, Leaf | RecordValue):
            note = "write the subscripts: `x[i] = ... for i`"
            raise TypeMismatch.at(place.span, "there is no index on the left", f"this is {describe(value)}", note=note)
        return Target(value, subscripts, lambda new: new)
    part, rest = parts[0], parts[1:]
    if isinstance(part, t.FieldOf):
        record = value
        if not isinstance(record, RecordValue) or part.name not in record.fields:
            raise TypeMismatch.at(part.span, f"there is no field `{part.name}` here", f"this is {describe(value)}")
        inner = _target(ctx, record.fields[part.name], rest, subscripts, place)
        name = part.name
        return replace(inner, put=lambda new: replace(record, fields={**record.fields, name: inner.put(new)}))
    if isinstance(value, TupleValue):
        items, position = value.items, tuple_position(ctx, part.subscripts, len(value.items), part.span)
        inner = _target(ctx, items[position], rest, subscripts, place)
        return replace(inner, put=lambda new: TupleValue((*items[:position], inner.put(new), *items[position + 1 :])))
    if any(isinstance(one, t.Slice | t.Rest) for one in subscripts):
        title = "an update over a generator through a slice of a slice is not supported yet"
        raise NotSupported.at(part.span, title, note="write one subscript for each axis")
    return _target(ctx, value, rest, (*subscripts, *part.subscripts), place)


def _reading(place: t.Place) -> t.Expression:
    """The expression that reads a place."""
    node: t.Expression = t.Name(place.span, place.name)
    for part in place.parts:
        if isinstance(part, t.FieldOf):
            node = t.Member(place.span, node, part.name)
        else:
            node = t.Index(place.span, node, part.subscripts)
    return node


@dataclass(frozen=True)
class Affine:
    """A subscript that is affine in the indices: their factors, and the atoms of the rest."""

    subscript: Size
    factors: Row
    rest: frozenset[Atom]


@dataclass(frozen=True)
class Tried:
    """The subscripts at a free point: what they pick, the values of the indices, and those that are affine in them."""

    picks: list[Pick]
    atoms: list[Value]
    affine: list[Affine | None]


def _affine_row(held: Bound, atoms: Sequence[Value]) -> Affine | None:
    """A subscript as an affine expression. One of 32 bits may wrap, which tells places apart only for one index that
    moves by 1."""
    subscript = affine_of(held)
    row = None if subscript is None else factors(subscript, atoms)
    if subscript is None or row is None:
        return None
    if isinstance(held, Leaf) and held.dtype != I64:
        is_step = len(row) == 1 and next(iter(row.values())).constant in (1, -1)
        if held.dtype != I32 or not is_step:
            return None
    return Affine(subscript, row, frozenset(subscript.atoms()) - frozenset(row))


@dataclass(frozen=True)
class _Update:
    ctx: Context
    target: Target
    operator: str
    node: t.Expression
    generator: t.Generator
    span: Span

    def run(self, indices: Sequence[Index]) -> Bound:
        """The changed value."""
        is_counted = any(index.extent is None for index in indices)
        if self.operator != "=":
            picks = self._tried(indices).picks
            ats = [pick for pick in picks if isinstance(pick, At)]
            is_plain = picks[: len(ats)] == ats and all(isinstance(p, Run) and p.is_full for p in picks[len(ats) :])
            return self._by_loop(indices) if is_counted or not is_plain else self._add(indices)
        slots = self._slots(indices)
        has_slices = any(slot.index is None and isinstance(slot.pick, Run) for slot in slots)
        if is_counted or (has_slices and (self.generator.guard is not None or not _is_separable(slots, indices))):
            return self._by_loop(indices)
        work = Write(self.ctx, self.target.leaves, slots, self.generator.guard, self._picks, self._entries, self.span)
        changed = write_distinct(work) if _is_separable(slots, indices) else write_scattered(work, indices)
        return rebuild(self.target.value, iter(changed))

    # ---- what a point writes ------------------------------------------------------------------------------------

    def _picks(self) -> list[Pick]:
        return picks_of(self.ctx, self.target.subscripts, self.target.axes, self.span)

    def _entries(self, kept: Shape) -> list[Leaf]:
        """The new entry of each array, brought to its dtype and the shape of its place."""
        ctx, span = self.ctx, self.node.span
        new = _parts(self.target.value, ctx.evaluate(self.node), span)
        used = len(self.target.axes)
        is_record = isinstance(self.target.value, RecordValue)
        rests = [kept + (leaf.shape[used:] if is_record else ()) for leaf in self.target.leaves]
        return [
            entry_for(ctx, leaf, rest, part, span)
            for leaf, rest, part in zip(self.target.leaves, rests, new, strict=True)
        ]

    def _tried(self, indices: Sequence[Index]) -> Tried:
        """The subscripts at a free point, lowered aside."""
        ctx = self.ctx
        probe = ctx.g.child()
        atoms = [probe.input(Array(I64), index.name) for index in indices]
        with ctx.region(probe), point_names(ctx, indices, atoms):
            picks = self._picks()
            plain = [None if isinstance(one, t.Slice) else one for one in self._by_axis()]
            affine = [None if one is None else _affine_row(ctx.evaluate(one), atoms) for one in plain]
        moving: set[Atom] = set(atoms)
        for node in probe.nodes:
            if node.regions or moving.intersection(node.operands):
                moving.update(node.results)
        return Tried(picks, atoms, [row if row and not moving & row.rest else None for row in affine])

    # ---- distinct places ----------------------------------------------------------------------------------------

    def _slots(self, indices: Sequence[Index]) -> list[Slot]:
        """What each axis is picked by; refused unless the places are provably distinct."""
        note = "an index tells its place where it is multiplied by a number and added to, as in `x[2 * i + 1, j]`; "
        note += "places that may meet add up with `+=`"
        refused = NotSupported.at(self.span, "these places are not provably distinct", note=note)
        tried = self._tried(indices)
        owners = dict(zip(tried.atoms, indices, strict=True))
        names = {index.name for index in indices}
        slots: list[Slot] = []
        rows = []
        by_axis = zip(tried.picks, self._by_axis(), tried.affine, self.target.axes, strict=True)
        for pick, subscript, affine, extent in by_axis:
            if subscript is None or not any(isinstance(x, t.Name) and x.name in names for x in t.walk(subscript)):
                fixed = pick if subscript is None else pick_of(self.ctx, subscript, extent)
                if not isinstance(fixed, At | Run):
                    raise refused
                slots.append(Slot(fixed, is_fixed=isinstance(fixed, At)))
                continue
            if affine is None or not isinstance(pick, At):
                raise refused
            rows.append(affine.factors)
            slots.append(self._slot(pick, affine, owners))
        if not are_distinct(rows, {atom: index.extent for atom, index in owners.items()}):
            raise refused
        return slots

    def _by_axis(self) -> list[t.Expression | None]:
        """The subscript of each axis; None for one that is taken whole without saying."""
        written, count = self.target.subscripts, len(self.target.axes)
        cut = next((at for at, one in enumerate(written) if isinstance(one, t.Rest)), len(written))
        after = written[cut + 1 :]
        return [*written[:cut], *[None] * (count - cut - len(after)), *after]

    @staticmethod
    def _slot(pick: At, affine: Affine, owners: Mapping[Value, Index]) -> Slot:
        index = next((index for atom, index in owners.items() if list(affine.factors) == [atom]), None)
        parts = None if index is None else split_linear(affine.subscript, next(iter(affine.factors)))
        if parts is None or not parts[0].constant or has_values(parts[1]) or index is None or index.extent is None:
            return Slot(pick)
        return Slot(Run(parts[1], parts[1], parts[0].constant, index.extent, False, pick.span), index)

    # ---- sums ---------------------------------------------------------------------------------------------------

    def _add(self, indices: Sequence[Index]) -> Bound:
        """Contributions gathered in buffers of an index space, then added to the arrays."""
        ctx, guard = self.ctx, self.generator.guard
        leaves = [leaf for leaf in self.target.leaves if leaf.dtype.is_float or isinstance(self.target.value, Leaf)]
        child = ctx.g.child()
        at = [child.input(Array(I64), index.place_name) for index in indices]
        buffers = tuple(Accumulator(leaf.dtype, leaf.shape) for leaf in leaves)
        own = [child.input(buffer) for buffer in buffers]
        with ctx.region(child), point_names(ctx, indices, at):
            if guard is None:
                outputs = self._contributions(own)
            else:
                test = truth(ctx, Binding(ctx.evaluate(guard), guard.span)).value
                taken, skipped = child.child(), child.child()
                with ctx.region(taken), ctx.local(), ctx.assuming(facts_of(ctx, guard)):
                    added = self._contributions(own)
                regions, captures = close_together([taken, skipped], [added, own])
                outputs = list(child.apply(If(), test, *captures, regions=regions))
        region = child.close(outputs)
        extents = tuple(index.extent for index in indices if index.extent is not None)
        totals = ctx.g.apply(Space(extents=extents, buffers=buffers), *child.captures, regions=[region])
        sums = {
            leaf.value: Leaf(ctx.g.add(leaf.value, total), leaf.weak, leaf.soft)
            for leaf, total in zip(leaves, totals, strict=True)
        }
        return rebuild(self.target.value, iter([sums.get(leaf.value, leaf) for leaf in self.target.leaves]))

    def _contributions(self, own: Sequence[Value]) -> list[Value]:
        ctx = self.ctx
        picks = self._picks()
        ats = [pick for pick in picks if isinstance(pick, At)]
        entries = self._entries(self.target.axes[len(ats) :])
        is_leaf = isinstance(self.target.value, Leaf)
        pairs = zip(entries, self.target.leaves, strict=True)
        kept = [entry for entry, leaf in pairs if is_leaf or leaf.dtype.is_float]
        policy = "proven" if all(pick.is_proven for pick in ats) else "error"
        out = []
        for buffer, entry in zip(own, kept, strict=True):
            value: Bound = entry
            if self.operator == "-":
                value = negative(ctx, Binding(entry, self.node.span))
            assert isinstance(value, Leaf)
            out.append(ctx.g.accumulate(buffer, *(at_number(ctx.g, pick) for pick in ats), value.value, policy=policy))
        return out

    # ---- one after the other ------------------------------------------------------------------------------------

    def _by_loop(self, indices: Sequence[Index]) -> Bound:
        """A loop that writes one place after the other: for counts that only the run decides, and for slices."""
        ctx, target = self.ctx, self.target
        own = target.leaves

        def step(carries: list[Value], _: Sequence[Value]) -> list[Value]:
            held = rebuild(
                target.value,
                iter([Leaf(value, leaf.weak, leaf.soft) for value, leaf in zip(carries, own, strict=True)]),
            )
            picks = self._picks()
            new = Binding(ctx.evaluate(self.node), self.node.span)
            if self.operator != "=":
                old = Binding(read(ctx, held, picks), self.span)
                new = Binding(binary(ctx, self.operator, old, new), self.node.span)
            changed = write(ctx, held, picks, new.value, self.span)
            return [leaf.value for _, leaf in leaves_of(changed) if isinstance(leaf, Leaf)]

        results = loop_nest(ctx, indices, [leaf.value for leaf in own], guarded(ctx, self.generator.guard, step))
        found = [Leaf(value, leaf.weak, leaf.soft) for value, leaf in zip(results, own, strict=True)]
        return rebuild(target.value, iter(found))


def _is_separable(slots: Sequence[Slot], indices: Sequence[Index]) -> bool:
    """Whether each index moves along an axis of its own, and nothing else does."""
    moved = [slot.index.name for slot in slots if slot.index is not None]
    is_plain = all(slot.index is not None or slot.is_fixed or isinstance(slot.pick, Run) for slot in slots)
    return is_plain and sorted(moved) == sorted(index.name for index in indices)


def _parts(value: Bound, new: Bound, span: Span) -> list[Bound]:
    """What each array of an array of records is written with."""
    if isinstance(value, RecordValue):
        if isinstance(new, RecordValue) and new.declaration is not value.declaration:
            raise TypeMismatch.at(span, f"a {value.name} is wanted here", f"this is {describe(new)}")
        fields = new.fields if isinstance(new, RecordValue) else dict.fromkeys(value.fields, new)
        return [part for name, held in value.fields.items() for part in _parts(held, fields[name], span)]
    if isinstance(value, TupleValue):
        items = new.items if isinstance(new, TupleValue) else (new,) * len(value.items)
        return [part for held, one in zip(value.items, items, strict=True) for part in _parts(held, one, span)]
    return [new]
