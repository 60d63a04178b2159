"""In-context learning kernels: theorysim beside PyTorch and NumPy, in one run, in float32.

    python benchmarks/prompts.py gradient [--peers-path DIRECTORY]   # one gradient step on the features of linear attention
    python benchmarks/prompts.py decoder [--peers-path DIRECTORY]    # training of a GPT-2-style decoder

gradient: d = 64, N = 512 examples, m = 256 neurons, 2e4 prompts, drawn as they are needed. Each contestant has its own normal
numbers; all agree on given prompts. The loops by hand use what theorysim uses: h = W x, one masked product q, and p = <w, q>, so
two matrix products, 4 N m d flops, and N d normal numbers a prompt. Times are of fewer prompts, scaled.

decoder: E = 64, 4 layers, 4 heads, N = 32, d = 4, 64 prompts a step, Adam; the data included. All contestants have the same
predictions from the same parameters.

Contestants take turns and the smallest time counts, since other load on the machine is never shared evenly; the load is printed.
The peak is that of a product of two 4096 x 4096 matrices, in the same turns. Processor time is printed beside wall time.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tyro

d, N, m, R, TAU = 64, 512, 256, 4, 0.3
D, EXAMPLES, WIDTH, LAYERS, HEADS, BATCH, RATE = 4, 32, 64, 4, 4, 64, 1e-3


@dataclass(frozen=True)
class Options:
    what: tyro.conf.Positional[Literal["gradient", "decoder"]] = "gradient"
    prompts: int = 20_000
    """Of the run that times of `gradient` are scaled to."""
    timed: int = 256
    """Prompts that are timed."""
    steps: int = 5
    """Steps of `decoder` that are timed."""
    repeats: int = 5
    """Turns."""
    threads: int = len(os.sched_getaffinity(0))
    """Of every contestant, on as many cores."""
    peers_path: str | None = None
    """A directory with PyTorch, if this environment has none."""


# --- gradient: (X, y) -> sum of g_t over given prompts, and prompts -> the same over prompts of its own -----------------


def neurons() -> np.ndarray:
    W = np.random.default_rng(0).normal(size=(m, d))
    return (W / np.linalg.norm(W, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Gradient:
    given: Callable[[np.ndarray, np.ndarray], np.ndarray]
    drawn: Callable[[int], np.ndarray]


def gradient_with_theorysim() -> Gradient:
    import jax
    import jax.numpy as jnp

    from theorysim.kernels import linear_attention
    from theorysim.kernels.prompts import PromptLaw, Prompts, monomial

    law, W, b = PromptLaw(d, R, monomial(2), TAU), jnp.asarray(neurons()), jnp.zeros(m)
    go = jax.jit(
        lambda prompts: linear_attention.stage_one(jax.random.key(0), law, W, b, prompts=prompts, length=N).mean
    )

    def given(X, y):
        # A tiny Gamma leaves the labels in the place of the residuals.
        nothing = jnp.zeros((len(X), 0))
        batch = Prompts(jnp.asarray(X), jnp.asarray(y), jnp.asarray(y), nothing, nothing)
        tiny = jnp.full(m, 1e-9)
        return np.asarray(jax.jit(linear_attention.gradient)(batch, W, b, tiny)) / -2e-9 * len(X)

    return Gradient(given, lambda prompts: np.asarray(go(prompts)))


def gradient_with_numpy(chunk: int) -> Gradient:
    W, rng = neurons(), np.random.default_rng(1)

    def given(X, y):
        H = X @ W.T
        M = np.where(H[:, :-1] > 0, y[:, :-1, None] / np.float32(N), np.float32(0))
        q = M.transpose(0, 2, 1) @ X[:, :-1]
        p = (q * W).sum(-1)
        h = H[:, -1]
        t = y[:, -1, None]
        return ((t * np.maximum(h, 0))[..., None] * q).sum(0) + (t * (h > 0) * p).T @ X[:, -1]

    def draw():
        X = rng.standard_normal((chunk, N + 1, d), np.float32)
        beta = rng.standard_normal((chunk, R), np.float32)
        beta /= np.linalg.norm(beta, axis=1, keepdims=True)
        z = (X[..., :R] @ beta[..., None])[..., 0]
        y = (z * z - 1) * np.float32(0.5**0.5) + np.float32(TAU) * (2 * rng.integers(0, 2, z.shape) - 1)
        return X, y.astype(np.float32)

    return Gradient(given, lambda prompts: sum(given(*draw()) for _ in range(prompts // chunk)))


def gradient_with_torch(chunk: int, *, autograd: bool = False) -> Gradient:
    import torch

    W = torch.from_numpy(neurons())

    def by_hand(X, y):
        H = X @ W.T
        h, t = H[:, -1], y[:, -1, None]
        M = torch.where(H[:, :-1] > 0, y[:, :-1, None] / N, 0.0)
        q = M.transpose(1, 2) @ X[:, :-1]
        p = (q * W).sum(-1)
        return ((t * torch.relu(h))[..., None] * q).sum(0) + (t * (h > 0) * p).T @ X[:, -1]

    def by_autograd(X, y):
        V = W.detach().requires_grad_()
        phi = torch.relu(X @ V.T)
        psi = (y[:, None, :-1] @ phi[:, :-1])[:, 0] / N
        (g,) = torch.autograd.grad((y[:, -1] * (psi * phi[:, -1]).sum(-1)).sum(), V)
        return g

    def draw():
        X, beta = torch.randn(chunk, N + 1, d), torch.randn(chunk, R)
        z = (X[..., :R] @ (beta / beta.norm(dim=1, keepdim=True))[..., None])[..., 0]
        return X, (z * z - 1) * 0.5**0.5 + TAU * (2 * torch.randint(0, 2, z.shape) - 1)

    def sums(batches):
        with torch.set_grad_enabled(autograd):
            return sum((by_autograd if autograd else by_hand)(X, y) for X, y in batches).numpy()

    return Gradient(
        lambda X, y: sums([(torch.from_numpy(X), torch.from_numpy(y))]),
        lambda prompts: sums(draw() for _ in range(prompts // chunk)),
    )


# --- decoder: steps -> nothing, and (X, y) -> predictions ---------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray]
    steps: Callable[[int], object]


def decoder_with_theorysim() -> tuple[Training, dict[str, np.ndarray]]:
    """The contestant, and the parameters by name."""
    import jax

    from theorysim.kernels import decoder
    from theorysim.kernels.prompts import PromptLaw, monomial

    config = decoder.Config(d=D, examples=EXAMPLES, width=WIDTH, layers=LAYERS, heads=HEADS, compute="float32")
    optimizer, key = decoder.adam(RATE, warm_up=10), jax.random.key(0)
    law = PromptLaw(D, 2, monomial(2), TAU)
    state = decoder.init(key, config, optimizer)
    predict = jax.jit(decoder.predict, static_argnums=1)
    first = jax.tree.map(np.asarray, state.params)

    def steps(count):
        nonlocal state
        state, loss = decoder.advance(key, state, law, count, config=config, optimizer=optimizer, batch=BATCH)
        return jax.block_until_ready(loss)

    names = {
        ".".join(str(part) for part in path if part != "value"): np.asarray(leaf[...])
        for path, leaf in first.flat_state()
    }
    return Training(lambda X, y: np.asarray(predict(first, config, X, y)), steps), names


def decoder_with_torch(names: dict[str, np.ndarray]) -> Training:
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_attention, self.norm_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            B, L, _ = x.shape
            heads = self.qkv(self.norm_attention(x)).view(B, L, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(B, L, WIDTH))
            return x + self.down(functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_input, self.embed_label = nn.Linear(D, WIDTH, bias=False), nn.Linear(1, WIDTH, bias=False)
            self.positions = nn.Parameter(torch.zeros(2 * EXAMPLES, WIDTH))
            self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1)

        def forward(self, X, y):
            x = torch.stack([self.embed_input(X), self.embed_label(y[..., None])], 2).flatten(1, 2) + self.positions
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x[:, ::2]))[..., 0]

    model = Decoder()
    ours = {name.replace("kernel", "weight").replace("scale", "weight"): value for name, value in names.items()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(ours[name].T.copy() if name.endswith("weight") else ours[name].copy()))
    optimizer = torch.optim.Adam(model.parameters(), RATE)

    def predict(X, y):
        with torch.no_grad():
            return model(torch.from_numpy(X), torch.from_numpy(y)).numpy()

    def steps(count):
        for _ in range(count):
            X, beta = torch.randn(BATCH, EXAMPLES, D), torch.randn(BATCH, 2)
            z = (X[..., :2] @ (beta / beta.norm(dim=1, keepdim=True))[..., None])[..., 0]
            y = (z * z - 1) * 0.5**0.5 + TAU * (2 * torch.randint(0, 2, z.shape) - 1)
            loss = ((model(X, y) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return Training(predict, steps)


# --- comparison -------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], object]) -> np.ndarray:
    """Wall time and processor time."""
    start = time.perf_counter(), time.process_time()
    call()
    return np.array([time.perf_counter(), time.process_time()]) - start


def turns(calls: dict[str, Callable[[], object]], options: Options) -> tuple[dict[str, np.ndarray], float]:
    """Smallest times of each, and the peak of matrix products in GFLOP/s."""
    import jax
    import jax.numpy as jnp
    from threadpoolctl import threadpool_limits

    matrix = jnp.ones((4096, 4096), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    best, peak = {name: np.full(2, np.inf) for name in calls}, np.inf
    with threadpool_limits(options.threads):
        for call in (lambda: jax.block_until_ready(product(matrix)), *calls.values()):
            call()
        for _ in range(options.repeats):
            peak = min(peak, seconds(lambda: jax.block_until_ready(product(matrix)))[0])
            for name, call in calls.items():
                best[name] = np.minimum(best[name], seconds(call))
            print(f"load {os.getloadavg()[0]:.1f}", end="  ", flush=True)
    print()
    return best, 2 * 4096**3 / peak / 1e9


def compare_gradients(options: Options) -> None:
    contestants = {
        "theorysim": gradient_with_theorysim(),
        "PyTorch, prompts in turn": gradient_with_torch(1),
        "PyTorch, 4 prompts at a time": gradient_with_torch(4),
        "PyTorch, 32 prompts at a time": gradient_with_torch(32),
        "PyTorch, 32, autograd": gradient_with_torch(32, autograd=True),
        "NumPy, 4 prompts at a time": gradient_with_numpy(4),
    }
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4, N + 1, d)).astype(np.float32), rng.normal(size=(4, N + 1)).astype(np.float32)
    expected = contestants["theorysim"].given(X, y)
    for name, contestant in contestants.items():
        assert np.allclose(contestant.given(X, y), expected, atol=1e-5 * np.abs(expected).max()), name
    best, peak = turns({k: lambda c=c: c.drawn(options.timed) for k, c in contestants.items()}, options)
    print(f"d={d}, N={N}, m={m}, {options.prompts} prompts")
    ours = best["theorysim"]
    for name, (wall, processor) in best.items():
        print(
            f"  {name:30s} {1e3 * wall / options.timed:6.3f} ms a prompt ({wall / ours[0]:4.2f} x theorysim),"
            f" {wall * options.prompts / options.timed:5.1f} s in all; processor {processor / ours[1]:4.2f} x"
        )
    rate = 4 * N * m * d * options.timed / ours[0] / 1e9
    print(f"  theorysim: {rate:.1f} GFLOP/s in matrix products, {rate / peak:.2f} of the peak of {peak:.1f}")


def compare_decoders(options: Options) -> None:
    ours, names = decoder_with_theorysim()
    contestants = {"theorysim": ours, "PyTorch": decoder_with_torch(names)}
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3, EXAMPLES, D)).astype(np.float32), rng.normal(size=(3, EXAMPLES)).astype(np.float32)
    for name, contestant in contestants.items():
        assert np.allclose(contestant.predict(X, y), ours.predict(X, y), atol=1e-5), name
    best, peak = turns({k: lambda c=c: c.steps(options.steps) for k, c in contestants.items()}, options)
    tokens = 2 * EXAMPLES * BATCH * options.steps
    print(f"E={WIDTH}, {LAYERS} layers, {HEADS} heads, N={EXAMPLES}, d={D}, {BATCH} prompts a step")
    for name, (wall, processor) in best.items():
        rate = 6 * 12 * WIDTH**2 * LAYERS * tokens / wall / 1e9
        print(
            f"  {name:10s} {1e3 * wall / options.steps:6.1f} ms a step, {tokens / wall:8.0f} tokens/s"
            f" ({wall / best['theorysim'][0]:4.2f} x theorysim); processor {processor / best['theorysim'][1]:4.2f} x;"
            f" {rate:.1f} GFLOP/s, {rate / peak:.2f} of the peak of {peak:.1f}"
        )


def main(options: Options) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # JAX takes its threads from it
    if options.peers_path is not None:
        sys.path.append(options.peers_path)
    import jax
    import torch

    torch.set_num_threads(options.threads)
    print(
        f"{platform.machine()}, {options.threads} of {os.cpu_count()} cores; jax {jax.__version__},"
        f" torch {torch.__version__}, numpy {np.__version__}; float32"
    )
    (compare_gradients if options.what == "gradient" else compare_decoders)(options)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
