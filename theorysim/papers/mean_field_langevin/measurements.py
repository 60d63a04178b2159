"""Networks trained on a problem of the paper or of one's own, with their outputs: measurements that no claim needs.

Particles are in single precision.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Int, Key

from theorysim.errors import require
from theorysim.kernels import langevin
from theorysim.papers.mean_field_langevin.dynamics import PAPER
from theorysim.papers.mean_field_langevin.own import Own
from theorysim.papers.mean_field_langevin.setting import Problem
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify.claim import Results

SINGLE = jnp.float32


@setting
class Training:
    """`networks` independent networks of N neurons after the steps `times` of size eta; outputs at the inputs `points`.

    Neurons start from N(0, lam/(2 lamp) I_d), mu* without data.
    """

    problem: Problem | Own
    N: int
    eta: float
    times: Int[np.ndarray, " K"]
    points: Float[np.ndarray, "T q"]
    networks: int = 128

    def validate(self) -> None:
        require(self.N >= 1, f"N must be at least 1, got {self.N}")
        require(0 < self.eta < np.inf, f"step size eta must be positive and finite, got {self.eta}")
        rising = len(self.times) > 0 and self.times[0] >= 0 and bool((np.diff(self.times) > 0).all())
        require(rising, f"times must be at least 0 and increase, got {self.times.tolist()}")
        require(self.networks >= 1, f"networks must be at least 1, got {self.networks}")
        q = self.problem.Z.shape[1]
        require(self.points.shape[1] == q, f"points must have dimension {q}, got {self.points.shape[1]}")


def starts(key: Key[Array, ""], setting: Training) -> Float[Array, "R N d"]:
    """Particles at the start."""
    problem = setting.problem
    deviation = jnp.sqrt(jnp.asarray(problem.lam / (2 * problem.lamp), SINGLE))
    return deviation * random.normal(key, (setting.networks, setting.N, problem.d), SINGLE)


def _train(key: Array, s: Training) -> tuple[langevin.State, Array, Array]:
    """State at the last of the times, outputs (K, R, T), and the first network's start (N, d)."""
    of_start, of_noise = random.split(key)
    model, keys, begin = s.problem.kernel(), random.split(of_noise, s.networks), starts(of_start, s)
    eta, points = jnp.asarray(s.eta, SINGLE), jnp.asarray(s.points, SINGLE)

    def interval(states: langevin.State, steps: Array) -> tuple[langevin.State, Array]:
        states, _ = langevin.run_replicas(keys, states, model, eta, steps=steps)
        return states, lax.map(lambda X: langevin.predictions(model.neuron, X, points), states.particles)

    states, h = lax.scan(interval, jax.vmap(langevin.init)(begin), jnp.diff(jnp.asarray(s.times), prepend=0))
    return states, h, begin[0]


def _outcome(states: langevin.State, h: Array, start: Array) -> dict[str, Array]:
    return {"h": h, "diverged": states.diverged, "step": states.step, "start": start}


def training(key: Key[Array, ""], setting: Training) -> dict[str, Array]:
    """h: outputs at the times, shape (K, R, T). diverged, step: of each network, see `langevin.State`, shapes (R,).
    start: of the first network, shape (N, d)."""
    return one_by_one(lambda key, s: _outcome(*_train(key, s)))(key, setting)


def pooled(key: Key[Array, ""], setting: Training) -> dict[str, Array]:
    """As `training`; mean, covariance: of h(x, .) at the points and then at the inputs Z over the neurons x of all networks at the
    last of the times, shapes (T + n,) and (T + n, T + n); curvature: l''(u_j, y_j) at that mean, shape (n,)."""

    def run(key: Array, s: Training) -> dict[str, Array]:
        states, h, start = _train(key, s)
        model = s.problem.kernel()
        inputs = jnp.concatenate([jnp.asarray(s.points, SINGLE), jnp.asarray(model.Z, SINGLE)])
        centre = jnp.mean(lax.map(lambda X: langevin.predictions(model.neuron, X, inputs), states.particles), axis=0)

        def add(total: Array, X: Array) -> tuple[Array, None]:
            phi = model.neuron.features(X, inputs)[0] - centre
            return total + jnp.matmul(phi.T, phi, precision=lax.Precision.HIGHEST), None

        total, _ = lax.scan(add, jnp.zeros((len(inputs), len(inputs)), SINGLE), states.particles)
        curvature = model.loss.curvature(centre[len(s.points) :], jnp.asarray(model.y, SINGLE))
        found = {"mean": centre, "covariance": total / (s.networks * s.N), "curvature": curvature}
        return _outcome(states, h, start) | found

    return one_by_one(run)(key, setting)


def limit_at_start(problem: Problem | Own, N: int = 256) -> float:
    """The stability limit of N neurons at the start, see `langevin.stability_limit`.

    Raises InputError where it is not positive and finite.
    """
    begin = starts(random.key(0), Training(problem, N, 1.0, np.array([0]), problem.Z, 1))[0]
    limit = float(jax.jit(langevin.stability_limit)(problem.kernel(), begin))
    require(0 < limit < np.inf, f"stability limit at the start must be positive and finite, got {limit}")
    return limit


def require_converged(setting: Training, results: Results) -> None:
    """Raise InputError if a network of any seed has diverged, naming its step and the stability limit at the start."""
    states = langevin.State(jnp.zeros(()), jnp.asarray(results["step"]), jnp.asarray(results["diverged"]))
    langevin.require_converged(states, setting.problem.kernel(), setting.eta, jnp.asarray(results["start"][0]))


def _operations(s: Training) -> float:
    n = len(s.problem.y)
    return s.networks * s.N * (8.0 * s.problem.d * n * float(np.max(s.times)) + 4.0 * s.problem.d * len(s.points))


TRAINING = Experiment(f"{PAPER}/training", training, x64=False, operations=_operations)
POOLED = Experiment(f"{PAPER}/pooled", pooled, x64=False, operations=_operations)
