"""Batches of adversarial instances for property tests: recipes from `theorysim.testing`, one program takes a batch."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from theorysim.kernels.gradient_descent import Problem, TwoLayer, init, step
from theorysim.papers.large_stepsize_gd import measurements, replays
from theorysim.papers.large_stepsize_gd.setting import Instance, ModifiedMargin, RandomInstances
from theorysim.testing import large_stepsize_gd as strategies

Arrays, Recipe, RECIPES, make = (getattr(strategies, name) for name in ("Arrays", "Recipe", "RECIPES", "make"))
NAMES, ROWS, DIMENSION, WIDTH = (getattr(strategies, name) for name in ("NAMES", "ROWS", "DIMENSION", "WIDTH"))

BATCH = 64
"""The batch of the compiled programs."""

TIMES = (0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160, 226)


@st.composite
def batches(draw: st.DrawFn) -> list[Recipe]:
    """BATCH recipes, which cost as much as one, or any smaller number; shrinks to one."""
    size = draw(st.one_of(st.integers(1, BATCH), *[st.just(BATCH)] * 3))
    return draw(st.lists(RECIPES, min_size=size, max_size=size))


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
