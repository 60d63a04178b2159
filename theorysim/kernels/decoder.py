"""GPT-2-style decoder trained to learn in context: tokens x_1, y_1, ..., x_N, y_N, and y_i is predicted at the token x_i.

Inputs are embedded by a (d, E) matrix, labels by a (1, E) one; positions are learned; blocks are those of GPT-2 (layer norm before
causal softmax attention and before an MLP of 4 E GELU units). The loss is the squared error averaged over all N positions, so one
prompt gives a prediction from 0, 1, ..., N - 1 examples (Garg, Tsipras, Liang, Valiant, NeurIPS 2022, arXiv 2208.01066; with
single-index tasks Oko, Song, Suzuki, Wu, NeurIPS 2024, arXiv 2411.02544, Fig. 2).

Prompts of `theorysim.kernels.prompts` are drawn where they are used, each once: step t has the prompts t B, ..., t B + B - 1 of the
key's stream. Hence a run that was interrupted and resumed gives the numbers of one that was not.

>>> config = Config(d=16, examples=128)
>>> optimizer = adam(1e-4, warm_up=1000)
>>> state = train(key, config, law, optimizer, steps=100_000, batch=64, checkpoint="run.npz", callback=print)
>>> curve = risk(fresh, state.params, config, law, prompts=2048)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, Key

from theorysim.errors import require
from theorysim.kernels.prompts import PromptLaw, Prompts, sample

Scalar = Float[Array, ""]

COMPUTE = ("float32", "bfloat16")
"""Dtypes of matrix products. Parameters, the residual stream, norms and the optimiser's memory are in float32."""


