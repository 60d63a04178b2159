"""Two-layer ReLU networks trained on the examples of a single prompt, from scratch, many prompts and initialisations at once.

f(x) = <a, relu(W x + b)> + c with all parameters trained on the mean squared error, full batch, by any optimiser of optax. The
reference learner of Oko, Song, Suzuki, Wu (NeurIPS 2024, arXiv 2411.02544), Fig. 1, that does not pretrain.

Functions are of one network and one prompt; `train_many` takes many.

>>> params, losses = train_many(keys, X, y, width=256, steps=1500)     # tasks, initialisations
>>> f_hat = jax.vmap(jax.vmap(predict, (0, None)))(params, queries)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax, random
from jaxtyping import Array, Float, Key

from theorysim.errors import InputError, require

Scalar = Float[Array, ""]


class Params(NamedTuple):
    """W: shape (m, d). b: shape (m,). a: shape (m,). c: a number."""

    W: Float[Array, "... m d"]
    b: Float[Array, "... m"]
    a: Float[Array, "... m"]
    c: Float[Array, "..."]


def _normal(variance: float) -> Callable[[Key[Array, ""], tuple[int, ...], int, bool], Array]:
    def draw(key: Key[Array, ""], shape: tuple[int, ...], fan_in: int, bias: bool) -> Array:
        return jnp.zeros(shape) if bias else math.sqrt(variance / fan_in) * random.normal(key, shape)

    return draw


def _uniform(key: Key[Array, ""], shape: tuple[int, ...], fan_in: int, bias: bool) -> Array:
    bound = 1 / math.sqrt(fan_in)
    return random.uniform(key, shape, minval=-bound, maxval=bound)


INITIALISATIONS = {"lecun": _normal(1.0), "he": _normal(2.0), "uniform": _uniform}
"""Weights N(0, 1/fan_in), or N(0, 2/fan_in), both with zero biases; or weights and biases uniform on +-1/sqrt(fan_in)."""


def adamw() -> optax.GradientTransformation:
    """AdamW with learning rate 1e-3 and weight decay 1e-3."""
    return optax.adamw(1e-3, weight_decay=1e-3)


def init(key: Key[Array, ""], d: int, *, width: int = 256, initialisation: str = "lecun") -> Params:
    """Random parameters. Raises InputError unless d, width >= 1 and `initialisation` is a name in `INITIALISATIONS`."""
    require(d >= 1, f"dimension d must be at least 1, got {d}")
    require(width >= 1, f"width must be at least 1, got {width}")
    if initialisation not in INITIALISATIONS:
        raise InputError(f"initialisation must be one of {', '.join(INITIALISATIONS)}, got {initialisation!r}")
    draw, keys = INITIALISATIONS[initialisation], random.split(key, 4)
    return Params(
        draw(keys[0], (width, d), d, False),
        draw(keys[1], (width,), d, True),
        draw(keys[2], (width,), width, False),
        draw(keys[3], (), width, True),
    )


def predict(params: Params, X: Float[Array, "n d"]) -> Float[Array, " n"]:
    """f at the points X."""
    return jax.nn.relu(X @ params.W.T + params.b) @ params.a + params.c


def train(
    params: Params,
    X: Float[Array, "n d"],
    y: Float[Array, " n"],
    *,
    steps: int,
    optimizer: optax.GradientTransformation | None = None,
) -> tuple[Params, Float[Array, " steps"]]:
    """`steps` full-batch steps of `optimizer` (by default `adamw`), without early stopping; the losses before each step."""
    optimizer = adamw() if optimizer is None else optimizer

    def loss(params: Params) -> Scalar:
        return jnp.mean((predict(params, X) - y) ** 2)

    def advance(state: tuple[Params, optax.OptState], _: None) -> tuple[tuple[Params, optax.OptState], Scalar]:
        params, memory = state
        value, gradient = jax.value_and_grad(loss)(params)
        updates, memory = optimizer.update(gradient, memory, params)
        return (jax.tree.map(jnp.add, params, updates), memory), value

    (params, _), losses = lax.scan(advance, (params, optimizer.init(params)), None, length=steps)
    return params, losses


def train_many(
    keys: Key[Array, " K"],
    X: Float[Array, "B n d"],
    y: Float[Array, "B n"],
    *,
    steps: int,
    width: int = 256,
    initialisation: str = "lecun",
    optimizer: optax.GradientTransformation | None = None,
) -> tuple[Params, Float[Array, "B K steps"]]:
    """For B prompts, each from the K initialisations of `keys`: parameters with leading axes (B, K), and losses.

    In the dtype of X. Raises as `init`.
    """
    draw = lambda key: init(key, X.shape[2], width=width, initialisation=initialisation)
    start = jax.tree.map(lambda leaf: leaf.astype(X.dtype), jax.vmap(draw)(keys))
    go = lambda params, X, y: train(params, X, y, steps=steps, optimizer=optimizer)
    return jax.vmap(jax.vmap(go, (0, None, None)), (None, 0, 0))(start, X, y)
