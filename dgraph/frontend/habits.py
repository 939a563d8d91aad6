"""Words that readers bring from Python and NumPy, each with what is written here instead."""

NAMES = {
    **dict.fromkeys(("float", "double", "real", "Float"), "the types of floats are `f32` and `f64`"),
    **dict.fromkeys(("int", "integer", "long", "Int"), "the types of integers are `i32`, `i64` and `u8`"),
    "float16": "write `f16`",
    "float32": "write `f32`",
    "float64": "write `f64`",
    "int32": "write `i32`",
    "int64": "write `i64`",
    "uint8": "write `u8`",
    "boolean": "write `bool`",
    "str": "strings stand in annotations and in messages of `assert` only",
    **dict.fromkeys(
        ("array", "ndarray", "Array", "NDArray", "Tensor", "tensor", "vector", "matrix"),
        "an array is written `[a, b]`, its type `f64[n, m]`",
    ),
    **dict.fromkeys(("List", "list"), "an array is written `[a, b]`, its type `f64[n, m]`"),
    **dict.fromkeys(("Tuple", "tuple"), "a tuple is written `(a, b)`, its type `(f64, i32)`"),
    **dict.fromkeys(("dict", "Dict", "object", "Any"), "parts with names make a record: `record R:` with `name: type`"),
    **dict.fromkeys(("Callable", "function"), "the type of a function is written `fn(f64) -> f64`"),
    "Optional": "a formal that may be left out has a default: `rate: f64 = 0.1`",
    **dict.fromkeys(
        ("np", "numpy", "jnp", "jax", "torch", "tf", "keras", "nn", "F"),
        "functions need no prefix: write `exp(x)`, `sum(x)`",
    ),
    "true": "write `True`",
    "false": "write `False`",
    **dict.fromkeys(("None", "null", "nil", "NULL"), "every name has a value; a missing number may be `nan`"),
    **dict.fromkeys(("self", "this"), "a function takes what it needs as formals"),
    "print": "return the value: a program only computes",
    "ln": "write `log`",
    "log10": "write `log(x) / log(10)`",
    "log2": "write `log(x) / log(2)`",
    **dict.fromkeys(("pow", "power"), "write `x ** n`"),
    "square": "write `x ** 2`",
    **dict.fromkeys(("matmul", "mm", "bmm"), "write `a @ b`"),
    "einsum": "write the formula: `c[i, k] = sum(a[i, j] * b[j, k] for j)`",
    "outer": "write the formula: `c[i, j] = a[i] * b[j]`",
    **dict.fromkeys(("average", "avg"), "write `mean`"),
    "product": "write `prod`",
    "logistic": "write `sigmoid`",
    **dict.fromkeys(("absolute", "fabs"), "write `abs`"),
    **dict.fromkeys(("arcsin", "arccos", "arctan", "arctan2"), "write `asin`, `acos`, `atan`, `atan2`"),
    "heaviside": "write `1.0 if x > 0 else 0.0`",
    "linspace": "write `[a + (b - a) * i / (n - 1) for i in range(n)]`",
    **dict.fromkeys(("shape", "size", "numel"), "sizes have names: `def f[n](x: f64[n])`; `len(x)` is the first"),
    **dict.fromkeys(("random", "rand", "randn", "rng"), "draw with a key: `z: f64[n] = normal(key)`"),
    **dict.fromkeys(("zeros_init", "Parameter", "Variable"), "`param name: type` declares what is trained"),
    "identity": "write `eye`",
    "inverse": "write `inv`",
    "map": "write `[f(x[i]) for i]`, or `vmap(f)(x)`",
    "filter": "reduce with a guard: `sum(x[i] for i if x[i] > 0)`",
    "reversed": "write `flip(x)`, or `range(n - 1, -1, -1)`",
    "sorted": "write `sort`",
    "isinf": "write `not isfinite(x)`",
}
"""What to write instead of a name that nothing defines."""

MEMBERS = {
    **dict.fromkeys(
        ("shape", "size", "ndim", "length"), "sizes have names: `def f[n](x: f64[n])`; `len(x)` is the first"
    ),
    **dict.fromkeys(("append", "extend"), "an array keeps its length: `concat(x, [v])` makes a longer one"),
    **dict.fromkeys(("copy", "item", "detach", "numpy", "tolist"), "leave it out: values never change"),
    **dict.fromkeys(("astype", "to", "float", "double", "int", "long"), "write `f32(x)`, `f64(x)` or `i32(x)`"),
    **dict.fromkeys(("dtype", "device"), "the type of every formal is written at the `def`"),
    **dict.fromkeys(("flatten", "ravel", "view"), "write `reshape(x, (n * m,))`"),
    **dict.fromkeys(("t", "mT"), "write `.T`"),
    **dict.fromkeys(("grad", "backward"), "write `grad(f)(x)`: derivatives are taken of functions"),
    **dict.fromkeys(("matmul", "mm"), "write `a @ b`"),
    **dict.fromkeys(("pow", "square"), "write `x ** 2`"),
    **dict.fromkeys(("forward", "apply", "fit"), "functions stand beside records: `apply(m, x)`"),
}
"""What to write instead of a member that no value has."""

MODULES = ("numpy", "torch", "jax", "scipy", "tensorflow", "typing", "random", "sys", "os", "functools", "itertools")
"""Modules of Python that a program might ask for."""