# --- model ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """d: dimension of inputs. examples: N, most examples of a prompt. width: E. layers. heads. compute: in `COMPUTE`; by default
    bfloat16 on accelerators. The default sizes have 9.5 million parameters in the layers.

    Raises InputError unless sizes are at least 1, heads divide the width, and the name is known.
    """

    d: int
    examples: int
    width: int = 256
    layers: int = 12
    heads: int = 8
    compute: str | None = None

    def __post_init__(self) -> None:
        for name in ("d", "examples", "width", "layers", "heads"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        require(self.width % self.heads == 0, f"width must be a multiple of heads = {self.heads}, got {self.width}")
        require(
            self.compute is None or self.compute in COMPUTE,
            f"compute must be one of {', '.join(COMPUTE)}, got {self.compute!r}",
        )

    @property
    def dtype(self) -> str:
        return self.compute or ("float32" if jax.default_backend() == "cpu" else "bfloat16")


def _linear(rows: int, columns: int, config: Config, rngs: nnx.Rngs, *, deviation: float = 0.02) -> nnx.Linear:
    start = nnx.initializers.normal(deviation)
    return nnx.Linear(rows, columns, kernel_init=start, dtype=config.dtype, param_dtype=jnp.float32, rngs=rngs)


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        E = config.width
        residual = 0.02 / (2 * config.layers) ** 0.5  # the sum over layers then has the variance of one
        self.heads = config.heads
        self.norm_attention, self.norm_mlp = (nnx.LayerNorm(E, epsilon=1e-5, rngs=rngs) for _ in range(2))
        self.qkv = _linear(E, 3 * E, config, rngs)
        self.out = _linear(E, E, config, rngs, deviation=residual)
        self.up = _linear(E, 4 * E, config, rngs)
        self.down = _linear(4 * E, E, config, rngs, deviation=residual)

    def __call__(self, x: Float[Array, "T E"], prompts: int) -> Float[Array, "T E"]:
        """x: tokens of that many prompts, one after the other: weights' gradients of flat arrays are twice as fast on a CPU."""
        x = x + self.out(self._attend(self.qkv(self.norm_attention(x)), prompts))
        return x + self.down(jax.nn.gelu(self.up(self.norm_mlp(x))))

    def _attend(self, qkv: Float[Array, "T three_E"], prompts: int) -> Float[Array, "T E"]:
        # One batch of prompts and heads, twice as fast on a CPU as products over two axes.
        split = qkv.reshape(prompts, -1, 3, self.heads, qkv.shape[1] // (3 * self.heads)).transpose(2, 0, 3, 1, 4)
        q, k, v = split.reshape(3, prompts * self.heads, *split.shape[3:])
        scores = jnp.einsum("hqe,hke->hqk", q, k, preferred_element_type=jnp.float32) / q.shape[2] ** 0.5
        past = jnp.tril(jnp.ones(scores.shape[1:], bool))
        weights = jax.nn.softmax(jnp.where(past, scores, -jnp.inf)).astype(v.dtype)
        attended = jnp.einsum("hqk,hke->hqe", weights, v).reshape(prompts, self.heads, *v.shape[1:])
        return attended.transpose(0, 2, 1, 3).reshape(len(qkv), -1)


class Decoder(nnx.Module):
    """From inputs and labels to the prediction of each label from the examples before it."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        E, start = config.width, nnx.initializers.normal(0.02)
        embed = functools.partial(nnx.Linear, use_bias=False, dtype=config.dtype, kernel_init=start, rngs=rngs)
        self.embed_input, self.embed_label = embed(config.d, E), embed(1, E)
        self.positions = nnx.Param(start(rngs.params(), (2 * config.examples, E), jnp.float32))
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.norm = nnx.LayerNorm(E, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(E, 1, kernel_init=start, rngs=rngs)

    def __call__(self, X: Float[Array, "B N d"], y: Float[Array, "B N"]) -> Float[Array, "B N"]:
        B, N, _ = X.shape
        tokens = jnp.stack([self.embed_input(X), self.embed_label(y[..., None])], axis=2).reshape(B, 2 * N, -1)
        x = (tokens + self.positions[: 2 * N]).reshape(B * 2 * N, -1)
        for block in self.blocks:
            x = block(x, B)
        return self.head(self.norm(x[::2])).reshape(B, N)


@functools.lru_cache
def _structure(config: Config) -> nnx.GraphDef[Decoder]:
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))[0]


def predict(params: Any, config: Config, X: Float[Array, "B N d"], y: Float[Array, "B N"]) -> Float[Array, "B N"]:
    """The prediction of y_i from x_1, y_1, ..., x_{i-1}, y_{i-1}, x_i, for all i <= N; N up to `config.examples`.

    Raises InputError unless shapes fit.
    """
    N, d = X.shape[1:]
    require(d == config.d, f"inputs X must have dimension d = {config.d}, got {d}")
    require(config.examples >= N, f"examples of a prompt must be at most {config.examples}, got {N}")
    return nnx.merge(_structure(config), params)(X, y)


class Curve(NamedTuple):
    """Mean over prompts of (prediction - f)^2 after 0, 1, ..., N - 1 examples, and its standard error."""

    risk: Float[Array, " N"]
    error: Float[Array, " N"]


def risk(
    key: Key[Array, ""],
    params: Any,
    config: Config,
    law: PromptLaw,
    *,
    prompts: int,
    chunk: int = 64,
    transform: Callable[[Prompts], Prompts] = lambda batch: batch,
) -> Curve:
    """Excess risk on the first `prompts` prompts of the stream of `key`, rounded up to a multiple of `chunk`, those in memory.

    transform: of a batch before prediction, such as inputs in reversed order, whose directions lie in another subspace.
    """
    require(prompts >= 2, f"number of prompts must be at least 2, got {prompts}")
    require(chunk >= 1, f"chunk must be at least 1, got {chunk}")

    def part(k: Int[Array, ""]) -> Float[Array, "chunk N"]:
        numbers = k * chunk + lax.iota(jnp.int32, chunk)
        batch = transform(sample(key, law, numbers, length=config.examples - 1))
        return (predict(params, config, batch.X, batch.y) - batch.f) ** 2

    square = lax.map(part, lax.iota(jnp.int32, -(-prompts // chunk))).reshape(-1, config.examples)
    return Curve(jnp.mean(square, axis=0), jnp.std(square, axis=0, ddof=1) / len(square) ** 0.5)


# --- training ---------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """params: a pytree of float32. memory: the optimiser's. step: t."""

    params: Any
    memory: Any
    step: Int[Array, ""]


class Progress(NamedTuple):
    """step: t. loss: mean over the steps since the last report, the noise of the labels included."""

    step: int
    loss: float


def adam(rate: float | Scalar, *, warm_up: int, clip: float = 1.0) -> optax.GradientTransformation:
    """Adam with a learning rate that grows linearly to `rate` over `warm_up` steps, and gradients clipped to norm `clip`."""
    schedule = optax.linear_schedule(rate / max(warm_up, 1), rate, warm_up)
    return optax.chain(optax.clip_by_global_norm(clip), optax.adam(schedule))


def init(key: Key[Array, ""], config: Config, optimizer: optax.GradientTransformation) -> State:
    """State at t = 0."""
    params = jax.jit(lambda key: nnx.state(Decoder(config, nnx.Rngs(key)), nnx.Param))(key)
    return State(params, optimizer.init(params), jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, static_argnames=("config", "optimizer", "batch"), donate_argnames="state")
def advance(
    key: Key[Array, ""],
    state: State,
    law: PromptLaw,
    count: Int[Array, ""] | int,
    *,
    config: Config,
    optimizer: optax.GradientTransformation,
    batch: int,
) -> tuple[State, Scalar]:
    """`count` steps in one program, whatever their number, and their mean loss. The state that it is given is used up."""

    def loss(params: Any, prompts: Prompts) -> Scalar:
        return jnp.mean((predict(params, config, prompts.X, prompts.y) - prompts.y) ** 2)

    def step(_: Any, carry: tuple[State, Scalar]) -> tuple[State, Scalar]:
        (params, memory, t), total = carry
        numbers = t.astype(jnp.uint32) * jnp.uint32(batch) + lax.iota(jnp.uint32, batch)
        prompts = sample(key, law, numbers, length=config.examples - 1)
        value, gradient = jax.value_and_grad(loss)(params, prompts)
        updates, memory = optimizer.update(gradient, memory, params)
        return State(optax.apply_updates(params, updates), memory, t + 1), total + value

    state, total = lax.fori_loop(0, count, step, (state, jnp.zeros(())))
    return state, total / count


def train(
    key: Key[Array, ""],
    config: Config,
    law: PromptLaw,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch: int,
    per_dispatch: int = 50,
    callback: Callable[[Progress], Any] | None = None,
    checkpoint: str | Path | None = None,
    save_every: int = 1000,
) -> State:
    """Train up to t = steps, from t = 0 or from a checkpoint.

    key: of the initial parameters and of the stream of prompts. per_dispatch: steps in one call of the device, between
    reports to `callback`. checkpoint: a file, replaced every `save_every` steps and at the end. If it exists, training resumes
    from it, with the result of a run without interruption provided that `key`, `law`, `optimizer` and `batch` are the same.

    Raises InputError unless numbers are at least 1, steps * batch < 2^32 and law and config have one d; and for a checkpoint of
    another decoder or optimizer.
    """
    for name, value in (("steps", steps), ("batch", batch), ("per_dispatch", per_dispatch), ("save_every", save_every)):
        require(value >= 1, f"{name} must be at least 1, got {value}")
    require(steps * batch < 2**32, f"steps * batch must be below 2^32, got {steps * batch}")
    require(law.d == config.d, f"dimension d of the prompts must be that of the decoder, {config.d}, got {law.d}")
    state = init(key, config, optimizer)
    if checkpoint is not None and Path(checkpoint).exists():
        state = restore(checkpoint, state)
    t = int(state.step)
    while t < steps:
        saved = min((t // save_every + 1) * save_every, steps)
        count = min(per_dispatch, saved - t)
        state, loss = advance(key, state, law, count, config=config, optimizer=optimizer, batch=batch)
        t += count
        if checkpoint is not None and t == saved:
            save(checkpoint, state)
        if callback is not None:
            callback(Progress(t, float(loss)))
    return state


# --- checkpoints ------------------------------------------------------------------------------------------------------


def save(path: str | Path, state: State) -> None:
    """Write a state to a file, in full or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: np.asarray(leaf) for name, leaf in _named(state).items()})
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def restore(path: str | Path, like: State) -> State:
    """The state in a file, in the structure of another of the same decoder and optimizer. Raises InputError if it is not."""
    with np.load(path) as file:
        found = dict(file)
    due = _named(like)
    fits = found.keys() == due.keys() and all(found[name].shape == leaf.shape for name, leaf in due.items())
    require(fits, f"checkpoint {path} is of another decoder or optimizer")
    return jax.tree.unflatten(
        jax.tree.structure(like), [jnp.asarray(found[name], leaf.dtype) for name, leaf in due.items()]
    )


def _named(state: State) -> dict[str, Array]:
    """Leaves by their paths, in the order of the structure."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
