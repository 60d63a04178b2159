"""Real data for the theorems: two-class data from a file or from scikit-learn's handwritten digits, and their margin.

The theorems want rows in the unit ball and labels in {-1, +1}; the margin is certified from both sides by duality.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Shaped

from theorysim.errors import InputError, require

UNIT_BALL_SLACK = 1e-12
"""Rows may leave the unit ball by rounding."""

MARGIN_GAP = 1e-10
"""Relative gap of the two margin bounds at which the solver stops."""

MARGIN_ZERO = 1e-9
"""Relative to the largest norm; below, the solver does not tell a margin from none (float64 gives out near 1e-8)."""


@dataclass(frozen=True)
class Dataset:
    """Two-class data. Raises InputError unless X is a finite (n, d) matrix, n, d >= 1, and y holds n labels -1 or +1.

    name: for tables and file names.
    X: samples, stored as float64.
    y: labels in {-1.0, +1.0}, stored as float64.
    labels: the original labels of the classes -1 and +1.
    source: where the data come from, in words.
    scale: the original rows are `scale` times those of X.
    """

    name: str
    X: Shaped[np.ndarray, "n d"]
    y: Shaped[np.ndarray, " n"]
    labels: tuple[str, str] = ("-1", "1")
    source: str = ""
    scale: float = 1.0

    def __post_init__(self) -> None:
        X, y = np.asarray(self.X), np.asarray(self.y)
        require(X.ndim == 2 and X.size > 0, f"X must have shape (n, d) with n, d >= 1, got {X.shape}")
        require(y.shape == X.shape[:1], f"y must have shape ({X.shape[0]},) to match X {X.shape}, got {y.shape}")
        _require_finite("X", X)
        require(set(np.unique(y).tolist()) <= {-1, 1}, f"labels y must be -1 or +1, got {_some(np.unique(y))}")
        object.__setattr__(self, "X", X.astype(np.float64))
        object.__setattr__(self, "y", y.astype(np.float64))


def load_npz(path: str | Path, *, rescale: bool = False) -> Dataset:
    """Data from an .npz file with arrays X (n, d) and y (n,), real numbers, with exactly two distinct labels.

    The smaller label becomes -1, the larger +1. Rows must lie in the unit ball; with `rescale`, all are divided by the
    largest norm (`rescale_to_unit_ball`). Raises InputError for anything else: a missing or unreadable file, missing
    keys, pickled or non-numeric content, wrong shapes, no data, NaN or infinity, other than two labels, rows too long.
    """
    path = Path(path)
    arrays = _read_npz(path)
    X, y = arrays["X"], arrays["y"]
    require(X.ndim == 2, f"X in {path} must have shape (n, d), got {X.shape}")
    require(X.shape[0] > 0 and X.shape[1] > 0, f"X in {path} must not be empty, got shape {X.shape}")
    require(y.shape == X.shape[:1], f"y in {path} must have shape ({X.shape[0]},) to match X {X.shape}, got {y.shape}")
    with np.errstate(over="ignore"):  # a wider dtype may overflow to infinity, which is reported next
        X = X.astype(np.float64)
    _require_finite(f"X in {path}", X)
    _require_finite(f"y in {path}", y)
    values = np.unique(y)
    require(len(values) == 2, f"y in {path} must hold exactly two distinct labels, got {len(values)}: {_some(values)}")
    dataset = Dataset(
        name=path.stem,
        X=X,
        y=np.where(y == values[1], 1.0, -1.0),
        labels=(str(values[0]), str(values[1])),
        source=f"file {path.name}",
    )
    return _in_unit_ball(dataset, rescale)


def digits(first: int = 3, second: int = 8) -> Dataset:
    """Two classes of scikit-learn's bundled handwritten digits (8 x 8 pixels, d = 64), the smaller digit as -1.

    Rows are divided by the largest norm among them. Raises InputError unless the digits differ and lie in 0..9.
    """
    for digit in (first, second):
        require(digit in range(10), f"digits must lie in 0..9, got {digit}")
    require(first != second, f"the two digits must differ, got {first} twice")
    from sklearn.datasets import load_digits  # imported here: scikit-learn takes a second to import

    negative, positive = sorted((first, second))
    pixels, target = (np.asarray(part) for part in load_digits(return_X_y=True))
    chosen = (target == negative) | (target == positive)
    dataset = Dataset(
        name=f"digits-{negative}-{positive}",
        X=pixels[chosen],
        y=np.where(target[chosen] == positive, 1.0, -1.0),
        labels=(str(negative), str(positive)),
        source="scikit-learn handwritten digits",
    )
    return rescale_to_unit_ball(dataset)


def parse_data(text: str, rescale: bool = False) -> Dataset:
    """The data set named on a command line: `digits`, `digits:3,8`, or the path of an .npz file (see `load_npz`)."""
    head, colon, pair = text.partition(":")
    if head == "digits":
        if not colon:
            return digits()
        parts = pair.split(",")
        require(
            len(parts) == 2 and all(part.strip().isdecimal() for part in parts),
            f"digits must be named as digits:3,8, got {text!r}",
        )
        return digits(int(parts[0]), int(parts[1]))
    require(text.endswith(".npz"), f"data must be digits, digits:3,8 or the path of an .npz file, got {text!r}")
    return load_npz(text, rescale=rescale)


def rescale_to_unit_ball(dataset: Dataset) -> Dataset:
    """The data divided by the largest norm of a row, which becomes 1, never more; margins shrink alike."""
    largest, _ = _largest_norm(dataset.X)
    require(largest > 0, f"rows of {dataset.name} are all zero and cannot be rescaled")
    # a hair more than the norm, so that no recomputed norm exceeds 1
    scale = largest * (1 + 4 * np.finfo(np.float64).eps)
    require(bool(np.isfinite(scale)), f"largest norm of a row of {dataset.name} overflows, got {largest}")
    return replace(dataset, X=dataset.X / scale, scale=dataset.scale * scale)


class Margin(NamedTuple):
    """Maximum margin through the origin: max over the unit ball of min_i y_i <x_i, w>, zero if not separable.

    lower: min_i y_i <x_i, direction>, rounded down, or 0; the data are separable iff it is positive.
    upper: norm of a convex combination of the y_i x_i, rounded up.
    direction: unit vector, shape (d,).
    """

    lower: float
    upper: float
    direction: Float[np.ndarray, " d"]

    @property
    def separable(self) -> bool:
        """Certified: the direction has a positive margin on every sample."""
        return bool(self.lower > 0)


def certified_margin(X: Shaped[np.ndarray, "n d"], y: Shaped[np.ndarray, " n"]) -> Margin:
    """Bounds lower <= gamma <= upper on the maximum margin, with the direction that attains `lower`.

    Minimises ||sum_i lam_i y_i x_i|| over the simplex, whose value is gamma, by a primal-dual interior point method;
    both bounds hold whatever the solver did, up to a rounding allowance that they include. Stops at a relative gap of
    1e-10, or when gamma is certified to be below 1e-9 of the largest norm. Data that are not separable give lower = 0
    and an upper of at most 1e-7 of the largest norm. Work is O(n d min(n, d)) a step, some 20 steps. Raises InputError
    for shapes that do not fit or values not finite.
    """
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    require(X.ndim == 2 and X.size > 0, f"X must have shape (n, d) with n, d >= 1, got {X.shape}")
    require(y.shape == X.shape[:1], f"y must have shape ({X.shape[0]},) to match X {X.shape}, got {y.shape}")
    _require_finite("X", X)
    _require_finite("y", y)
    scale, _ = _largest_norm(X)
    if scale == 0:
        return Margin(0.0, 0.0, np.eye(X.shape[1])[0])
    Z = y[:, None] * (X / scale)
    if Z.shape[1] > Z.shape[0]:  # rotate into the span of the samples
        Q, R = np.linalg.qr(Z.T)
        direction, weights = _nearest_point(R.T)
        direction = Q @ direction
    else:
        direction, weights = _nearest_point(Z)
    # rounding of an inner product of length k is below k eps/2 times the norms; the factor 2 covers the normalisations
    n, d = Z.shape
    eps = np.finfo(np.float64).eps
    direction = direction / np.linalg.norm(direction)
    lower = float(np.min(Z @ direction)) - (d + 4) * eps
    upper = float(np.linalg.norm(weights @ Z)) / float(np.sum(weights)) * (1 + (n + 4) * eps) + (n + d + 4) * eps
    return Margin(max(lower, 0.0) * scale, upper * scale, direction)


def _nearest_point(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The point of the convex hull of the rows of Z (norms at most 1) nearest to the origin: (direction, weights).

    Interior point method (Mehrotra's predictor and corrector) for max rho - ||w||^2/2 subject to s = Z w - rho >= 0. At
    the optimum w = Z^T lam, sum(lam) = 1, lam s = 0, and rho = ||w||^2 = gamma^2. Both sides always have interior
    points, so data that are not separable are no special case: w tends to 0. Returns the best direction and weights
    met.
    """
    n, d = Z.shape
    lam = np.full(n, 1 / n)
    w = Z.T @ lam
    rho = float(np.min(Z @ w)) - 1.0
    s = Z @ w - rho
    best_lower, best_upper, direction, weights = -np.inf, np.inf, np.eye(d)[0], lam

    for _ in range(60):
        point = lam @ Z / np.sum(lam)
        upper = float(np.linalg.norm(point))
        if upper < best_upper:
            best_upper, weights = upper, lam
        for candidate in (w, point):
            length = float(np.linalg.norm(candidate))
            if length > 0 and (lower := float(np.min(Z @ candidate)) / length) > best_lower:
                best_lower, direction = lower, candidate
        if best_upper - best_lower <= MARGIN_GAP * best_upper or best_upper <= MARGIN_ZERO:
            break

        try:
            system = _linearise(Z, w, rho, s, lam)
        except np.linalg.LinAlgError:  # the end of float64: keep the best met
            break
        mu = float(lam @ s) / n
        _, _, ds, dlam = system.step(np.zeros(n))
        reach = _reach(s, ds), _reach(lam, dlam)
        predicted = float((lam + reach[1] * dlam) @ (s + reach[0] * ds)) / n
        centring = (predicted / mu) ** 3
        dw, drho, ds, dlam = system.step(centring * mu - dlam * ds)
        length = 0.995 * min(_reach(s, ds), _reach(lam, dlam))
        if not np.isfinite(length):
            break
        w, rho, s, lam = w + length * dw, rho + length * drho, s + length * ds, lam + length * dlam
    return direction, weights


