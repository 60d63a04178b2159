"""Gradient descent on the logistic loss: theorysim beside a PyTorch loop and a NumPy loop, in one run, in float64.

Two shapes: XOR (n = 4, d = 2, m = 20) for 64 stepsizes, and n = 1000, d = 50, m = 100 for one. Every contestant does the same
step (leaky softplus, c = .5) and keeps the same record (the running sum of the risk). Loops are timed over fewer steps and
scaled to the full number; their time a step does not depend on t. Prints microseconds a step and ratios.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from theorysim.kernels.gradient_descent import Reduction, TwoLayer, init, problem, run

LEAK = 0.5


def data(n: int, d: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X, y, signs, W_0: XOR where n = 4, else random rows on the unit sphere labelled by a random direction."""
    rng = np.random.default_rng(0)
    if (n, d) == (4, 2):
        X = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) / np.sqrt(2)
        y = np.sign(X[:, 0] * X[:, 1])
    else:
        X = rng.normal(size=(n, d))
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        y = np.sign(X @ rng.normal(size=d))
    return X, y, np.repeat([1.0, -1.0], m // 2), rng.normal(size=(m, d))


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def with_theorysim(X, y, signs, W, etas, steps):
    """The kernel, all stepsizes in one program."""
    predictor = TwoLayer(jnp.asarray(signs), LEAK, float(len(signs)), "softplus")
    total = Reduction(0.0, lambda total, d: total + d.risk)

    def one(eta):
        start, times = init(jnp.asarray(W)), jnp.asarray([0, steps])
        instance = problem(jnp.asarray(X), jnp.asarray(y))
        return run(start, predictor, instance, eta, times=times, observe=lambda d, _: d.risk, reduction=total)[2]

    batched = jax.vmap(one) if len(etas) > 1 else lambda etas: one(etas[0])
    program = jax.jit(batched).lower(jnp.asarray(etas)).compile()
    return lambda: jax.block_until_ready(program(jnp.asarray(etas)))


def numpy_step(X, y, signs, W, eta):
    """One step, written as one would."""
    Z = X @ np.swapaxes(W, -1, -2)
    e = np.exp(-np.abs(Z))
    value = LEAK * Z + (1 - LEAK) * (np.maximum(Z, 0) + np.log1p(e))
    slope = LEAK + (1 - LEAK) * np.where(Z >= 0, 1, e) / (1 + e)
    F = y * (value @ signs) / len(signs)
    risk = np.logaddexp(0, -F).mean(-1)
    v = y / (1 + np.exp(F)) / len(y)
    return W + eta * signs[:, None] * (np.swapaxes(slope * v[..., None], -1, -2) @ X), risk


def with_numpy(X, y, signs, W, etas, steps, *, together):
    """A NumPy loop: one stepsize after another, or all in one batched step."""

    def all_at_once():
        weights = np.broadcast_to(W, (len(etas), *W.shape)) if together else W
        eta, total = (etas[:, None, None] if together else etas[0]), 0.0
        for _ in range(steps):
            weights, risk = numpy_step(X, y, signs, weights, eta)
            total = total + risk

    return all_at_once


def with_torch(X, y, signs, W, etas, steps, *, together, autograd):
    """A PyTorch loop, with autograd or with the gradient by hand; one stepsize after another, or all batched."""
    import torch

    X, y, signs, W, etas = (torch.tensor(v, dtype=torch.float64) for v in (X, y, signs, W, etas))
    softplus = torch.nn.functional.softplus

    def loss(weights):
        Z = X @ weights.transpose(-1, -2)
        F = y * ((LEAK * Z + (1 - LEAK) * softplus(Z)) @ signs) / len(signs)
        return softplus(-F).mean(-1)

    def by_autograd(weights, eta):
        weights = weights.detach().requires_grad_()
        risk = loss(weights)
        (gradient,) = torch.autograd.grad(risk.sum(), weights)
        return weights.detach() - eta * len(signs) * gradient, risk.detach()

    @torch.no_grad()
    def by_hand(weights, eta):
        Z = X @ weights.transpose(-1, -2)
        F = y * ((LEAK * Z + (1 - LEAK) * softplus(Z)) @ signs) / len(signs)
        v = torch.sigmoid(-F) * y / len(y)
        slope = LEAK + (1 - LEAK) * torch.sigmoid(Z)
        update = signs[:, None] * ((slope * v[..., None]).transpose(-1, -2) @ X)
        return weights + eta * update, softplus(-F).mean(-1)

    step = by_autograd if autograd else by_hand

    def loop():
        weights = W.expand(len(etas), *W.shape) if together else W
        eta, total = (etas[:, None, None] if together else etas[0]), 0.0
        for _ in range(steps):
            weights, risk = step(weights, eta)
            total = total + risk

    return loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of PyTorch and NumPy's BLAS")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the timed steps")
    arguments = parser.parse_args()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(arguments.threads)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}, torch {torch.__version__},"
        f" numpy {np.__version__}; {arguments.threads} threads; float64"
    )
    with jax.enable_x64(True), threadpool_limits(arguments.threads):
        for (n, d, m), count, full, ours, loops in (
            ((4, 2, 20), 64, 100_000, 20_000, 1000),
            ((1000, 50, 100), 1, 1000, 400, 100),
        ):
            X, y, signs, W = data(n, d, m)
            etas = np.geomspace(0.5, 128, count)
            ours, loops = max(1, round(ours * arguments.scale)), max(1, round(loops * arguments.scale))
            problem_data = (X, y, signs, W, etas)
            contestants = {
                "theorysim": (with_theorysim(*problem_data, ours), ours, 1),
                "PyTorch loop, autograd": (
                    with_torch(*problem_data, loops, together=False, autograd=True),
                    loops,
                    count,
                ),
                "PyTorch loop, gradient by hand": (
                    with_torch(*problem_data, loops, together=False, autograd=False),
                    loops,
                    count,
                ),
                "NumPy loop": (with_numpy(*problem_data, loops, together=False), loops, count),
            }
            if count > 1:
                contestants |= {
                    "PyTorch batched, autograd": (
                        with_torch(*problem_data, loops, together=True, autograd=True),
                        loops,
                        1,
                    ),
                    "PyTorch batched, by hand": (
                        with_torch(*problem_data, loops, together=True, autograd=False),
                        loops,
                        1,
                    ),
                    "NumPy batched": (with_numpy(*problem_data, loops, together=True), loops, 1),
                }
            micro = {
                name: 1e6 * copies * seconds(call, arguments.repeats) / steps
                for name, (call, steps, copies) in contestants.items()
            }
            print(f"\nn={n}, d={d}, m={m}, {count} stepsizes, {full} steps")
            for name, value in micro.items():
                print(
                    f"  {name:32s} {value:10.1f} us a step   {value * full / 1e6:9.1f} s in all"
                    f"   {value / micro['theorysim']:8.1f} x theorysim"
                )
            transcendental = count * n * m
            flops = count * 4 * n * m * d
            print(
                f"  theorysim: {1e3 * micro['theorysim'] / transcendental:.2f} ns per preactivation"
                f" (exp, log1p, two divisions), {flops / micro['theorysim'] / 1e3:.2f} GFLOP/s in matrix products"
            )
    assert math.isfinite(sum(micro.values()))


if __name__ == "__main__":
    main()
