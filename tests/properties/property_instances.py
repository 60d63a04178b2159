"""Admissible instances for property tests: Hypothesis draws recipes, NumPy makes arrays, one program takes a batch.

A recipe is a few structural choices (geometry, margin, stepsize, initialisation, ...) and a seed for the rest, so that
a failing batch shrinks to one small instance. Arrays are padded to one shape: a batch of any recipes runs in one
compiled program an activation.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from theorysim.kernels.gradient_descent import Problem, TwoLayer, init, step
from theorysim.papers.large_stepsize_gd import measurements, replays, theory
from theorysim.papers.large_stepsize_gd.setting import Instance, ModifiedMargin, RandomInstances

ROWS, DIMENSION, WIDTH, BATCH = 8, 5, 6, 64
"""Largest n, d, m, and the batch of the compiled programs."""

NAMES = ("softplus", "gelu", "silu", "huberised-relu", "linear")
TIMES = (0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160, 226)
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


@st.composite
def batches(draw: st.DrawFn) -> list[Recipe]:
    """1 to BATCH recipes, all sizes equally likely (plain lists are short on average); shrinks to one."""
    size = draw(st.integers(1, BATCH))
    return draw(st.lists(RECIPES, min_size=size, max_size=size))


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


def stack(activation: str, batch: list[Recipe]) -> Arrays:
    """The instances of a batch, filled up to BATCH with copies of the first."""
    made = [make(activation, recipe) for recipe in batch]
    made += made[:1] * (BATCH - len(made))
    return Arrays(*(np.stack([np.asarray(value, float) for value in column]) for column in zip(*made, strict=True)))


class Given(RandomInstances):
    """An instance that is there already: measurements and replays draw it as they would any other."""

    def __init__(self, instance: Instance, times: tuple[int, ...] = TIMES) -> None:
        object.__setattr__(self, "instance", instance)
        object.__setattr__(self, "times", times)

    def draw(self, key: Any) -> Instance:
        return self.instance


def instance(activation: str, arrays: Arrays) -> Instance:
    """One instance (no batch axis), at the stepsize `eta`."""
    a = jax.tree.map(jnp.asarray, arrays)
    margin = ModifiedMargin(a.kappa, a.beta, a.lam, 1.0)
    return Instance(
        Problem(a.X, a.y, a.weight),
        TwoLayer(a.signs, a.leak, a.m, activation),
        a.W,
        a.eta,
        a.n,
        a.gamma,
        a.direction,
        margin,
    )


def risk(activation: str, arrays: Arrays) -> jax.Array:
    """L(W_0)."""
    ready = instance(activation, arrays)
    return step(init(ready.weights), ready.predictor, ready.problem, 0.0)[1].risk


def at_threshold(activation: str, arrays: Arrays) -> Arrays:
    """The stepsize at which L(W_0) = threshold * thr, where a threshold is asked for and some stepsize reaches it."""
    start = risk(activation, arrays)
    # Risks below 1e-100 would ask for stepsizes that leave float64.
    possible = (arrays.threshold > 0) & (start > 1e-100) & (start <= 1 / (2 * jnp.exp(arrays.kappa + 2) * arrays.n))
    eta = arrays.threshold / (start * (4 * arrays.lam**2 + 2 * arrays.beta))
    return arrays._replace(eta=jnp.where(possible, eta, arrays.eta))


def compiled(function: Callable[[str, Arrays], Any]) -> Callable[[str, Arrays], Any]:
    """`function` of one instance under vmap and jit, in float64: one program an activation."""

    @functools.cache
    def program(activation: str) -> Callable[[Arrays], Any]:
        return jax.jit(jax.vmap(functools.partial(function, activation)))

    def call(activation: str, arrays: Arrays) -> Any:
        with jax.enable_x64(True):
            return jax.device_get(program(activation)(arrays))

    return call


@compiled
def stable_phase(activation: str, arrays: Arrays) -> dict[str, Any]:
    """`measurements.stable_phase` up to the last of TIMES."""
    ready = instance(activation, at_threshold(activation, arrays))
    return measurements.stable_phase(jnp.zeros(2, jnp.uint32), Given(ready))


def stable_phase_again(activation: str, arrays: Arrays, results: dict[str, Any], index: int) -> dict[str, np.ndarray]:
    """The same of one instance of the batch, plainly and in extended precision, with a batch axis of one."""
    one = Arrays(*(column[index] for column in arrays._replace(eta=results["eta"])))
    with jax.enable_x64(True):
        ready = instance(activation, one)
    again = replays.stable_phase(Given(ready), jax.random.key(0))
    return {name: np.asarray(value)[None] for name, value in again.items()}


def try_all(name: str, strategy: st.SearchStrategy[Any], check: Callable[[Any], None], rounds: int) -> None:
    """Run `check`, which asserts, on ten batches a round."""
    for number in range(rounds):
        # Derandomised runs derive their seed from the text of the test, which is this one for all properties. After its
        # tenth example Hypothesis turns to variations of earlier ones: a new round costs less than new inputs so.
        @seed(zlib.crc32(f"{name}/{number}".encode()))
        @settings(max_examples=10)
        @given(batch=strategy)
        def holds(batch: Any) -> None:
            check(batch)

        holds()
