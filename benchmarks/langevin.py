"""Noisy gradient descent of mean-field networks: theorysim beside PyTorch and NumPy loops, in one run, in float32.

    python benchmarks/langevin.py            # speed
    python benchmarks/langevin.py --memory   # peak memory of 10^6 particles, 1000 data, d = 20

tanh neurons, squared loss, n = 1000, d = 20, N = 1024, 16 independent networks. Every contestant does the same steps, with its own
normal numbers; without noise all agree. The loops are written twice: all networks in one batched step, and one network after the
other, whose arrays stay in the cache. Contestants take turns and the smallest time counts, since other load on the machine
is never shared evenly; the load is printed. Loops are timed over few steps and scaled; their time a step does not depend on k.
The peak is that of a product of two 4096 x 4096 matrices, in the same turns.

What binds theorysim, 4 n N d flops and n N tanh a step and network: on one core the two matrix products, as thin as d = 20, take
two thirds of the time, tanh a fifth, noise 3 %. Processor time is printed beside wall time, since other load changes it less. Under
other load compare with one thread: the threads of PyTorch and NumPy then wait for each other, which flatters theorysim.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NETWORKS, N, n, d = 16, 1024, 1000, 20
LAMP, LAM, ETA = 0.05, 0.05, 0.05


@dataclass(frozen=True)
class Options:
    steps: int = 500
    """Of the run that times are scaled to."""
    timed: int = 40
    """Steps of theorysim that are timed; of the loops a fifth."""
    repeats: int = 5
    """Turns."""
    threads: int = len(os.sched_getaffinity(0))
    """Of every contestant, on as many cores."""
    memory: bool = False
    """Peak memory of a single wide network instead."""
    particles: int = 1_000_000
    """Of that network."""


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Z, y, particles."""
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(n, d)) / d**0.5, rng.normal(size=n)
    return Z.astype(np.float32), y.astype(np.float32), rng.normal(size=(NETWORKS, N, d)).astype(np.float32)


# --- contestants: (steps, lam) -> particles ---------------------------------------------------------------------------

Run = Callable[[int, float], np.ndarray]


def with_theorysim() -> Run:
    import jax
    import jax.numpy as jnp

    from theorysim.kernels.langevin import Model, init, run_replicas

    Z, y, X = data()
    keys, start = jax.random.split(jax.random.key(0), NETWORKS), jnp.asarray(X)

    @jax.jit
    def go(lam, steps):
        model = Model.of("tanh", "squared", Z, y, lamp=LAMP, lam=lam)
        return run_replicas(keys, jax.vmap(init)(start), model, ETA, steps=steps)[0].particles

    return lambda steps, lam: np.asarray(go(lam, steps))


def with_numpy(*, together: bool) -> Run:
    Z, y, start = data()
    rng = np.random.default_rng(0)

    def step(X, scale):
        H = np.tanh(X @ Z.T)
        g = (H.mean(axis=-2, keepdims=True) - y) / n
        np.multiply(H, H, out=H)
        np.subtract(1, H, out=H)
        H *= g
        noise = rng.standard_normal(X.shape, np.float32)
        return X - ETA * (H @ Z + 2 * LAMP * X) + scale * noise

    return lambda steps, lam: _loop(step, start, steps, lam, together, np.stack)


def with_torch(*, together: bool, autograd: bool = False) -> Run:
    import torch

    Z, y, start = map(torch.from_numpy, data())

    def by_hand(X, scale):
        H = torch.tanh(X @ Z.T)
        g = (H.mean(-2, keepdim=True) - y) / n
        H.square_().neg_().add_(1).mul_(g)
        drift = (H @ Z).add_(X, alpha=2 * LAMP)
        return X.sub(drift, alpha=ETA).add_(torch.randn_like(X), alpha=float(scale))

    def by_autograd(X, scale):
        X = X.detach().requires_grad_()
        u = torch.tanh(X @ Z.T).mean(-2)
        F = ((u - y) ** 2 / 2).mean(-1).sum() + LAMP * (X**2).sum(-1).mean(-1).sum()
        (gradient,) = torch.autograd.grad(F, X)
        return X.detach() - ETA * N * gradient + float(scale) * torch.randn_like(X)

    def go(steps, lam):
        with torch.set_grad_enabled(autograd):
            return _loop(by_autograd if autograd else by_hand, start, steps, lam, together, torch.stack).numpy()

    return go


