"""What the figures draw: risk, margins and counts along one run of gradient descent, at recorded times.

Everything of a run comes from one measurement, so that its curves and its switching time belong to one initialisation.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from theorysim.errors import require
from theorysim.kernels.gradient_descent import Diagnostics, Reduction, TwoLayer, init, run
from theorysim.papers.large_stepsize_gd.measurements import describe_instance
from theorysim.papers.large_stepsize_gd.setting import Training
from theorysim.sweep import setting


@setting
class Curve:
    """A run, and the risk under which its stable phase begins (zero: never).

    threshold: s is the first t with L(W_t) <= threshold.
    """

    training: Training
    threshold: float

    def validate(self) -> None:
        require(self.threshold >= 0, f"threshold of the risk must not be negative, got {self.threshold}")


def curves(key: Array, setting: Curve) -> dict[str, Array]:
    """The instance's description; at the recorded times (leading axis K) what follows; and s, last_increase, scalars.

    risk, norm, min_margin, weights: L, ||W||_F, min_i F_i and W, shape (m, d), at t.
    risk_sum: sum of L over k < t. increases: number of k <= t with L_k > L_{k-1}.
    neuron_margins: min_i a_j y_i <x_i, w_j>/||w_j|| of each neuron, shape (m,); NaN for a neuron at the origin.
    s, last_increase: first t with L_t <= threshold, last t with L_t > L_{t-1}, counted in 0..T; -1 where there is none.
    """
    instance = setting.training.draw(key)
    signs = instance.predictor.signs if isinstance(instance.predictor, TwoLayer) else jnp.ones(1)
    data = instance.problem

    def observe(d: Diagnostics, carry: Any) -> dict[str, Array]:
        risk_sum, previous, increases, _, _ = carry
        aligned = signs * data.y[:, None] * (data.X @ d.weights.T)
        return {
            "risk": d.risk,
            "norm": d.norm,
            "min_margin": d.min_margin,
            "weights": d.weights,
            "risk_sum": risk_sum,
            "increases": increases + (d.risk > previous),
            "neuron_margins": jnp.min(aligned, axis=0) / jnp.linalg.norm(d.weights, axis=1),
        }

    def update(carry: Any, d: Diagnostics) -> Any:
        risk_sum, previous, increases, last, s = carry
        rose = d.risk > previous
        first = (s < 0) & (d.risk <= setting.threshold)
        return (
            risk_sum + d.risk,
            d.risk,
            increases + rose,
            jnp.where(rose, d.step, last),
            jnp.where(first, d.step, s),
        )

    never = jnp.full((), -1, jnp.int32)
    _, trace, (_, _, _, last, s) = run(
        init(instance.weights),
        instance.predictor,
        data,
        instance.eta,
        times=jnp.asarray(setting.training.times),
        observe=observe,
        reduction=Reduction((jnp.zeros(()), jnp.asarray(jnp.inf), never + 1, never, never), update),
    )
    return describe_instance(instance) | trace | {"s": s, "last_increase": last}


def decade_times(horizon: int, per_decade: int) -> tuple[int, ...]:
    """Record times 0..horizon: about `per_decade` log-spaced ones a decade, the powers of ten and the horizon included.

    Raises InputError unless both arguments are at least 1.
    """
    require(horizon >= 1, f"horizon must be at least 1, got {horizon}")
    require(per_decade >= 1, f"times per decade must be at least 1, got {per_decade}")
    exponents = np.arange(int(np.log10(horizon) * per_decade) + 1) / per_decade
    times = np.round(10**exponents).astype(int)
    return (0, *(int(t) for t in np.unique([*times[times < horizon], horizon])))
