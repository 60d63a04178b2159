"""Designs that theory does not cover: real data matrices, a file of one's own, rows of an orthogonal matrix.

X is taken as it is, beta0 and the noise are drawn; or the response is given too, and nothing is known of beta0.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Float, Key, Shaped

from theorysim.errors import InputError, require
from theorysim.kernels import amp, designs, gibbs, tap
from theorysim.kernels.designs import Dense
from theorysim.kernels.priors import Prior
from theorysim.papers.tap_amp.inference import PAPER
from theorysim.papers.tap_amp.instance import draw, uninformed
from theorysim.papers.tap_amp.setting import U3, Atoms, LinearModel
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.sweep.memory import format_memory

METHODS = ("tap", "mean-field", "gibbs")
"""TAP by natural gradient descent with backtracking, naive mean field by coordinate ascent, and the exact posterior."""

MOST_STEPS = 4000
"""Of natural gradient descent, at a given design."""


# --- rows of an orthogonal matrix -------------------------------------------------------------------------------------


@setting
class Rotated:
    """AMP on a subsampled orthogonal design of the model's size, over `steps` iterations."""

    model: LinearModel
    steps: int = 30


def rotated(key: Key[Array, ""], setting: Rotated) -> dict[str, Array]:
    """mse, variance: |m - beta0|^2/p and mean V of each step, shape (steps,). Rows have unit norm."""
    model = setting.model
    prior, instance = model.prior.kernel(), draw(key, model)
    design = designs.subsampled_orthogonal(random.fold_in(key, 7), model.n, model.p, jnp.float64)
    y = instance.response + design.forward(instance.target) - instance.design.forward(instance.target)
    _, trace = amp.run(
        uninformed(prior, design, y),
        design,
        y,
        prior.moments,
        jnp.asarray(model.sigma**2),
        steps=setting.steps,
        observe=lambda before, after: (jnp.mean((after.mean - instance.target) ** 2), after.variance),
    )
    return {"mse": trace[0], "variance": trace[1]}


# --- given designs ----------------------------------------------------------------------------------------------------


@setting
class Given:
    """One design X; y = X beta0 + N(0, sigma^2) with beta0 ~ prior, or a given response.

    steps: of AMP. chains, sweeps: of Gibbs sampling, a quarter of them burn-in.
    """

    X: Float[np.ndarray, "n p"]
    sigma: float
    prior: Atoms = U3
    y: Float[np.ndarray, " n"] | None = None
    steps: int = 30
    chains: int = 32
    sweeps: int = 240

    def validate(self) -> None:
        require(0 < self.sigma < np.inf, f"noise sigma must be positive and finite, got {self.sigma}")
        if self.y is not None:
            require(
                self.y.shape == self.X.shape[:1],
                f"y must have shape ({self.X.shape[0]},) to match X {self.X.shape}, got {self.y.shape}",
            )

    @property
    def delta(self) -> float:
        """n/p."""
        return self.X.shape[0] / self.X.shape[1]


def given(key: Key[Array, ""], setting: Given) -> dict[str, Array]:
    """AMP step by step, and the marginals of `METHODS`.

    amp_mse, amp_variance, amp_change: of each step of AMP, |m - beta0|^2/p (NaN where the response is given), mean V and
    |m' - m|/sqrt(p), shape (steps,). mean: marginal means, shape (3, p). mse, variance: shape (3,). gradient: norm of the
    gradient of F_TAP where the descent stops, steps: until then. chains: mean variance of the sampled means.
    """
    prior, (n, p) = setting.prior.kernel(), setting.X.shape
    zero = jnp.zeros(p)
    beta = prior.transform(random.uniform(random.fold_in(key, 1), (p,)), zero, zero)
    eps = random.normal(random.fold_in(key, 2), (n,))
    of_chains = random.key_data(random.fold_in(key, 3))
    X = jnp.asarray(setting.X, jnp.float64)
    known = setting.y is None
    y = X @ beta + setting.sigma * eps if setting.y is None else jnp.asarray(setting.y, jnp.float64)

    def compare(prior: Prior, X: Array, beta: Array, y: Array, noise: Array, of_chains: Array) -> dict[str, Array]:
        design = Dense(X)
        start = uninformed(prior, design, y)
        error = lambda mean: jnp.where(known, jnp.mean((mean - beta) ** 2, axis=-1), jnp.nan)
        observe = lambda before, after: (error(after.mean), after.variance, amp.summary(before, after).change)
        _, trace = amp.run(start, design, y, prior.moments, noise, steps=setting.steps, observe=observe)

        problem, origin = tap.Model(design, y, noise, prior), tap.Point(jnp.zeros(p), jnp.zeros(p))
        smoothness = 1 + prior.half_range() ** 2 * jnp.linalg.eigvalsh(X.T @ X)[-1] / noise
        descent = tap.minimise(
            problem, origin, step=1 / smoothness, tolerance=1e-6, most_steps=MOST_STEPS, backtrack=True
        )
        naive = problem._replace(penalty=tap.mean_field(design))
        ascent = tap.coordinate_ascent(naive, origin, tolerance=1e-6, most_sweeps=500)
        at = prior.moments(ascent.point.lam, ascent.point.gam)
        exact = gibbs.run(
            random.wrap_key_data(of_chains),
            X,
            y,
            noise,
            prior,
            chains=setting.chains,
            sweeps=setting.sweeps,
            burn_in=setting.sweeps // 4,
        )
        mean = jnp.stack([descent.evaluation.moments.mean, at.mean, exact.mean])
        sampled = exact.second_moment - exact.mean**2
        variances = (descent.evaluation.moments.variance, at.variance, sampled)
        return {
            "amp_mse": trace[0],
            "amp_variance": trace[1],
            "amp_change": trace[2],
            "mean": mean,
            "mse": error(mean),
            "variance": jnp.stack([jnp.mean(variance) for variance in variances]),
            "gradient": descent.evaluation.gradient_norm,
            "steps": descent.steps,
            "chains": jnp.mean(exact.mean_variance),
        }

    return one_by_one(compare)(prior, X, beta, y, jnp.asarray(setting.sigma**2), of_chains)