def _loop(step, start, steps, lam, together, stack):
    scale = np.float32(np.sqrt(2 * lam * ETA))

    def run(X):
        for _ in range(steps):
            X = step(X, scale)
        return X

    return run(start) if together else stack([run(X) for X in start])


# --- comparison -------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], object]) -> np.ndarray:
    """Wall time and processor time."""
    start = time.perf_counter(), time.process_time()
    call()
    return np.array([time.perf_counter(), time.process_time()]) - start


def compare(options: Options) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # JAX takes its threads from it
    import jax
    import jax.numpy as jnp
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(options.threads)
    print(
        f"{platform.machine()}, {options.threads} of {os.cpu_count()} cores; jax {jax.__version__},"
        f" torch {torch.__version__}, numpy {np.__version__}; float32"
    )
    contestants = {
        "theorysim": with_theorysim(),
        "PyTorch, networks in turn": with_torch(together=False),
        "PyTorch, batched": with_torch(together=True),
        "PyTorch, batched, autograd": with_torch(together=True, autograd=True),
        "NumPy, networks in turn": with_numpy(together=False),
        "NumPy, batched": with_numpy(together=True),
    }
    matrix = jnp.ones((4096, 4096), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(matrix))
    with threadpool_limits(options.threads):
        results = {name: run(3, 0.0) for name, run in contestants.items()}
        for name, X in results.items():
            assert np.allclose(X, results["theorysim"], atol=1e-5), name
        best = {name: np.full(2, np.inf) for name in contestants}
        loops, peak = max(options.timed // 5, 1), np.inf
        for _ in range(options.repeats):
            peak = min(peak, seconds(lambda: jax.block_until_ready(product(matrix)))[0])
            for name, run in contestants.items():
                steps = options.timed if name == "theorysim" else loops
                taken = seconds(lambda run=run, steps=steps: run(steps, LAM)) / steps
                best[name] = np.minimum(best[name], taken)
            print(f"load {os.getloadavg()[0]:.1f}", end="  ", flush=True)
    print(f"\nN={N}, n={n}, d={d}, {NETWORKS} networks, {options.steps} steps")
    ours, ours_processor = best["theorysim"]
    for name, (wall, processor) in best.items():
        print(
            f"  {name:28s} {1e3 * wall:7.1f} ms a step ({wall / ours:5.1f} x theorysim), {wall * options.steps:6.1f} s in all;"
            f" processor {1e3 * processor:7.1f} ms ({processor / ours_processor:5.1f} x)"
        )
    rate, peak = 4 * NETWORKS * N * n * d / ours / 1e9, 2 * 4096**3 / peak / 1e9
    each = ours / (NETWORKS * N * n)
    print(
        f"  theorysim: {rate:.1f} GFLOP/s in matrix products, {rate / peak:.2f} of the peak of {peak:.1f};"
        f" {1e9 * each:.2f} ns per neuron and datum"
    )


def wide(particles: int) -> None:
    """Two steps of one wide network in a process of its own, and its peak memory."""
    import jax
    import jax.numpy as jnp

    from theorysim.kernels.langevin import Model, init, run

    Z, y, _ = data()
    X = jax.random.normal(jax.random.key(1), (particles, d), jnp.float32)
    model = Model.of("tanh", "squared", Z, y, lamp=LAMP, lam=LAM)
    start = init(X)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    before = peak()
    go = jax.jit(lambda state: run(jax.random.key(0), state, model, ETA, steps=2)[0])
    compiled = go.lower(start).compile()
    taken = seconds(lambda: jax.block_until_ready(compiled(start).particles))[0] / 2
    print(
        f"N={particles}, n={n}, d={d}: peak {peak():.2f} GiB, {before:.2f} GiB before the run;"
        f" {taken:.2f} s a step, {1e9 * taken / (particles * n):.2f} ns per neuron and datum (evaluated twice)"
    )


def main(options: Options) -> None:
    if options.memory:
        subprocess.run([sys.executable, __file__, "--wide", str(options.particles)], check=True)
    else:
        compare(options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--wide"]:
        wide(int(sys.argv[2]))
    else:
        import tyro

        main(tyro.cli(Options, description=__doc__))
