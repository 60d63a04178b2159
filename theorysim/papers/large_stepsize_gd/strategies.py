"""Admissible instances as Hypothesis strategies: settings of every class, and recipes for adversarial data and networks.

A recipe is a few structural choices (geometry, margin, stepsize, initialisation, ...) and a seed for the rest, so that what fails
shrinks to a small instance; `make` turns it into arrays, padded to one shape, so that a batch of any recipes runs in one program.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from theorysim.papers.large_stepsize_gd import theory
from theorysim.papers.large_stepsize_gd.setting import (
    Budget,
    Contest,
    FivePoint,
    LinearPredictor,
    ModifiedMargin,
    Network,
    OneSample,
    RandomInstances,
    RandomTwoPoint,
    Samples,
    Training,
    TwoPoint,
    TwoPointConflict,
    Xor,
)

ROWS, DIMENSION, WIDTH = 8, 5, 6
"""Largest n, d, m of a recipe."""

NAMES = ("softplus", "gelu", "silu", "huberised-relu", "linear")
"""Activations."""

XOR = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) / np.sqrt(2)


class Recipe(NamedTuple):
    """What an instance is made of; `make` says how. Every choice shrinks towards the first, the plainest.

    threshold: positive to start at L(W_0) = threshold * thr by choice of the stepsize, where one exists; eta otherwise.
    """

    n: int
    d: int
    m: int
    data: str
    gamma: float
    start: str
    scale: float
    eta: float
    threshold: float
    leak: float
    signs: str
    seed: int


DATA = ("spread", "opposed", "collinear", "duplicated", "short", "random labels", "xor")
RECIPES = st.builds(
    Recipe,
    n=st.integers(1, ROWS),
    d=st.integers(1, DIMENSION),
    m=st.integers(1, WIDTH),
    data=st.sampled_from(DATA),
    gamma=st.sampled_from((1.0, 0.5, 0.2, 0.1, 0.03, 0.001)),
    start=st.sampled_from(("aligned", "gaussian", "balanced", "opposed")),
    scale=st.sampled_from((0.0, 1.0, 5.0, 30.0, 100.0, 1000.0)),
    eta=st.sampled_from((1.0, 10.0, 0.1, 100.0, 0.01, 1000.0, 10_000.0)),
    threshold=st.sampled_from((0.0, 0.999, 0.9, 0.3)),
    leak=st.sampled_from((0.5, 0.3, 0.8, 0.13, 0.99, 0.0)),
    signs=st.sampled_from(("mixed", "plus", "minus")),
    seed=st.integers(0, 2**16),
)
"""Adversarial structure: margins down to .001, stepsizes up to 1e4, weights from zero to 1000, near-collinear rows."""


class Arrays(NamedTuple):
    """An instance as plain arrays, padded; a batch of them has a leading axis."""

    X: Any
    y: Any
    weight: Any
    W: Any
    signs: Any
    n: Any
    m: Any
    leak: Any
    eta: Any
    gamma: Any
    direction: Any
    kappa: Any
    beta: Any
    lam: Any
    threshold: Any


constants = functools.cache(theory.activation_constants)
"""kappa, beta, lambda of an activation and its leak, remembered."""


@functools.lru_cache(maxsize=10_000)  # Hypothesis tries variations of a batch, which share most recipes
def make(activation: str, recipe: Recipe) -> Arrays:
    """The instance of a recipe.

    Separable data are x_i = y_i mu_i w* + r_i v_i, v_i orthogonal to w*, min mu_i = gamma: spread (everything random),
    opposed (every mu_i = gamma, points pulling against each other across w*), collinear (r_i <= 1e-6), duplicated
    (n copies of one row), short (x_i = y_i gamma w*). Weights are scale a_j w* and a little noise (aligned), the
    opposite, Gaussian, or such that margins are large and nearly equal (balanced), where steps overshoot most easily.
    """
    n, d, m = recipe.n, recipe.d, recipe.m
    rng = np.random.default_rng(recipe.seed)
    direction = rng.normal(size=d)
    direction /= np.linalg.norm(direction)
    across = rng.normal(size=(n, d))
    across -= np.outer(across @ direction, direction)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
    if d == 1:
        across[:] = 0.0
    y = rng.choice([-1.0, 1.0], size=n)
    mu = recipe.gamma + (1 - recipe.gamma) * rng.random(n)
    mu[0] = recipe.gamma
    radius = rng.random(n)
    if recipe.data == "opposed":
        mu[:], across = recipe.gamma, across[:1] * np.where(np.arange(n) % 2, -1.0, 1.0)[:, None]
        radius[:], y = 1.0, np.full(n, y[0])
    elif recipe.data == "collinear":
        radius *= 1e-6
    elif recipe.data == "short":
        mu[:], radius = recipe.gamma, 0 * radius
    X = (y * mu)[:, None] * direction + (radius * np.sqrt(1 - mu**2))[:, None] * across
    if recipe.data == "duplicated":
        X, y = np.broadcast_to(X[:1], (n, d)).copy(), np.full(n, y[0])
    elif recipe.data == "random labels":
        y = rng.choice([-1.0, 1.0], size=n)
    elif recipe.data == "xor" and d >= 2:
        X = np.pad(XOR, ((0, 0), (0, d - 2)))[np.arange(n) % 4]
        y = np.sign(X[:, 0] * X[:, 1])
    X /= max(1.0, np.linalg.norm(X, axis=1).max())
    gamma = max(0.0, float(np.min(y * (X @ direction))))

    signs = {"mixed": rng.choice([-1.0, 1.0], size=m), "plus": np.ones(m), "minus": -np.ones(m)}[recipe.signs]
    if activation == "linear" and recipe.signs == "plus":
        m, signs = 1, np.ones(1)  # logistic regression itself
    noise = rng.normal(size=(m, d)) / np.sqrt(d)
    aligned = signs[:, None] * direction + 0.1 * noise
    W = recipe.scale * {"aligned": aligned, "opposed": -aligned, "gaussian": noise, "balanced": 0 * noise}[recipe.start]
    if recipe.start == "balanced":
        W = signs[:, None] * (min(recipe.scale, 15.0) / recipe.gamma * direction + 0.3 * rng.normal(size=d))
    k = constants(activation, recipe.leak)
    return Arrays(
        X=np.pad(X, ((0, ROWS - n), (0, DIMENSION - d))),
        y=np.pad(y, (0, ROWS - n), constant_values=1.0),
        weight=np.where(np.arange(ROWS) < n, 1 / n, 0.0),
        W=np.pad(W, ((0, WIDTH - m), (0, DIMENSION - d))),
        signs=np.pad(signs, (0, WIDTH - m)),
        n=float(n),
        m=float(m),
        leak=recipe.leak,
        eta=recipe.eta * 10 ** rng.uniform(-0.25, 0.25),
        gamma=gamma,
        direction=np.pad(direction, (0, DIMENSION - d)),
        kappa=float(k.kappa),
        beta=float(k.beta),
        lam=float(k.lam),
        threshold=recipe.threshold,
    )


# --- settings -----------------------------------------------------------------------------------------------------------

MARGINS = st.sampled_from((0.3, 0.1, 0.05, 0.01, 1e-4))
STEPSIZES = st.sampled_from((1.0, 10.0, 0.1, 100.0, 1000.0))
TIMES = st.sets(st.integers(0, 64), min_size=2, max_size=6).map(lambda times: tuple(sorted(times)))


def _samples(recipe: Recipe) -> Samples:
    """The data of a recipe without padding."""
    arrays = make("linear", recipe)
    rows, columns = slice(0, recipe.n), slice(0, recipe.d)
    direction = arrays.direction[columns]
    return Samples(recipe.data, arrays.X[rows, columns], arrays.y[rows], 0.999999 * arrays.gamma, direction)


def _random_instances(activation: str, leaks: list[float], times: tuple[int, ...]) -> RandomInstances:
    values = [constants(activation, leak) for leak in leaks]
    columns = [np.array([float(getattr(k, name)) for k in values]) for name in ("kappa", "beta", "lam")]
    return RandomInstances(activation, np.array(leaks), *columns, times)  # type: ignore[arg-type]


_trainings = st.deferred(lambda: trainings)
SETTINGS: dict[type, st.SearchStrategy[Any]] = {
    ModifiedMargin: st.builds(
        ModifiedMargin, st.floats(0, 2), st.floats(0, 2), st.floats(0.1, 2), st.sampled_from((1.0, -1.0))
    ),
    TwoPoint: st.builds(TwoPoint, MARGINS, st.floats(0.6, 0.9), st.floats(0.1, 0.5)),
    TwoPointConflict: st.builds(TwoPointConflict, MARGINS, st.floats(0.6, 0.9), st.floats(0.1, 0.5)),
    OneSample: st.builds(OneSample, st.floats(0.01, 1), st.integers(1, 5)),
    Xor: st.just(Xor()),
    FivePoint: st.builds(FivePoint, st.booleans()),
    Samples: RECIPES.map(_samples),
    LinearPredictor: st.just(LinearPredictor()),
    Network: st.builds(
        Network,
        st.sampled_from(NAMES),
        plus=st.integers(1, WIDTH),
        minus=st.integers(0, WIDTH),
        leak=st.sampled_from((0.5, 0.3, 0.8, 0.0)),
    ),
    Training: _trainings,
    RandomInstances: st.builds(
        _random_instances,
        st.sampled_from(NAMES[:4]),
        st.lists(st.sampled_from((0.5, 0.3, 0.8)), min_size=1, max_size=3),
        TIMES,
    ),
    RandomTwoPoint: st.builds(RandomTwoPoint, MARGINS, STEPSIZES, TIMES),
    Budget: _trainings.flatmap(lambda run: st.sampled_from(run.times).map(lambda T: Budget(run, float(T)))),
    Contest: st.tuples(_trainings, STEPSIZES).flatmap(
        lambda drawn: st.sampled_from(drawn[0].times).map(
            lambda T: Contest(drawn[0], Training(drawn[0].data, drawn[0].predictor, drawn[1], drawn[0].times), float(T))
        )
    ),
}
"""Strategies of admissible settings, by class."""

data = st.one_of([SETTINGS[kind] for kind in (TwoPoint, TwoPointConflict, OneSample, Xor, FivePoint, Samples)])
"""Any data set."""

trainings = st.builds(
    Training,
    data,
    st.one_of(SETTINGS[LinearPredictor], SETTINGS[Network]),
    STEPSIZES,
    TIMES,
    st.sampled_from((0.0, 0.1, 1.0)),
    SETTINGS[ModifiedMargin],
)
"""Gradient descent on any data, with any predictor."""
