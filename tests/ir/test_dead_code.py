"""Dead code in every region op, and what must stay."""

from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code, without_checks
from dgraph.ir.graph import Region, Value, walk
from dgraph.ir.op import OPS
from dgraph.ir.verify import verify_region
from dgraph.sizes import size, variable
from dgraph.types import F64, I64, Accumulator, Array, array

N = variable("n")
NUMBER = Array(F64)


def names(region: Region) -> list[str]:
    return [node.op.name for node in walk(region)]


def pruned(g: Builder, *outputs: Value) -> Region:
    region = remove_dead_code(g.close(outputs))
    verify_region(region)
    return region


def real(h: Builder, number: float) -> Value:
    return h.constant(number, F64)


def test_what_no_output_reads_goes():
    g = Builder()
    x = g.input(NUMBER)
    g.sin(g.exp(x))
    assert names(pruned(g, g.cos(x))) == ["cos"]


def test_a_region_without_dead_code_is_returned_itself():
    g = Builder()
    x = g.input(array(F64, N))
    (c,) = g.for_(g.number(N), [real(g, 0.0)], lambda h, i, carried, _w: [h.add(carried[0], h.index(x, i))])
    region = g.close([c, g.map([N], lambda h, i: h.index(x, i))])
    assert remove_dead_code(region) is region


def test_carries_of_a_counted_loop_are_a_fixed_point():
    """c needs d; e only needs itself; f needs c, but nothing needs f."""
    g = Builder()
    x = g.input(NUMBER)

    def body(h, _i, carried, _walked):
        c, d, e, f = carried
        return [h.add(c, d), h.sin(d), h.mul(e, x), h.add(f, c)]

    results = g.for_(g.number(N), [x, x, x, x], body)
    region = pruned(g, results[0])
    loop = region.nodes[-1]
    assert loop.op.carries == 2
    assert len(loop.operands) == 3, "x is captured by e only"
    assert names(loop.regions[0]) == ["add", "sin"]


def test_carries_that_a_while_condition_reads_stay():
    g = Builder()
    x = g.input(NUMBER)

    def body(h, carried):
        c, d, e = carried
        return [h.add(c, d), h.mul(d, d), h.exp(e)]

    results = g.while_([x, x, x], lambda h, carried: h.less(carried[0], real(h, 9.0)), body)
    region = pruned(g, results[-1])
    assert region.nodes[-1].op.carries == 2
    assert "exp" not in names(region)


def test_stacks_tapes_and_walks():
    g = Builder()
    x, y = g.input(array(F64, N)), g.input(array(F64, N))

    def body(h, _i, carried, walked):
        c = h.add(carried[0], walked[0])
        return [c, h.sin(c), h.mul(walked[1], c), h.cos(c), h.exp(walked[1])]

    c, _sines, _products, tape, _other = g.for_(g.number(N), [real(g, 0.0)], body, walks=[x, y], tapes=2, length=N)

    def walker(h, _i, carried, walked):
        return [h.add(carried[0], walked[0])]

    (total,) = g.for_(g.number(N), [real(g, 0.0)], walker, walks=[tape])
    region = pruned(g, g.add(c, total))
    loop = next(node for node in region.nodes if node.op.name == "for")
    assert (loop.op.walks, loop.op.stacks, loop.op.tapes) == (1, 0, 1)
    assert not {"sin", "mul", "exp"} & set(names(region))


def test_accumulators_buffers_and_yields_of_a_space():
    g = Builder()
    x = g.input(array(F64, N))
    outer = g.zeros(Accumulator(F64, (N,)))

    def point(h, indices, threads, own):
        (i,) = indices
        v = h.index(x, i)
        return [
            h.accumulate(threads[0], i, h.sin(v)),
            h.accumulate(own[0], h.cos(v)),
            h.accumulate(own[1], h.exp(v)),
            h.tanh(v),
            h.log(v),
        ]

    results = g.space([N], point, accumulators=[outer], buffers=[Accumulator(F64), Accumulator(F64)])
    region = pruned(g, results[2], results[4])
    space = region.nodes[-1]
    assert space.op.accumulators == 0
    assert len(space.op.buffers) == 1
    assert "fresh" not in names(region)
    assert not {"sin", "cos", "tanh"} & set(names(region))
    assert {"exp", "log"} <= set(names(region))


def test_captures_of_choices_and_calls():
    g = Builder()
    x, y, z = (g.input(NUMBER) for _ in range(3))
    one, other = g.if_(g.less(x, y), lambda h: [h.sin(x), h.sin(z)], lambda h: [h.cos(y), h.cos(z)])
    f = Builder()
    a, b = f.input(NUMBER), f.input(NUMBER)
    called, _unused = g.call("f", [one, g.exp(other)], f.close([f.neg(a), f.tanh(b)]))
    region = pruned(g, called)
    choice = next(node for node in region.nodes if node.op.name == "if")
    assert len(choice.results) == 1
    assert len(choice.operands) == 3
    assert not {"exp", "tanh"} & set(names(region))


def test_nests_are_pruned_at_every_depth():
    g = Builder()
    x = g.input(array(F64, N))

    def body(h, _i, carried, _walked):
        def inner(p, j, inside, _w):
            c, d = inside
            return [p.add(c, p.index(x, j)), p.exp(d)]

        c, d = h.for_(h.number(N), [carried[0], carried[1]], inner)
        return [c, d]

    c, _d = g.for_(g.number(N), [real(g, 0.0), real(g, 1.0)], body)
    assert "exp" not in names(pruned(g, c))


def test_a_check_lives_wherever_it_stands():
    g = Builder()
    x = g.input(array(F64, N))

    def point(h, i):
        v = h.index(x, i)
        h.apply(OPS["check"](), h.less(real(h, 0.0), v))
        return h.exp(v)

    g.map([N], point)
    region = pruned(g, g.number(N))
    assert "check" in names(region)
    assert "exp" not in names(region)
    assert "check" not in names(remove_dead_code(without_checks(region)))


def test_a_loop_with_only_a_check_keeps_its_carries_for_it():
    g = Builder()
    start = g.input(Array(I64))

    def body(h, _i, carried, _walked):
        h.apply(OPS["check"](), h.less(carried[0], h.constant(9, I64)))
        return [h.add(carried[0], h.constant(1, I64)), h.mul(carried[1], carried[1])]

    count = g.number(size(3))
    g.for_(count, [start, start], body)
    region = pruned(g, count)
    assert region.nodes[-1].op.carries == 1
