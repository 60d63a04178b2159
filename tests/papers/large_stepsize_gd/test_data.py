"""Real data: the certified margin against closed forms and other solvers, and every way in which a file can be bad."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.svm import SVC

from theorysim.errors import InputError
from theorysim.papers.large_stepsize_gd.data import (
    Dataset,
    certified_margin,
    digits,
    load_npz,
    parse_data,
    rescale_to_unit_ball,
)

XOR = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]]) / np.sqrt(2), np.array([1.0, 1, -1, -1])
FIVE = (
    np.array([[0.05, 1, 2], [0.05, -2, 1], [-1, 0, 2], [0.05, -2, -2], [0.05, 1, -2]]),
    np.array([1.0, 1, -1, 1, 1]),
)

# --- margin -----------------------------------------------------------------------------------------------------------


def planted(seed: int, n: int, d: int, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Separable with margin at least gamma along a random direction."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=d)
    w /= np.linalg.norm(w)
    V = rng.normal(size=(n, d))
    V -= np.outer(V @ w, w)
    V /= np.linalg.norm(V, axis=1)[:, None]
    mu = gamma + rng.random(n) * (1 - gamma)
    mu[0] = gamma
    y = rng.choice([-1.0, 1.0], n)
    return y[:, None] * mu[:, None] * w + (rng.random(n) * np.sqrt(1 - mu**2))[:, None] * V, y


@pytest.mark.parametrize(
    ("X", "y", "gamma", "direction"),
    [
        (np.array([[0.1, 0.9], [0.1, -0.5]]), np.ones(2), 0.1, [1, 0]),
        (*FIVE, 0.05, [1, 0, 0]),
        (np.array([[0.6, 0.8]]), np.array([-1.0]), 1.0, [-0.6, -0.8]),
        (np.array([[3.0, 0], [0, 3.0]]), np.ones(2), 3 / np.sqrt(2), [np.sqrt(0.5), np.sqrt(0.5)]),
    ],
)
def test_margin_closed_forms(X, y, gamma, direction):
    margin = certified_margin(X, y)
    assert margin.lower <= gamma <= margin.upper  # certified: rounding is inside the bounds
    assert margin.upper - margin.lower < 1e-10 * gamma
    np.testing.assert_allclose(margin.direction, direction, atol=1e-10)
    assert margin.separable


@pytest.mark.parametrize(("n", "d"), [(6, 2), (12, 5), (8, 20)])
def test_margin_agrees_with_slsqp(n, d):
    for seed in range(3):
        X, y = planted(seed, n, d, 0.1)
        Z = y[:, None] * X
        start = Z.sum(axis=0) * 10
        qp = minimize(
            lambda w: w @ w / 2,
            start,
            jac=lambda w: w,
            constraints={"type": "ineq", "fun": lambda w, Z=Z: Z @ w - 1, "jac": lambda w, Z=Z: Z},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        margin = certified_margin(X, y)
        assert margin.upper - margin.lower < 1e-8 * margin.upper
        assert np.isclose(1 / np.linalg.norm(qp.x), margin.lower, rtol=1e-6)  # SLSQP's own accuracy


def test_margin_agrees_with_a_support_vector_machine():
    """SVC fits an intercept; on data with every sample and its mirror image (-x, -y) the best intercept is zero."""
    X, y = planted(3, 60, 8, 0.05)
    svc = SVC(kernel="linear", C=1e8, tol=1e-10).fit(np.r_[X, -X], np.r_[y, -y])
    margin = certified_margin(X, y)
    assert abs(svc.intercept_[0]) < 1e-6 * np.linalg.norm(svc.coef_)
    assert np.isclose(1 / np.linalg.norm(svc.coef_), margin.lower, rtol=1e-5)
    np.testing.assert_allclose(svc.coef_[0] / np.linalg.norm(svc.coef_), margin.direction, atol=1e-4)


@pytest.mark.parametrize("gamma", [0.3, 1e-2, 1e-4])
def test_planted_margin_is_found_and_closed(gamma):
    X, y = planted(1, 400, 10, gamma)
    margin = certified_margin(X, y)
    assert margin.upper >= gamma
    assert margin.upper - margin.lower < 1e-8 * margin.upper
    assert np.isclose(np.linalg.norm(margin.direction), 1, rtol=1e-14)
    assert np.min(y * (X @ margin.direction)) >= margin.lower


@pytest.mark.parametrize(
    ("X", "y"),
    [
        XOR,
        (np.array([[0.1, 0.9], [0.1, -0.5], [0.1, 0.9]]), np.array([1.0, 1, -1])),  # a sample with both labels
        (np.array([[1.0, 0], [0, 0]]), np.ones(2)),  # a zero row
        (np.zeros((3, 2)), np.ones(3)),
        (np.random.default_rng(0).normal(size=(500, 20)), np.random.default_rng(1).choice([-1.0, 1.0], 500)),
    ],
)
def test_data_that_are_not_separable(X, y):
    margin = certified_margin(X, y)
    assert margin.lower == 0
    assert not margin.separable
    assert margin.upper <= 1e-7 * max(1, np.abs(X).max())
    assert np.isclose(np.linalg.norm(margin.direction), 1)


def test_flipping_one_label_of_two_points_stays_separable():
    assert certified_margin(np.array([[0.1, 0.9], [0.1, -0.5]]), np.array([1.0, -1])).separable


def test_margin_does_not_depend_on_the_scale():
    X, y = planted(5, 30, 4, 0.1)
    one = certified_margin(X, y)
    for factor in (1e-200, 1e6, 1e200):
        assert np.isclose(certified_margin(factor * X, y).lower / factor, one.lower, rtol=1e-9)


def test_margin_wide_data():
    rng = np.random.default_rng(0)
    margin = certified_margin(rng.normal(size=(50, 200)), rng.choice([-1.0, 1.0], 50))
    assert margin.separable
    assert margin.upper - margin.lower < 1e-9 * margin.upper


@pytest.mark.parametrize(
    ("X", "y"), [(np.ones(3), np.ones(3)), (np.ones((2, 2)), np.ones(3)), (np.array([[np.nan]]), np.ones(1))]
)
def test_margin_rejects(X, y):
    with pytest.raises((InputError, TypeError)):  # the shape checks of the test run come first
        certified_margin(X, y)


# --- data sets --------------------------------------------------------------------------------------------------------


def test_digits():
    data = digits()
    assert data.X.shape == (357, 64)
    assert data.labels == ("3", "8")
    assert (np.sum(data.y == -1), np.sum(data.y == 1)) == (183, 174)
    assert 1 - 1e-14 < np.linalg.norm(data.X, axis=1).max() <= 1
    pixels = data.X * data.scale
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-12)
    margin = certified_margin(data.X, data.y)
    assert margin.upper - margin.lower < 1e-8 * margin.upper
    assert np.isclose(margin.lower, 0.0450830921, rtol=1e-8)  # regression value; certified by its own upper bound


def test_parse_data(tmp_path):
    assert parse_data("digits").name == "digits-3-8"
    assert parse_data("digits:7,1").name == "digits-1-7"
    X, y = planted(0, 5, 3, 0.1)
    path = tmp_path / "mine.npz"
    np.savez(path, X=X, y=np.where(y > 0, 7, 2))
    data = parse_data(str(path))
    assert (data.name, data.labels) == ("mine", ("2", "7"))
    np.testing.assert_array_equal(data.y, y)
    np.testing.assert_array_equal(data.X, X)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "bool", "longdouble", ">f8"])
def test_real_dtypes_are_read(tmp_path, dtype):
    np.savez(tmp_path / "a.npz", X=np.eye(2).astype(dtype), y=np.array([0, 1]).astype(dtype))
    data = load_npz(tmp_path / "a.npz")
    assert data.X.dtype == np.float64
    np.testing.assert_array_equal(data.y, [-1, 1])


def test_rescale(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([[3, 4], [0, 1]]), y=np.array([0, 1]))
    data = load_npz(tmp_path / "a.npz", rescale=True)
    assert np.isclose(data.scale, 5)
    assert np.linalg.norm(data.X, axis=1).max() <= 1
    np.testing.assert_allclose(data.X * data.scale, [[3, 4], [0, 1]], rtol=1e-15)
    again = rescale_to_unit_ball(Dataset("x", 2 * data.X, data.y, scale=data.scale / 2))
    assert np.isclose(again.scale, 5)
    np.savez(tmp_path / "b.npz", X=np.array([[1.0, 0], [0, 1 + 1e-13]]), y=np.array([0, 1]))
    assert load_npz(tmp_path / "b.npz").scale == 1  # rounding is no reason to refuse
    np.savez(tmp_path / "c.npz", X=np.array([[1e200, 0], [0, 1.0]]), y=np.array([0, 1]))
    assert load_npz(tmp_path / "c.npz", rescale=True).X[0, 0] <= 1  # no overflow in the norms


GOOD = {"X": np.eye(3), "y": np.array([0, 1, 1])}


def with_value(value: float) -> np.ndarray:
    X = np.eye(3)
    X[1, 2] = X[2, 0] = value
    return X


BAD_ARRAYS = {
    "no X": ({"y": GOOD["y"]}, "must hold arrays X and y, got y"),
    "no y": ({"X": GOOD["X"]}, "must hold arrays X and y, got X"),
    "lower-case x": ({"x": GOOD["X"], "y": GOOD["y"]}, "got x, y"),
    "no arrays": ({}, "got none"),
    "NaN": (GOOD | {"X": with_value(np.nan)}, r"got 2 NaN or infinite values, the first at index \(1, 2\)"),
    "infinity": (GOOD | {"X": with_value(-np.inf)}, "2 NaN or infinite"),
    "NaN label": (GOOD | {"y": np.array([0, np.nan, 1])}, "1 NaN or infinite values, the first at index 1"),
    "overflow of a wide dtype": (
        GOOD | {"X": with_value(1.0).astype(np.longdouble) * np.longdouble(2) ** 1030},
        "9 NaN|4 NaN|5 NaN",
    ),
    "X is a vector": (GOOD | {"X": np.ones(3)}, r"must have shape \(n, d\), got \(3,\)"),
    "X is a stack of images": (GOOD | {"X": np.ones((3, 2, 2))}, r"got \(3, 2, 2\)"),
    "X is a number": (GOOD | {"X": np.array(1.0)}, r"got \(\)"),
    "y is a column": (GOOD | {"y": np.ones((3, 1))}, r"must have shape \(3,\) to match X \(3, 3\), got \(3, 1\)"),
    "y is too short": (GOOD | {"y": np.array([0, 1])}, r"got \(2,\)"),
    "no samples": ({"X": np.ones((0, 3)), "y": np.ones(0)}, "must not be empty"),
    "no features": ({"X": np.ones((3, 0)), "y": GOOD["y"]}, "must not be empty"),
    "X is text": (GOOD | {"X": np.array([["a"], ["b"], ["c"]])}, "must hold real numbers, got dtype <U1"),
    "y is text": (GOOD | {"y": np.array(["a", "b", "b"])}, "must hold real numbers"),
    "X is complex": (GOOD | {"X": np.eye(3) * 1j}, "got dtype complex128"),
    "y is a date": (GOOD | {"y": np.array(["2024-01-01"] * 3, dtype="datetime64[D]")}, "real numbers"),
    "X is structured": (GOOD | {"X": np.zeros(3, dtype=[("a", float)])}, "real numbers"),
    "X is an object": (GOOD | {"X": np.array([[1.0, None]] * 3, dtype=object)}, "pickled"),
    "y is an object": (GOOD | {"y": np.array([0, 1, 1], dtype=object)}, "pickled"),
    "one label": (GOOD | {"y": np.ones(3)}, "exactly two distinct labels, got 1: 1.0"),
    "three labels": (GOOD | {"y": np.arange(3)}, "exactly two distinct labels, got 3: 0, 1, 2"),
    "regression targets": (
        {"X": np.eye(9), "y": np.linspace(0, 1, 9)},
        r"got 9: 0.0, 0.125, 0.25, 0.375, 0.5, \.\.\.",
    ),
    "outside the unit ball": (
        GOOD | {"X": np.array([[1, 0], [3, 4], [0, 0]])},
        r"largest norm 5 \(row 1\); --rescale \(rescale_to_unit_ball\)",
    ),
    "pixels": (GOOD | {"X": np.full((3, 4), 255, dtype=np.uint8)}, "largest norm 510"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(tmp_path, case):
    arrays, message = BAD_ARRAYS[case]
    if case.startswith("overflow") and np.finfo(np.longdouble).maxexp < 2000:
        pytest.skip("no dtype wider than float64 here")
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=message) as error:
        load_npz(tmp_path / "bad.npz")
    assert "\n" not in str(error.value)


def truncated(path: Path) -> None:
    np.savez(path, X=np.random.default_rng(0).normal(size=(100, 100)), y=np.arange(100) % 2)
    path.write_bytes(path.read_bytes()[:-2000])


def corrupted(path: Path) -> None:
    np.savez(path, **GOOD)
    content = bytearray(path.read_bytes())
    content[180] ^= 0xFF  # inside the data of X: the checksum no longer fits
    path.write_bytes(bytes(content))


def raw_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X", b"1 2 3")
        archive.writestr("y", b"0 1 1")


def broken_header(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00v\x00{'descr': nonsense" + b" " * 100)
        archive.writestr("y.npy", b"\x93NUMPY\x01\x00v\x00{'descr': nonsense" + b" " * 100)


BAD_FILES = {
    "missing": (lambda path: None, "does not exist"),
    "directory": (lambda path: path.mkdir(), "got a directory"),
    "empty": (lambda path: path.write_bytes(b""), "must be an .npz file"),
    "text": (lambda path: path.write_text("1,2,3\n"), "must be an .npz file"),
    "npy": (lambda path: np.save(path.open("wb"), np.eye(3)), "must be an .npz file"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(GOOD)), "must be an .npz file"),
    "truncated": (truncated, "must be an .npz file"),
    "corrupted": (corrupted, "cannot be read as .npz"),
    "zip of something else": (
        lambda path: zipfile.ZipFile(path, "w").writestr("readme.txt", "hello"),
        "must hold arrays",
    ),
    "raw members": (raw_member, "got raw bytes"),
    "broken header": (broken_header, "cannot be read as .npz"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, case):
    write, message = BAD_FILES[case]
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(InputError, match=message) as error:
        load_npz(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits:", "named as digits:3,8"),
        ("digits:3", "named as digits:3,8"),
        ("digits:3,8,9", "named as digits:3,8"),
        ("digits:three,8", "named as digits:3,8"),
        ("digits:-3,8", "named as digits:3,8"),
        ("digits:3,12", "must lie in 0..9, got 12"),
        ("digits:3,3", "must differ"),
        ("mnist", "must be digits, digits:3,8 or the path of an .npz file, got 'mnist'"),
        ("data.csv", "path of an .npz file"),
        ("", "path of an .npz file"),
        ("nowhere.npz", "does not exist"),
    ],
)
def test_bad_names(text, message):
    with pytest.raises(InputError, match=message):
        parse_data(text)


def test_dataset_validates():
    for X, y in ((np.ones(3), np.ones(3)), (np.ones((2, 2)), np.ones(3)), (np.ones((2, 2)), np.array([0, 1]))):
        with pytest.raises((InputError, TypeError)):  # the shape checks of the test run come first
            Dataset("bad", X, y)
    with pytest.raises(InputError, match="all zero"):
        rescale_to_unit_ball(Dataset("zero", np.zeros((2, 2)), np.array([1, -1])))
