"""Pretrained models on tasks of any link, as figures and experiments need them: measurements that no claim needs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Key

from theorysim.errors import require
from theorysim.kernels import decoder, kernel_ridge, prompt_network, prompts
from theorysim.kernels import linear_attention as attention
from theorysim.papers.single_index_icl.regression import PAPER, points, prior
from theorysim.papers.single_index_icl.setting import Tasks
from theorysim.papers.single_index_icl.trained import BIAS, NORM, RIDGES
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify.claim import Results

SINGLE = jnp.float32


# --- linear attention in two stages -----------------------------------------------------------------------------------


@setting
class Training:
    """Linear attention pretrained on T1 prompts of length N1 (Stage I) and T2 of length N2 (Stage II), m neurons, tested on `tests`
    prompts of each of the lengths with `queries` queries each.

    bias: of the neurons in Stage I.
    """

    tasks: Tasks
    T1: float
    lengths: tuple[int, ...]
    bias: float = 0.0
    N1: int = 64
    m: int = 96
    T2: int = 1500
    N2: int = 256
    tests: int = 128
    queries: int = 32

    def validate(self) -> None:
        require(self.T1 >= 1, f"number of tasks T1 must be at least 1, got {self.T1}")
        require(len(self.lengths) > 0 and min(self.lengths) >= 1, f"lengths must be at least 1, got {self.lengths}")
        for name in ("N1", "m", "T2", "N2", "queries"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        require(self.tests >= 2 and self.tests % 2 == 0, f"tests must be even and at least 2, got {self.tests}")


def training(key: Key[Array, ""], setting: Training) -> dict[str, Array]:
    """risk: E (f_hat - f)^2 of each half of the tests, length and ridge lambda2, shape (2, lengths, ridges).

    inside, full: sum_j |Pi w_j|^2 and sum_j |w_j|^2 after Stage I.
    """

    def run(key: Array, s: Training) -> dict[str, Array]:
        keys, law = random.split(key, 5), s.tasks.law()
        W = attention.rescale(random.normal(keys[0], (s.m, s.tasks.d), SINGLE), 1.0)
        b = jnp.full(s.m, s.bias, SINGLE)
        g = attention.stage_one(keys[1], law, W, b, prompts=jnp.asarray(s.T1).astype(jnp.int32), length=s.N1).mean
        W = attention.rescale(g, NORM)
        b = random.uniform(keys[2], (s.m,), SINGLE, -BIAS, BIAS)
        seen = attention.features(keys[3], law, W, b, prompts=s.T2, length=s.N2)
        seen = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), seen)
        Gamma = attention.ridge_dual(seen, jnp.asarray(RIDGES))

        longest = max(s.lengths)
        draw = prompts.sampler(keys[4], law, length=longest + s.queries - 1)

        def test(number: Array) -> Float[Array, "lengths ridges"]:
            X, y, f, _, _ = jax.tree.map(lambda leaf: leaf[0], draw(number[None]))
            phi = jax.nn.relu(X @ W.T + b).astype(jnp.float64)
            psi = jnp.stack([y[:N] @ phi[:N] / N for N in s.lengths])
            f_hat = jnp.einsum("qm,kmn,ln->lkq", phi[longest:], Gamma, psi)
            return jnp.mean((f_hat - f[longest:]) ** 2, axis=2)

        risk = lax.map(test, jnp.arange(s.tests), batch_size=32)
        power = jnp.sum(g.astype(jnp.float64) ** 2, axis=0)
        return {
            "risk": jnp.mean(risk.reshape(2, -1, *risk.shape[1:]), axis=1),
            "inside": jnp.sum(power[: s.tasks.r]),
            "full": jnp.sum(power),
        }

    return one_by_one(run)(key, setting)


TRAINING = Experiment(
    f"{PAPER}/training",
    training,
    operations=lambda s: (
        20.0 * s.N1 * s.T1 * (s.m + 8) * s.tasks.d
        + len(RIDGES) * s.T2**3 / 3
        + 4.0 * (s.T2 * s.N2 + s.tests * max(s.lengths)) * s.tasks.d * s.m
    ),
)


def risk_held_out(results: Results) -> Float[np.ndarray, "S lengths"]:
    """Risk on each half of the tests at the ridge that is best on the other half, their mean."""
    risk = results["risk"]
    chosen = risk[:, ::-1].argmin(-1)[..., None]
    return np.take_along_axis(risk, chosen, -1)[..., 0].mean(1)


def alignment_of(results: Results) -> Float[np.ndarray, " S"]:
    """sum_j |Pi w_j|^2/sum_j |w_j|^2 over neurons and seeds, see `ratio`."""
    return ratio(results["inside"], results["full"])


def ratio(numerator: Float[np.ndarray, " S"], denominator: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """Jackknife pseudo-values of sum numerator/sum denominator: samples whose mean is the ratio of sums, less its bias of order
    1/S."""
    S = len(numerator)
    whole = numerator.sum() / denominator.sum()
    if S == 1:
        return np.array([whole])
    without = (numerator.sum() - numerator) / (denominator.sum() - denominator)
    return S * whole - (S - 1) * without


# --- learners of the prompt alone -------------------------------------------------------------------------------------


@setting
class Alone:
    """Kernel regressions on prompts of each of the lengths.

    ridge: of the RBF kernel exp(-|x - x'|^2/(2 d)), on the unnormalised kernel matrix.
    """

    tasks: Tasks
    lengths: tuple[int, ...]
    ridge: float = 0.01
    queries: int = 64

    def validate(self) -> None:
        require(len(self.lengths) > 0 and min(self.lengths) >= 1, f"lengths must be at least 1, got {self.lengths}")
        require(self.queries >= 1, f"queries must be at least 1, got {self.queries}")
        require(self.ridge > 0, f"ridge must be positive, got {self.ridge}")
        require(
            self.tasks.tau > 0, f"tau must be positive, got {self.tasks.tau}: the linear optimum has the ridge tau^2"
        )


def alone(key: Key[Array, ""], setting: Alone) -> dict[str, Array]:
    """Risks given the inputs, exact in direction, link and noise, shapes (lengths,).

    ridge: of regression with the RBF kernel. unknown, known: of the linear optimum, for directions on the sphere of R^d and in
    the subspace.
    """

    def run(key: Array, s: Alone) -> dict[str, Array]:
        tasks, longest = s.tasks, max(s.lengths)
        X, Z = jnp.split(points(key, tasks, longest + s.queries), [longest])
        everywhere, inside = (prior(Tasks(tasks.d, r, tasks.link, tasks.tau)) for r in (tasks.d, tasks.r))
        rbf, noise = kernel_ridge.rbf(float(tasks.d)), tasks.tau**2

        def of_length(N: int) -> dict[str, Array]:
            weights = kernel_ridge.smoother(X[:N], Z, rbf, s.ridge)
            optimum = lambda law: kernel_ridge.posterior(X[:N], jnp.zeros(N), Z, law, noise).variance
            risks = {
                "ridge": kernel_ridge.smoother_risk(weights, X[:N], Z, everywhere, noise),
                "unknown": optimum(everywhere),
                "known": optimum(inside),
            }
            return {name: jnp.mean(risk) for name, risk in risks.items()}

        found = [of_length(N) for N in s.lengths]
        return {name: jnp.stack([risks[name] for risks in found]) for name in found[0]}

    return one_by_one(run)(key, setting)


ALONE = Experiment(
    f"{PAPER}/alone",
    alone,
    operations=lambda s: sum(1.5 * N**3 + 100.0 * N**2 + 12.0 * N**2 * s.queries for N in s.lengths),
)


@setting
class Network:
    """A two-layer network trained on the first n examples of one prompt of a number that n divides.

    n: is traced, so that all lengths share a program; each then costs as much as the longest.
    """

    tasks: Tasks
    n: float
    longest: int
    steps: int = 1500
    width: int = 256
    queries: int = 512

    def validate(self) -> None:
        require(self.n >= 1 and self.longest % self.n == 0, f"n must divide {self.longest}, got {self.n:g}")
        for name in ("steps", "width", "queries"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")


def network(key: Key[Array, ""], setting: Network) -> dict[str, Array]:
    """risk: over the queries of one task."""

    def run(key: Array, s: Network) -> dict[str, Array]:
        of_task, of_network = random.split(key)
        draw = prompts.sampler(of_task, s.tasks.law(), length=s.longest + s.queries - 1)
        X, y, f, _, _ = jax.tree.map(lambda leaf: leaf[0], draw(jnp.zeros(1, jnp.uint32)))
        # The mean over equally many copies of each example is the mean over the examples.
        rows = jnp.arange(s.longest) % jnp.asarray(s.n).astype(jnp.int32)
        start = jax.tree.map(SINGLE, prompt_network.init(of_network, s.tasks.d, width=s.width))
        trained, _ = prompt_network.train(start, X[rows], y[rows], steps=s.steps)
        return {"risk": jnp.mean((prompt_network.predict(trained, X[s.longest :]) - f[s.longest :]) ** 2)}

    return one_by_one(run)(key, setting)


NETWORK = Experiment(f"{PAPER}/network", network, operations=lambda s: 6.0 * s.longest * s.tasks.d * s.width * s.steps)


# --- decoders ---------------------------------------------------------------------------------------------------------


@setting
class Decoding:
    """A decoder with softmax attention trained on `steps` batches of prompts of N = examples, and tested on `tests` of them."""

    tasks: Tasks
    examples: int
    width: int = 256
    layers: int = 12
    heads: int = 8
    steps: int = 200_000
    batch: int = 64
    rate: float = 1e-4
    tests: int = 2048

    def validate(self) -> None:
        require(self.steps >= 1, f"steps must be at least 1, got {self.steps}")
        require(self.batch >= 1, f"batch must be at least 1, got {self.batch}")
        require(self.rate > 0, f"rate must be positive, got {self.rate}")
        self.config()

    def config(self) -> decoder.Config:
        """Of the decoder."""
        return decoder.Config(self.tasks.d, self.examples, self.width, self.layers, self.heads)

    @property
    def warm_up(self) -> int:
        """Steps in which the learning rate grows."""
        return max(1, min(1000, self.steps // 4))


def decoding(key: Key[Array, ""], setting: Decoding) -> dict[str, Array]:
    """risk, error: E (f_hat - f)^2 after 0, 1, ..., N - 1 examples, and its standard error over the test prompts, shapes (N,)."""

    def run(key: Array, s: Decoding) -> dict[str, Array]:
        of_training, of_tests = random.split(key)
        law, config, optimizer = s.tasks.law(), s.config(), decoder.adam(s.rate, warm_up=s.warm_up)
        start = decoder.init(of_training, config, optimizer)
        state, _ = decoder.advance(of_training, start, law, s.steps, config=config, optimizer=optimizer, batch=s.batch)
        return decoder.risk(of_tests, state.params, config, law, prompts=s.tests)._asdict()

    return one_by_one(run)(key, setting)


DECODING = Experiment(
    f"{PAPER}/decoding",
    decoding,
    x64=False,
    operations=lambda s: 6.0 * 12 * s.width**2 * s.layers * 2 * s.examples * s.batch * s.steps,
)
