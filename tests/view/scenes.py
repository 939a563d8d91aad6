"""Scenes made by hand, for the tests of layout and painters."""

from dgraph.view.scene import Edge, RegionBox, Scene, SceneNode


def loop_with_branch() -> Scene:
    """A loop that carries a sum and holds a branch, then a scope; values and adjoints on some nodes."""
    return Scene(
        "f(w, x)",
        regions=(
            RegionBox("loop", "for", "for i in 0..n, carry s", span="model.dg:4"),
            RegionBox("if", "if", "if", "loop"),
            RegionBox("then", "branch", "then", "if"),
            RegionBox("else", "branch", "else", "if"),
            RegionBox("head", "scope", "head"),
        ),
        nodes=(
            SceneNode("w", "input", "w", "f32[n, 3]", family="input", value="[4, 3] min 0 mean 1 max 2 norm 3"),
            SceneNode("x", "input", "x", "f32[3]", family="input", value="[1, 2, 3]"),
            SceneNode("i", "index", "i", "i64", "loop", "input", value="3"),
            SceneNode("s", "carry", "s, first 0.0", "f32", "loop", "control", value="not run"),
            SceneNode("less", "less", "less(·, 2)", "bool", "loop", value="false"),
            SceneNode("ask", "if", "?", "", "if", "control", shape="diamond"),
            SceneNode("row", "index", "index", "f32[3]", "then", "index"),
            SceneNode("dot", "dot", "dot", "f32", "then", "linalg", "model.dg:6", value="6.5", adjoint="1.0"),
            SceneNode("neg", "neg", "neg", "f32", "else", adjoint="not run"),
            SceneNode("meet", "if", "r", "f32", "if", "control", shape="diamond"),
            SceneNode("add", "add", "add", "f32", "loop"),
            SceneNode("tanh", "tanh", "tanh", "f32", "head", value="0.99", adjoint="0.25"),
            SceneNode("mul", "mul", "mul(·, 2.0)", "f32", "head"),
            SceneNode("out", "output", "result", "f32", family="output"),
        ),
        edges=(
            Edge("i", "less", label="i64"),
            Edge("less", "ask", label="bool"),
            Edge("ask", "then", "control"),
            Edge("ask", "else", "control"),
            Edge("w", "row", label="f32[n, 3]"),
            Edge("i", "row", label="i64"),
            Edge("row", "dot", label="f32[3]"),
            Edge("x", "dot", label="f32[3]"),
            Edge("s", "neg", label="f32"),
            Edge("dot", "meet", label="f32"),
            Edge("neg", "meet", label="f32"),
            Edge("meet", "add", label="f32"),
            Edge("s", "add", label="f32"),
            Edge("add", "s", "carry", "f32"),
            Edge("add", "tanh", label="f32"),
            Edge("tanh", "mul", label="f32"),
            Edge("x", "mul", label="f32[3]"),
            Edge("mul", "out", label="f32"),
        ),
        texts=("f[n](w: f32[n, 3], x: f32[3]) -> f32   model.dg:3",),
    )


def forward_and_adjoint(depth: int) -> Scene:
    """A chain of forward nodes, the chain of their adjoints back, and a saved value from each to its adjoint."""
    forward = [SceneNode(f"f{k}", "tanh", "tanh", "f32[n]", "layer" if k == 1 else "") for k in range(depth)]
    adjoint = [SceneNode(f"a{k}", "mul", "mul", "f32[n]", direction="adjoint") for k in range(depth)]
    edges = [Edge(f"f{k}", f"f{k + 1}") for k in range(depth - 1)]
    edges += [Edge(f"a{k + 1}", f"a{k}") for k in range(depth - 1)]
    edges += [Edge(f"f{k}", f"a{k}", "saved") for k in range(depth)]
    return Scene("chain", (RegionBox("layer", "scope", "layer"),), (*forward, *adjoint), tuple(edges))


def long_chain(nodes: int, per_scope: int) -> Scene:
    """Blocks of nodes in scopes, with links that skip."""
    count = nodes // per_scope
    return Scene(
        "long",
        tuple(RegionBox(f"r{k}", "scope", f"block {k}") for k in range(count)),
        tuple(SceneNode(f"n{k}", "mul", "mul", "f32[n]", f"r{k // per_scope}") for k in range(count * per_scope)),
        tuple(
            Edge(f"n{k - back}", f"n{k}")
            for k in range(1, count * per_scope)
            for back in ((1,) if k % 3 else (1, 7))
            if k >= back
        ),
    )


HOSTILE = (
    '<script>alert("x")</script>',
    "two\nlines\tand \"quotes\" & 'more' \\n \\L",
    "]]> --> <!-- %s {0} | <t0> $x_1$ \\frac",
    "null \x00 bell \x07 lone \ud800 end",
    "x" * 5000,
    "v̄ 漢字 ∂loss/∂w 🙂",
    "",
)


def hostile() -> Scene:
    """Every text that a user could choose, chosen badly."""
    bad = HOSTILE
    return Scene(
        bad[0],
        tuple(RegionBox(f"r{k}", "function", text, span=text) for k, text in enumerate(bad)),
        tuple(
            SceneNode(f"n{k}", text, text, text, f"r{k}", span=text, value=text, adjoint=text)
            for k, text in enumerate(bad)
        ),
        tuple(Edge(f"n{k}", f"n{k + 1}", label=text) for k, text in enumerate(bad[:-1])),
        bad,
    )