def _admit(setting: Given, available: float) -> None:
    n, p = setting.X.shape
    need = 8.0 * (4 * n * p + 6 * p * p + 8 * p * setting.chains)
    require(
        need <= available,
        f"X with n = {n}, p = {p} needs {format_memory(need)}, more than the {format_memory(available)} there are",
    )


def _operations(setting: Given) -> float:
    n, p = setting.X.shape
    return 4.0 * n * p * (setting.steps + MOST_STEPS) + 4.0 * setting.sweeps * setting.chains * p * (p + 100.0)


ROTATED = Experiment(
    f"{PAPER}/rotated", rotated, operations=lambda s: 60.0 * s.model.n * s.model.p + 1e3 * s.steps * s.model.p
)
GIVEN = Experiment(f"{PAPER}/given", given, operations=_operations, admit=_admit)


# --- matrices ---------------------------------------------------------------------------------------------------------


class Matrix(NamedTuple):
    """name: for legends. X: columns of mean 0 and variance 1/p, unless taken as they are. y: the response, if there is one."""

    name: str
    X: Float[np.ndarray, "n p"]
    y: Float[np.ndarray, " n"] | None = None


def standardised(X: Shaped[np.ndarray, "n p"]) -> Float[np.ndarray, "n kept"]:
    """Columns of mean 0 and variance 1/p; constant ones are left out. Raises InputError where none is left."""
    spread = X.std(axis=0)
    varies = spread > 1e-12 * np.maximum(1e-300, np.abs(X).max(axis=0))
    require(bool(varies.any()), "X must have a column that is not constant")
    X = (X - X.mean(axis=0))[:, varies] / spread[varies]
    return X / X.shape[1] ** 0.5


def bundled(name: Literal["breast cancer", "digits"]) -> Matrix:
    """Features of a data set that comes with scikit-learn."""
    from sklearn import datasets  # imported here: scikit-learn takes a second to import

    load = datasets.load_breast_cancer if name == "breast cancer" else datasets.load_digits
    X, _ = load(return_X_y=True)
    return Matrix(name, standardised(np.asarray(X, np.float64)))


def permuted(matrix: Matrix) -> Matrix:
    """Every column in an order of its own: the same entries, without correlation between columns."""
    return Matrix(f"{matrix.name}, columns permuted", np.random.default_rng(0).permuted(matrix.X, axis=0))


def load_matrix(path: Path, *, raw: bool = False) -> Matrix:
    """X (n, p), and y (n,) if it is there, from an .npz file of real numbers; X `standardised`, y centred, unless `raw`.

    Raises InputError for a file that is missing or no such archive, shapes that do not fit, and values that are not finite.
    """
    complaint = f"data must be an .npz file that can be read, got {str(path)!r}"
    require(path.is_file() and zipfile.is_zipfile(path), complaint)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("X", "y") if name in archive.files}
            found = ", ".join(sorted(archive.files)) or "none"
    except Exception as error:  # a damaged file can make the parser raise anything
        raise InputError(f"{complaint}: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
    require("X" in arrays, f"data file {str(path)!r} must hold an array X, got {found}")
    for name, array in arrays.items():
        real = isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
        require(real, f"{name} in {str(path)!r} must be an array of real numbers")
        bad = array.size - np.count_nonzero(np.isfinite(array))
        require(bad == 0, f"{name} in {str(path)!r} must be finite, got {bad} of {array.size} entries NaN or infinite")
    X, y = arrays["X"], arrays.get("y")
    shaped = X.ndim == 2 and X.shape[0] >= 2 and X.shape[1] >= 2
    require(shaped, f"X in {str(path)!r} must have shape (n, p) with n, p >= 2, got {X.shape}")
    if y is not None:
        fits = y.shape == X.shape[:1]
        require(fits, f"y in {str(path)!r} must have shape ({X.shape[0]},) to match X {X.shape}, got {y.shape}")
        y = y.astype(np.float64) if raw else y - y.mean(dtype=np.float64)
    X = X.astype(np.float64)
    return Matrix(path.stem, X if raw else standardised(X), y)
