"""Toy experiments, at module level so that other processes can import them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from theorysim.errors import require
from theorysim.sweep import Experiment, run, setting


@setting
class Walk:
    """A random walk of `n` coordinates."""

    n: int
    eta: float
    kind: str = "plain"

    def validate(self) -> None:
        require(self.eta > 0, f"step size eta must be positive, got {self.eta}")


def walk(key: Key[Array, ""], setting: Walk) -> dict[str, Array]:
    start, matrix = jax.random.normal(key, (2, setting.n, setting.n))
    state, _ = jax.lax.scan(lambda x, _: (jnp.tanh(setting.eta * matrix @ x), None), start, None, length=20)
    return {"mean": state.mean(), "range": jnp.stack([state.min(), state.max()])}


def slow(key: Key[Array, ""], setting: Walk) -> dict[str, Array]:
    start = jax.random.normal(key)
    return {"end": jax.lax.fori_loop(0, 1_000_000, lambda _, x: jnp.sin(x + setting.eta), start)}


def fatal(key: Key[Array, ""], setting: Walk) -> dict[str, Array]:
    """Ends its process once a sample of eta above 1 is computed."""

    def check(eta: np.ndarray) -> np.ndarray:
        if eta > 1:
            os._exit(1)
        return eta

    eta = jax.pure_callback(check, jax.ShapeDtypeStruct((), jnp.float64), setting.eta, vmap_method="sequential")
    return {"eta": eta + 0 * jax.random.normal(key)}


def spectrum(key: Key[Array, ""], setting: Walk) -> dict[str, Array]:
    matrix = jax.random.normal(key, (setting.n, setting.n))
    step = lambda _, shift: jnp.linalg.eigvalsh(matrix @ matrix.T + shift * jnp.eye(setting.n))[-1] / setting.n
    return {"largest": jax.lax.fori_loop(0, 20, step, jnp.asarray(setting.eta, matrix.dtype))}


WALK = Experiment("toys/walk", walk)
SLOW = Experiment("toys/slow", slow)
FATAL = Experiment("toys/fatal", fatal)
SPECTRUM = Experiment("toys/spectrum", spectrum)
SETTINGS = [Walk(4, 0.5), Walk(8, 0.5), Walk(4, 0.25), Walk(8, 0.25)]
SLOW_SETTINGS = [Walk(1, 0.5), Walk(2, 0.5), Walk(1, 0.25)]
SLOW_SEEDS = 12


if __name__ == "__main__":
    run(SLOW, SLOW_SETTINGS, SLOW_SEEDS, store=Path(sys.argv[1]))
