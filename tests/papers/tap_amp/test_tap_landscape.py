"""The landscape of the TAP free energy: measurements against NumPy at small size, and verdicts on reduced designs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from jax import random
from reduced_designs import Reduction, assert_told_apart

from theorysim.errors import InputError
from theorysim.papers.tap_amp import landscape, theory
from theorysim.papers.tap_amp.instance import draw
from theorysim.papers.tap_amp.landscape import Descent, Levels, LocalDescent, Monotone, Surroundings, levels
from theorysim.papers.tap_amp.setting import model
from theorysim.verify import Equivalence, Rate, Session, Threshold

SESSION = Session(preset="quick")


def smaller(setting: Any) -> Any:
    """With fewer coefficients, and levels at multiples of their reciprocal."""
    if isinstance(setting, Surroundings):
        return dataclasses.replace(setting, levels=_levels(setting.levels, 60))
    if isinstance(setting, Levels):
        return _levels(setting, 200)
    if isinstance(setting, LocalDescent | Descent):
        at, p = setting.model, 40 if isinstance(setting, LocalDescent) else 120
        return dataclasses.replace(setting, model=model(at.delta, at.sigma, p))
    return setting


def _levels(setting: Levels, p: int) -> Levels:
    at = setting.model
    return levels(at.delta, tuple(setting.deltas.tolist()), at.sigma, p)


# Of some claims a fraction of the instances counts.
MANY = (landscape.TWO_MINIMA, landscape.AMP_VS_NGD)
CHECKS = [
    (claim, Reduction(144 if claim in MANY else 32, smaller)(check))
    for claim in landscape.CLAIMS
    for check in claim.checks
]
IDS = [f"{c.id}: {k.name}" for c, k in CHECKS]


def measured(function, setting, seed=3):
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(function)(random.key(seed), setting))


def instance(setting, seed=3, dtype=np.float64):
    with jax.enable_x64(True):
        found = draw(random.key(seed), setting, dtype)
        return tuple(np.asarray(a, float) for a in (found.design.matrix, found.target, found.response))


def plain_amp(X, y, sigma, m, V, steps):
    """Bayes AMP at U3 as the paper writes it."""
    n, p = X.shape
    delta, z = n / p, y - X @ m
    for _ in range(steps):
        g = delta / (sigma**2 + V)
        lam = g * m + g / delta * X.T @ z
        law = theory.U3.tilted(lam, g)
        new = law.variance.mean()
        z = y - X @ law.mean + new * g / delta * z
        m, V = law.mean, new
    return lam, g, m, V


def hessian(X, sigma, lam, gam):
    """Of F_TAP in (m, s), block by block from the paper's formula."""
    p, delta = X.shape[1], X.shape[0] / X.shape[1]
    law = theory.U3.tilted(lam, gam)
    tau = sigma**2 + law.variance.mean()
    blocks = np.linalg.inv(
        np.stack([law.variance, law.cross_covariance, law.cross_covariance, law.square_variance], -1).reshape(-1, 2, 2)
    )
    H = np.block([[np.diag(blocks[:, i, j]) for j in (0, 1)] for i in (0, 1)])
    H[:p, :p] += X.T @ X / sigma**2 - delta / tau * np.eye(p)
    u = np.concatenate([2 * law.mean, -np.ones(p)])
    return H - delta / (2 * p * tau**2) * np.outer(u, u)


def test_levels_are_message_passing_on_the_first_rows():
    """A weighted batch over delta against one instance at a time, here in single precision."""
    setting = levels(1.5, (0.5, 1.0, 1.5), 0.4, 60)
    X, beta, y = instance(setting.model, dtype=np.float32)
    got = measured(landscape.success, setting)["mse"]
    for delta, mse in zip(setting.deltas, got, strict=True):
        n = round(delta * 60)
        _, _, m, _ = plain_amp(X[:n], y[:n], 0.4, np.zeros(60), 2 / 3, 250)
        assert mse == pytest.approx(np.mean((m - beta) ** 2), abs=2e-3)


