"""Measurements again, in NumPy and the next precision, from the same keys: rounding is never called a counterexample.

Also the slow, plain implementation that the tests hold the compiled measurements against.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from theorysim.kernels.gradient_descent import TwoLayer
from theorysim.papers.large_stepsize_gd import measurements, reference
from theorysim.papers.large_stepsize_gd.setting import Instance, RandomInstances, RandomTwoPoint, Training

Extended = np.longdouble


def _drawn(
    setting: Training | RandomInstances | RandomTwoPoint, key: Any
) -> tuple[Instance, dict[str, np.ndarray], dict[str, Any]]:
    """The instance of a key, its description, and the arguments of `reference.trajectory` with padding removed."""
    with jax.enable_x64(True):
        instance = setting.draw(key)
        described = jax.device_get(measurements.describe_instance(instance))
    X, y, weight = map(np.asarray, instance.problem)
    rows = weight > 0
    network = instance.predictor if isinstance(instance.predictor, TwoLayer) else None
    signs = np.ones(1) if network is None else np.asarray(network.signs)
    neurons = signs != 0
    arguments = {
        "X": X[rows],
        "y": y[rows],
        "W0": np.asarray(instance.weights)[neurons],
        "a": signs[neurons],
        "eta": Extended(float(instance.eta)),
        "activation": "linear" if network is None else network.activation,
        "leak": float(described["leak"]),
        "dtype": Extended,
    }
    return instance, {name: np.asarray(value) for name, value in described.items()}, arguments


def records(setting: Training | RandomTwoPoint, key: Any) -> dict[str, np.ndarray]:
    """`measurements.records` of one sample, weights left out."""
    _, described, arguments = _drawn(setting, key)
    path = reference.trajectory(steps=setting.times[-1], **arguments)
    risk, times = path["risk"], np.asarray(setting.times)
    rises = np.flatnonzero(risk[1:] > risk[:-1]) + 1
    return described | {
        "risk": risk[times],
        "log_risk": np.log(risk[times]),
        "norm": path["norm"][times],
        "min_margin": path["min_margin"][times],
        "increases": np.asarray(len(rises)),
        "last_increase": np.asarray(rises[-1] if len(rises) else -1),
        "least_scaled_risk": np.min(np.arange(1, len(risk)) * risk[1:]),
    }


def stable_phase(setting: Training | RandomInstances, key: Any) -> dict[str, np.ndarray]:
    """`measurements.stable_phase` of one sample, from whole trajectories instead of running reductions."""
    instance, described, arguments = _drawn(setting, key)
    times = np.asarray(setting.times)
    path = reference.trajectory(steps=int(times[-1]), **arguments)
    risk, norm, margin = path["risk"], path["norm"], path["min_margin"]
    eta, n = arguments["eta"], Extended(float(instance.samples))
    kappa, beta, lam, sign = (Extended(float(getattr(instance.margin, f))) for f in ("kappa", "beta", "lam", "sign"))
    threshold = min(1 / (eta * (4 * lam**2 + 2 * beta)), 1 / (2 * np.exp(kappa + 2) * n))
    under = np.flatnonzero(risk <= threshold)
    s = int(under[0]) if len(under) else -1
    rises = np.flatnonzero(risk[1:] > risk[:-1]) + 1
    ratio = np.where(eta * lam**2 * risk[1:] < measurements.SETTLED, 0, risk[1:] / risk[:-1])
    calm = np.flatnonzero(eta * risk <= min(1 / lam**2, 1 / ((np.exp(Extended(1)) - 2) * lam**2 + beta / 2)))
    results = described | {
        "calm": np.asarray(len(calm) > 0),
        "worst_step": np.max(ratio, initial=Extended(0)),
        "worst_calm_step": np.max(ratio[calm[0] :] if len(calm) else ratio[:0], initial=Extended(0)),
        "risk_sum": np.concatenate([[0], np.cumsum(risk)])[times],
        "slope_sum": np.concatenate([[0], np.cumsum(path["slope"])])[times],
        "increases": np.asarray(len(rises)),
        "last_increase": np.asarray(rises[-1] if len(rises) else -1),
        "s": np.asarray(s),
    }
    minima = ("norm_ratio", "gc_ratio", "gbar_ratio", "lower", "middle", "upper")
    u_s = -np.log(2 * n * risk[s]) - kappa
    C = sign * Extended(4) / 3 * (n + eta * (lam**2 + beta / 2))
    results |= {
        "risk_s": risk[s] if s >= 0 else Extended(np.inf),
        "log_gc_s": np.log(u_s) - np.log(norm[s]) - C * risk[s] / u_s if s >= 0 else Extended(0),
    }
    if s < 0 or eta * lam**2 * risk[s] < measurements.SETTLED:
        absent = {f"min_{name}": Extended(np.inf) for name in minima}
        absent |= {"near_monotone": Extended(np.inf), "rate_min": Extended(np.inf), "rate_max": Extended(-np.inf)}
        return results | {name: np.asarray(value) for name, value in absent.items()}
    settled = np.flatnonzero(eta * lam**2 * risk[s + 1 :] < measurements.SETTLED)
    stop = s + 1 + int(settled[0]) if len(settled) else len(risk)
    L, W, F = risk[s:stop], norm[s:stop], margin[s:stop]
    u = -np.log(2 * n * L) - kappa
    shrink = C * L / u
    log_gc = np.log(u) - np.log(W) - shrink
    gbar = F / W
    best = np.maximum.accumulate(gbar * u / -np.log(L) * np.exp(-shrink))
    rate = (1 / L[1:] - 1 / L[0]) / (eta * np.arange(1, len(L)))
    least = lambda values: np.min(values, initial=Extended(np.inf))
    extremes = {
        "min_norm_ratio": least(W[1:] / W[:-1]),
        "min_gc_ratio": least(np.exp(np.diff(log_gc))),
        "min_gbar_ratio": least(gbar[1:] / gbar[:-1]),
        "min_lower": least(np.exp(shrink)),
        "min_middle": least(F / u),
        "min_upper": least(-np.log(L) / F),
        "near_monotone": least(gbar / best),
        "rate_min": least(rate),
        "rate_max": np.max(rate, initial=Extended(-np.inf)),
    }
    return results | {name: np.asarray(value) for name, value in extremes.items()}