class _Linearised(NamedTuple):
    """The optimality conditions w = Z^T lam, sum(lam) = 1, s = Z w - rho, lam s = target, linearised at an iterate.

    Eliminating s and lam leaves (I + Z^T diag(lam/s) Z) dw - drho Z^T (lam/s) = ..., then one equation for drho.
    """

    Z: np.ndarray
    s: np.ndarray
    lam: np.ndarray
    factor: tuple[np.ndarray, bool]
    pulled: np.ndarray
    solved: np.ndarray
    schur: float
    residual_w: np.ndarray
    residual_sum: float
    residual_s: np.ndarray

    def step(self, target: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
        """Newton's direction in (w, rho, s, lam)."""
        weight = self.lam / self.s
        base = target / self.s - self.lam - weight * self.residual_s
        particular = scipy.linalg.cho_solve(self.factor, base @ self.Z + self.residual_w, check_finite=False)
        drho = (self.residual_sum - float(np.sum(base)) + float(self.pulled @ particular)) / self.schur
        dw = particular + self.solved * drho
        ds = self.Z @ dw - drho + self.residual_s
        return dw, drho, ds, target / self.s - self.lam - weight * ds


def _linearise(Z: np.ndarray, w: np.ndarray, rho: float, s: np.ndarray, lam: np.ndarray) -> _Linearised:
    """Raises LinAlgError where rounding has made the system indefinite."""
    weight = lam / s
    root = Z * np.sqrt(weight)[:, None]
    matrix = root.T @ root
    matrix[np.diag_indices_from(matrix)] += 1.0
    factor = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    pulled = weight @ Z
    solved = scipy.linalg.cho_solve(factor, pulled, check_finite=False)
    schur = float(np.sum(weight)) - float(pulled @ solved)
    if not (np.isfinite(schur) and schur > 0):
        raise np.linalg.LinAlgError("Schur complement is not positive")
    return _Linearised(Z, s, lam, factor, pulled, solved, schur, lam @ Z - w, 1.0 - float(np.sum(lam)), Z @ w - rho - s)


def _reach(x: np.ndarray, step: np.ndarray) -> float:
    """Largest length in [0, 1] that keeps x + length * step nonnegative, for x > 0."""
    return 1 / max(1.0, float(np.max(-step / x)))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays X and y of an .npz file, of a real dtype."""
    require(path.exists(), f"data file {path} does not exist")
    require(path.is_file(), f"data file {path} must be an .npz file, got a directory")
    require(zipfile.is_zipfile(path), f"data file {path} must be an .npz file, got something else (no zip archive)")
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = sorted(archive.files)
            missing = [key for key in ("X", "y") if key not in found]
            require(not missing, f"data file {path} must hold arrays X and y, got {', '.join(found) or 'none'}")
            for key in ("X", "y"):
                arrays[key] = _read_array(archive, key, path)
    except InputError:
        raise
    except Exception as error:  # a damaged file can make the parser raise anything, down to a SyntaxError
        raise InputError(f"data file {path} cannot be read as .npz: {_first_line(error)}") from error
    return arrays


def _read_array(archive: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    try:
        array = archive[key]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise InputError(
            f"{key} in {path} must be a plain numeric array, got pickled objects, which are not read"
        ) from error
    require(isinstance(array, np.ndarray), f"{key} in {path} must be an array in .npy format, got raw bytes")
    require(array.dtype.kind in "biuf", f"{key} in {path} must hold real numbers, got dtype {array.dtype}")
    return array


def _in_unit_ball(dataset: Dataset, rescale: bool) -> Dataset:
    largest, row = _largest_norm(dataset.X)
    if largest <= 1 + UNIT_BALL_SLACK:
        return dataset
    if rescale:
        return rescale_to_unit_ball(dataset)
    raise InputError(
        f"rows of X in {dataset.source} must lie in the unit ball, got largest norm {largest:.6g} (row {row}); "
        "--rescale (rescale_to_unit_ball) divides all rows by it"
    )


def _largest_norm(X: np.ndarray) -> tuple[float, int]:
    """Largest Euclidean norm of a row, without intermediate overflow, and its row."""
    size = float(np.max(np.abs(X)))
    if size == 0:
        return 0.0, 0
    norms = np.linalg.norm(X / size, axis=1)
    row = int(np.argmax(norms))
    return size * float(norms[row]), row


def _require_finite(name: str, array: np.ndarray) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = first[0] if len(first) == 1 else first
        raise InputError(
            f"{name} must be finite, got {int(bad.sum())} NaN or infinite values, the first at index {where}"
        )


def _some(values: np.ndarray) -> str:
    """The first few of sorted values."""
    return ", ".join(str(v) for v in values[:5]) + (", ..." if len(values) > 5 else "")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