@pytest.mark.slow
def test_the_least_eigenvalue_is_that_of_the_hessian():
    setting = Surroundings(levels(1.0, (1.0, 1.0), 0.5, 40), np.array([0.0, 0.5]))
    X, _, y = instance(setting.levels.model)
    got = measured(landscape.convexity, setting)
    assert got["converged"].all()
    lam, g, _, V = plain_amp(X, y, 0.5, np.zeros(40), 2 / 3, 500)
    np.testing.assert_allclose(got["variance"], V, rtol=1e-6)
    assert got["smallest"][0] == pytest.approx(np.linalg.eigvalsh(hessian(X, 0.5, lam, np.full(40, g)))[0], rel=2e-3)
    s = landscape.SYMMETRIC
    least = np.linalg.eigvalsh(hessian(X, 0.5, np.zeros(40), np.full(40, 2 * np.log(2 * (1 - s) / s))))[0]
    assert got["symmetric"][0] == pytest.approx(least, rel=2e-3)


def test_energies_of_the_two_minima():
    setting = levels(0.75, (0.75,), 0.4, 40)
    X, beta, y = instance(setting.model)
    got = measured(landscape.minima, setting)
    starts = ((np.zeros(40), 2 / 3), (0.99 * beta, 1e-4))
    for k, (mean, variance) in enumerate(starts):
        if not got["converged"][k]:
            continue
        lam, g, m, V = plain_amp(X, y, 0.4, mean, variance, 300)
        law = theory.U3.tilted(lam, np.full(40, g))
        divergence = np.sum(lam * m - g * law.second_moment / 2 - law.log_partition)
        fit, penalty = np.sum((y - X @ m) ** 2) / 0.32, 15 * np.log1p(V / 0.16)
        # Up to the term (n/2) log(2 pi sigma^2) of the evidence, where it is left out.
        constant = 15 * np.log(2 * np.pi * 0.16)
        energy = (divergence + fit + penalty) / 40
        assert min(abs(got["energy"][k] - energy), abs(got["energy"][k] - energy - constant / 40)) < 1e-5
    assert got["noise"] == pytest.approx((np.sum((y - X @ beta) ** 2) / 0.16 - 30) / 40)


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=IDS)
def test_claims_are_told_from_their_controls(claim, check):
    assert_told_apart(SESSION, check)


DISTORTED = [(c, k) for c, k in CHECKS if isinstance(k.judge, Equivalence | Threshold | Rate)]


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("claim", "check"), DISTORTED, ids=[f"{c.id}: {k.name}" for c, k in DISTORTED])
def test_a_prediction_eight_tolerances_off_is_refuted(claim, check, sign):
    absolute = getattr(check.judge, "absolute", False) or isinstance(check.judge, Rate)
    off = 8 * sign * check.judge.tolerance
    change = (lambda v: v + off) if absolute else (lambda v: (1 + off) * v)
    distorted = dataclasses.replace(check, predict=lambda s, i: change(np.asarray(check.predict(s, i))))
    assert SESSION.judge(distorted).status == "refuted"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: levels(0.5, (0.6,), 0.1, 50), "deltas must lie in"),
        (lambda: levels(0.5, (0.001,), 0.1, 50), "deltas must lie in"),
        (lambda: Surroundings(levels(1.0, (1.0,), 0.3, 50), np.array([0.0, 1.0])), "radii must be as many as"),
        (lambda: Surroundings(levels(1.0, (1.0,), 0.3, 50), np.array([-1.0])), "radii must be at least 0"),
        (lambda: LocalDescent(model(1.0, -0.3, 50), np.ones(1)), "sigma must be positive"),
        (lambda: Monotone(model(1.0, 0.0, 50)), "sigma must be positive"),
        (lambda: Descent(model(0.0, 0.1, 50), 0.1), "n must be at least 1"),
    ],
)
def test_inadmissible_settings(make, message):
    with pytest.raises(InputError, match=message):
        make()
