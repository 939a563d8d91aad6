"""Training data: npz, csv and idx files, what fits the program and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.train import train_program


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch):
    """Pictures take longer than these runs."""
    monkeypatch.setattr("dgraph.train.start.draw_run", lambda *_: None)


SUMS = """
record Sums:
    total: f64 = 0.0

param sums: Sums

@train(optimiser=sgd(rate=0.0), batch=4, epochs=1, test=TEST)
def loss[n](FORMALS) -> f64:
    return sums.total + VALUE
"""


def trained(data: Path, formals: str, value: str, test: str = "0", settings: tuple[str, ...] = ()) -> dict:
    text = SUMS.replace("FORMALS", formals).replace("VALUE", value).replace("TEST", test)
    text = text if "[n" in formals else text.replace("loss[n]", "loss")
    out = (data if data.is_dir() else data.parent).parent / "run"
    return train_program(dg.parse(text), data=data, settings=settings, out=out, quiet=True)


def fault(data: Path, formals: str, value: str = "0.0", test: str = "0") -> str:
    with pytest.raises(dg.DgraphError) as caught:
        trained(data, formals, value, test)
    assert not (data.parent / "run").exists()
    return str(caught.value)


# ---- csv ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "in" / "table.csv"
        path.parent.mkdir()
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_csv_columns_take_the_declared_types(csv):
    path = csv('\ufeffname, x,"kind",good,unread\nann,1.5,3,true,?\n\n"b, o",-2e0,4.0,0,\nc,nan,-1,1,-\n')
    formals = "x: f64[n], kind: i32[n], good: bool[n]"
    value = "mean(0.0 if isnan(x[i]) else x[i] for i) + mean(1.0 * kind[i] for i) + mean(good[i] for i)"
    assert trained(path, formals, value)["final"]["loss"] == pytest.approx((1.5 - 2) / 3 + 6 / 3 + 2 / 3)


@pytest.mark.parametrize(
    ("text", "formals", "words"),
    [
        ("x,y\n1,2\n3,four\n", "y: f64[n]", ["line 3", "`y`", "`four` is no f64", "table.csv:3:3", "^^^^"]),
        ("x,y\n1,2\n3,\n", "y: f64[n]", ["line 3", "nothing is no f64"]),
        ("x,y\n1,2\n3,2.5\n", "y: i32[n]", ["`2.5` is no i32", "table.csv:3:3"]),
        ("x,y\n1,2\n3,300\n", "y: u8[n]", ["`300` is no u8"]),
        ("x,y\n1,2\n3,1_0\n", "y: f64[n]", ["`1_0` is no f64"]),
        ("x,y\n1,yes\n", "y: bool[n]", ["`yes` is no bool"]),
        ("x,y\n1,2,3\n", "y: f64[n]", ["line 2", "3 cells", "names 2"]),
        ("1,2\n3,4\n", "y: f64[n]", ["column name belongs", "line of names first"]),
        ("x,x\n3,4\n", "x: f64[n]", ["the name `x` again"]),
        ("x,\n3,4\n", "x: f64[n]", ["column 2", "no name"]),
        ("x;y\n3;4\n", "x: f64[n]", ["not separated by commas"]),
        ("x,y\n", "x: f64[n]", ["no rows"]),
        ("", "x: f64[n]", ["is empty"]),
        ("x,y\n1,2\n", "z: f64[n]", ["no column `z`", "`x`, `y`"]),
        ("x,y\n1,2\n", "x: f64[n, 2]", ["2 axes", "numpy.savez"]),
        ('x,y\n1,"2\n', "x: f64[n]", ["cannot be read"]),
        (b"x,y\n1,\xff\n", "x: f64[n]", ["not UTF-8", "0xff"]),
    ],
)
def test_faults_of_csv_files_show_the_place(csv, text: str | bytes, formals: str, words: list[str]):
    said = fault(csv(text), formals)
    for word in words:
        assert word in said, said


# ---- idx ------------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    code = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}[array.dtype.name]
    head = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def digits(folder: Path, *, test: bool = True, packed: bool = True) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    folder.mkdir()
    out = {}
    for part, rows in (("train", 10), ("t10k", 6)):
        out[part] = random.integers(0, 256, (rows, 28, 28), np.uint8)
        labels = random.integers(0, 10, rows).astype(np.uint8)
        if part == "t10k" and not test:
            continue
        for name, array in (("images-idx3", out[part]), ("labels-idx1", labels)):
            content = idx(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return out


IMAGE = "image: u8[n, 28, 28]"
PIXELS = "mean(f64(image[i, r, c]) for i, r, c)"


@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_of_idx_files_is_split_as_it_says(tmp_path: Path, packed: bool):
    images = digits(tmp_path / "mnist", packed=packed)
    text = f"{IMAGE}, label: i32[n]"
    found = trained(tmp_path / "mnist", text, PIXELS, test="0.5")
    assert found["rows"] == {"train": 10, "validation": 0, "test": 6}
    assert found["final"]["loss"] == pytest.approx(images["train"].mean(), rel=1e-6)


def test_without_test_files_the_fraction_holds(tmp_path: Path):
    digits(tmp_path / "mnist", test=False)
    found = trained(tmp_path / "mnist", IMAGE, PIXELS, test="0.3")
    assert found["rows"] == {"train": 7, "validation": 0, "test": 3}


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "float32", "float64"])
def test_idx_files_hold_other_numbers_too(tmp_path: Path, dtype: str):
    from dgraph.train.idx import read_idx

    array = np.array([[1, -2, 3], [4, 5, -6]], dtype)
    path = tmp_path / "x"
    path.write_bytes(idx(array))
    found = read_idx(path)
    assert found.dtype == dtype and found.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot read"),
        (lambda path: path.write_bytes(b"no gzip at all"), "cannot read"),
        (lambda path: path.write_bytes(gzip.compress(b"\0\0\7\1\0\0\0\0")), "no idx file"),
        (lambda path: path.write_bytes(gzip.compress(b"\0\0")), "no idx file"),
        (lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-5])), "asks for"),
        (lambda path: path.unlink(), "no column `image`"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, change, words: str):
    digits(tmp_path / "mnist")
    change(tmp_path / "mnist" / "train-images-idx3-ubyte.gz")
    assert words in fault(tmp_path / "mnist", IMAGE)


def test_folders_without_idx_files_are_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "train-images-idx3-ubyte" in fault(tmp_path / "empty", IMAGE)


# ---- npz and what fits ----------------------------------------------------------------------------------------------


@pytest.fixture
def npz(tmp_path: Path):
    def write(**columns: np.ndarray) -> Path:
        path = tmp_path / "in" / "data.npz"
        path.parent.mkdir()
        np.savez(path, **columns)
        return path

    return write


def test_integers_change_their_width_where_no_value_changes(npz):
    path = npz(label=np.array([3, -1, 4], np.int64), bright=np.array([0, 255, 1], np.int16))
    value = "mean(1.0 * label[i] for i) + mean(1.0 * bright[i] for i)"
    found = trained(path, "label: i32[n], bright: u8[n]", value)
    assert found["final"]["loss"] == pytest.approx((6 + 256) / 3)


@pytest.mark.parametrize(
    ("column", "formals", "words"),
    [
        (np.zeros(4, np.float32), "x: f64[n]", ["f32", "astype(numpy.float64)"]),
        (np.zeros(4), "x: f32[n]", ["f64", "astype(numpy.float32)"]),
        (np.zeros((4, 2), np.uint8), "x: f64[n, 2]", ["declare `x: u8[n, 2]`", "`f64(x)`"]),
        (np.zeros(4), "x: i32[n]", ["f64", "i32[n] is declared"]),
        (np.array([1, 2**40]), "x: i32[n]", ["1099511627776", "cannot hold"]),
        (np.zeros((4, 3)), "x: f64[n, 2]", ["f64[n, 3]", "f64[n, 2] is declared", "reshape"]),
        (np.zeros((4, 2, 2)), "x: f64[n, 4]", ["f64[n, 2, 2]", "reshape"]),
        (np.array(["a", "b"]), "x: f64[n]", ["<U1"]),
        (np.zeros(0), "x: f64[n]", ["no rows"]),
        (np.zeros(4), "x: f64", ["cannot be a column"]),
        (np.zeros(4), "x: f64[3]", ["3 rows in every step", "batch=4"]),
        (np.zeros(4), "", ["no function asks"]),
    ],
)
def test_columns_that_do_not_fit_are_refused(npz, column: np.ndarray, formals: str, words: list[str]):
    said = fault(npz(x=column), formals)
    for word in words:
        assert word in said, said


def test_columns_of_different_lengths_are_refused(npz):
    assert "differ in length: `x` 4, `y` 5" in fault(npz(x=np.zeros(4), y=np.zeros(5)), "x: f64[n], y: f64[n]")


@pytest.mark.parametrize("name", ["data.txt", "data.npy", "absent.npz", "data"])
def test_other_files_are_refused(tmp_path: Path, name: str):
    if name != "absent.npz":
        (tmp_path / name).write_text("x\n1\n")
    said = fault(tmp_path / name, "x: f64[n]")
    assert ".npz" in said and ".csv" in said and "idx" in said


def test_arrays_are_data_from_python(tmp_path: Path):
    text = SUMS.replace("FORMALS", "x: f64[n]").replace("VALUE", "mean(x)").replace("TEST", "0")
    found = train_program(dg.parse(text), data={"x": [1.0, 2.0, 6.0]}, out=tmp_path / "run", quiet=True)
    assert found["final"]["loss"] == pytest.approx(3)


def test_a_dtype_left_open_is_that_of_the_data(npz, tmp_path: Path):
    text = """
param w: f32[1] = zeros()

@train(optimiser=sgd(rate=0.1), epochs=2, test=0)
def loss[n, L: int](x: f32[n], label: L[n]) -> f32 = mean((w[0] * x[i] - f32(label[i])) ** 2 for i)
"""
    path = npz(x=np.ones(4, np.float32), label=np.full(4, 3, np.uint8))
    train_program(program := dg.parse(text), data=path, out=tmp_path / "run", quiet=True)
    # Two steps on (w - 3) ** 2 from 0 with rate 0.1.
    assert program.params["w"][0] == pytest.approx(3 - 3 * 0.8**2, rel=1e-5)


def test_a_fixed_leading_size_is_the_batch(npz, tmp_path: Path):
    text = """
param w: f64[1] = zeros()

@train(optimiser=sgd(rate=1.0), epochs=1, test=0, shuffle=False)
def loss(x: f64[4]) -> f64 = w[0] * sum(x)
"""
    path = npz(x=np.arange(11.0))
    train_program(program := dg.parse(text), data=path, out=tmp_path / "run", quiet=True)
    assert program.params["w"][0] == -sum(range(8))
