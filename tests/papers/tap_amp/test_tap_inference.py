"""State evolution and calibration: measurements against NumPy at small size, and verdicts on reduced designs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from reduced_designs import Reduction, assert_told_apart

from theorysim.errors import InputError
from theorysim.papers.tap_amp import inference, theory
from theorysim.papers.tap_amp.inference import CLAIMS, LEVELS, Marginals, Trajectory
from theorysim.papers.tap_amp.instance import draw
from theorysim.papers.tap_amp.setting import Atoms, LinearModel, SpikeAndSlab, model, three_point
from theorysim.verify import Law, Session

SESSION = Session(preset="quick")


def smaller(setting: Any) -> Any:
    at = setting.model
    return dataclasses.replace(setting, model=model(at.delta, at.sigma, 200, at.prior, at.entries))


REDUCED = Reduction(seeds=48, change=smaller, settings=1)
CHECKS = [(claim, REDUCED(check)) for claim in CLAIMS for check in claim.checks]
IDS = [f"{c.id}: {k.name}" for c, k in CHECKS]
SMALL = model(0.75, 0.4, 40)


def measured(function: Any, setting: Any, count: int = 3) -> dict[str, np.ndarray]:
    with jax.enable_x64(True):
        keys = random.split(random.key(3), count)
        return jax.device_get(jax.jit(jax.vmap(function, in_axes=(0, None)))(keys, setting))


def drawn(setting: LinearModel, count: int = 3) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """X, beta0 and y of the same keys, in float64."""
    with jax.enable_x64(True):
        found = [draw(key, setting, jnp.float32) for key in random.split(random.key(3), count)]
        return [tuple(np.asarray(a, float) for a in (i.design.matrix, i.target, i.response)) for i in found]


def plain_amp(X, y, sigma, steps, denoise, variance0, coefficient):
    """AMP as the paper writes it, in NumPy."""
    n, p = X.shape
    delta, m, V, z = n / p, np.zeros(p), variance0, y.copy()
    history = []
    for _ in range(steps):
        g = delta / (sigma**2 + V)
        t = denoise(g * m + g / delta * X.T @ z, g)
        new = t.variance.mean()
        z = y - X @ t.mean + coefficient(new, V, sigma**2 + V) * z
        m, V = t.mean, new
        history.append((m, V))
    return history


@pytest.mark.parametrize("entries", ["gaussian", "rademacher"])
def test_noise_has_its_variance_and_shares_nothing_with_design_and_signal(entries):
    setting, count = model(0.75, 0.4, 20, entries=entries), 2000
    with jax.enable_x64(True):
        keys = random.split(random.key(5), count)
        X, beta, y = jax.device_get(jax.jit(jax.vmap(lambda key: draw(key, setting)))(keys))
    noise = (y - np.einsum("snp,sp->sn", X.matrix, beta)) / 0.4
    assert abs(noise.var() - 1) < 5 * np.sqrt(2 / noise.size)
    for other in (beta, X.matrix.reshape(count, -1)):  # 4800 correlations, one beyond 5.5 s.e. with probability 2e-4
        assert np.abs(noise.T @ other).max() < 5.5 * other.std() * np.sqrt(count)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reaction", "coefficient"),
    [
        ("exact", lambda new, old, tau: new / tau),
        ("none", lambda new, old, tau: 0.0),
        ("previous-variance", lambda new, old, tau: old / tau),
        ("next-precision", lambda new, old, tau: new / (0.16 + new)),
        ("without-delta", lambda new, old, tau: 0.75 * new / tau),
    ],
)
def test_trajectories_are_those_of_plain_amp(reaction, coefficient):
    got = measured(inference.trajectory, Trajectory(SMALL, steps=6, reaction=inference.REACTIONS[reaction]))
    prior = inference.prior_of(SMALL)
    for k, (X, beta, y) in enumerate(drawn(SMALL)):
        history = plain_amp(X, y, 0.4, 6, prior.tilted, prior.variance, coefficient)
        np.testing.assert_allclose(got["mse"][k], [np.mean((m - beta) ** 2) for m, _ in history], rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(got["variance"][k], [V for _, V in history], rtol=2e-3, atol=1e-5)


def test_marginals_are_a_stationary_point_and_their_scores_are_right():
    got = measured(inference.marginals, Marginals(SMALL), 8)
    assert got["converged"].any()
    prior = inference.prior_of(SMALL)
    for k, (X, beta, y) in enumerate(drawn(SMALL, 8)):
        if not got["converged"][k]:
            continue
        history = plain_amp(X, y, 0.4, 400, prior.tilted, prior.variance, lambda new, old, tau: new / tau)
        m, V = history[-1]
        np.testing.assert_allclose(got["mse"][k], np.mean((m - beta) ** 2), atol=1e-3)
        np.testing.assert_allclose(got["variance"][k], V, atol=1e-3)
        pit = got["pit"][k]
        np.testing.assert_allclose(got["coverage"][k], [np.mean(np.abs(pit - 0.5) < c / 2) for c in LEVELS])
        grid = np.arange(40) / 40
        assert got["ks"][k] == pytest.approx(40**0.5 * max((pit - grid).max(), (grid + 1 / 40 - pit).max()), rel=1e-4)
        assert got["event"][k].sum() == pytest.approx(1)


def test_mean_field_marginals_are_its_fixed_point():
    got = measured(inference.marginals, Marginals(SMALL, "mean-field"))
    prior = inference.prior_of(SMALL)
    for k, (X, beta, y) in enumerate(drawn(SMALL)):
        gam, m = (X**2).sum(0) / 0.16, np.zeros(40)
        for _ in range(300):
            for j in range(40):
                m[j] = prior.tilted(gam[j] * m[j] + X[:, j] @ (y - X @ m) / 0.16, gam[j]).mean
        assert got["mse"][k] == pytest.approx(np.mean((m - beta) ** 2), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=IDS)
def test_claims_are_told_from_their_controls(claim, check):
    assert_told_apart(SESSION, check)


@pytest.mark.parametrize(
    ("claim", "check"),
    [(c, k) for c, k in CHECKS if not isinstance(k.judge, Law)],
    ids=[i for i, (_, k) in zip(IDS, CHECKS, strict=True) if not isinstance(k.judge, Law)],
)
def test_a_planted_distortion_is_refuted(claim, check):
    shift = 5 * check.judge.tolerance if check.judge.absolute else 0.0
    planted = dataclasses.replace(
        check, predict=lambda s, i: (1.0 if shift else 1.5) * np.asarray(check.predict(s, i)) + shift
    )
    assert SESSION.judge(planted).status == "refuted"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearModel(0, 5, 0.1, three_point(0.5)), "n must be at least 1, got 0"),
        (lambda: LinearModel(5, 5, 0.0, three_point(0.5)), "noise sigma must be positive"),
        (lambda: Atoms(np.array([0.0, 1.0]), np.array([0.5, 0.6])), "weights must sum to one"),
        (lambda: SpikeAndSlab(1.5), "rho must lie in"),
        (lambda: Trajectory(SMALL, steps=0), "steps must be at least 1"),
        (lambda: Marginals(model(1.0, 0.3, 10, SpikeAndSlab(0.2))), "prior of the marginals must have the atoms"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_predictions_are_the_state_evolution_of_the_theory():
    setting = Trajectory(model(1.0, 0.3, 100))
    expected = [0.341964, 0.242108, 0.199334]
    np.testing.assert_allclose(inference._predicted_errors(setting, {})[:3], expected, atol=6e-7)
    assert theory.gamma_alg(inference.prior_of(setting.model), 1.0, 0.3) == pytest.approx(4.068899395, abs=1e-8)
