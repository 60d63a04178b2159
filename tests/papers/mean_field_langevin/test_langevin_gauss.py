"""The linear-Gaussian closed forms against matrix recursions, integrals, simulation and reference values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag, sqrtm

from theorysim.errors import InputError
from theorysim.papers.mean_field_langevin.theory import gauss
from theorysim.papers.mean_field_langevin.theory import mean_field as theory

MODEL = theory.gauss()
G = gauss.gaussian_model(MODEL)
START, WIDE = np.array([1.0, 1.0, -1.0]), 2.0


def close(value, *reference):
    """Each value is the reference, printed to so many decimals."""
    for v, text in zip(np.ravel(value), reference, strict=True):
        assert abs(float(text) - v) <= 0.51 * 10.0 ** -len(text.partition(".")[2]), (text, v)


def test_reference_values():
    close(G.s, "0.45571039", "0.55569318", "1.12459643")
    close(G.kappa, "0.17649332597875")
    close(G.transport, "0.19867")
    close(2 * G.kl / G.alpha, "0.49601")
    close(2 * G.kappa / (G.alpha * G.lam), "1.17662")
    close(gauss.gaussian_gap(G, 8, gauss.stationary_moments(G, 0.2)), "0.0222464959009")
    steps = np.array([0, 1, 5, 20, 100])
    gap = gauss.gaussian_gap(G, 8, gauss.chain_moments(G, 0.2, steps, START, WIDE))
    close(gap, "1.953251951158", "1.294103434021", "0.350156547176", "0.032847540772", "0.022246578545")
    close(gauss.excess_limit(G, 8), "0.0040803")
    assert G.stability_limit == pytest.approx(2 / (0.3 + 1.12459643), rel=1e-8)


@pytest.mark.parametrize("size", [1, 4])
def test_moments_by_the_full_recursion(size):
    """x -> x - eta b in R^{Nd} as one matrix: means and covariances of all N d coordinates."""
    eta, steps, d = 0.3, 7, 3
    S = MODEL.Z.T @ MODEL.Z / MODEL.n
    drift = np.kron(np.ones((size, size)) / size, S) + 0.3 * np.eye(size * d)
    force = np.tile(MODEL.Z.T @ MODEL.y / MODEL.n, size)
    mean, covariance = np.tile(START, size), WIDE * np.eye(size * d)
    drifts = []
    for _ in range(steps):
        b = drift @ mean - force
        drifts.append((b @ b + np.trace(drift @ covariance @ drift)) / size)
        step = np.eye(size * d) - eta * drift
        mean, covariance = mean - eta * b, step @ covariance @ step.T + 2 * 0.1 * eta * np.eye(size * d)
    moments = gauss.chain_moments(G, eta, np.array(steps), START, WIDE)
    np.testing.assert_allclose(moments.mean, mean[:d], rtol=1e-12)
    own, cross = gauss.gaussian_covariance(G, size, moments)
    np.testing.assert_allclose(own, covariance[:d, :d], atol=1e-13)
    if size > 1:
        np.testing.assert_allclose(cross, covariance[:d, d : 2 * d], atol=1e-13)
    z = np.array([[1.0, -2.0, 0.5]])
    average = np.tile(z, size) / size
    variance = gauss.output_variance(G, moments, z)
    np.testing.assert_allclose(variance / size, (average @ covariance @ average.T)[0], rtol=1e-12)
    trajectory = gauss.chain_moments(G, eta, np.arange(steps), START, WIDE)
    np.testing.assert_allclose(gauss.drift_bound(G, size, trajectory), drifts, rtol=1e-12)


def direct_objective(size, mean, covariance):
    """L^N(P)/N = E F(rho_X) + (lam/N) Ent(P) of a Gaussian law of all N d coordinates."""
    average = np.kron(np.ones((1, size)) / size, np.eye(3))
    m, C = average @ mean, average @ covariance @ average.T
    risk = ((MODEL.Z @ m - MODEL.y) ** 2 + np.einsum("ni,ij,nj->n", MODEL.Z, C, MODEL.Z)).mean() / 2
    square = (mean @ mean + np.trace(covariance)) / size
    entropy = -np.linalg.slogdet(2 * np.pi * np.e * covariance)[1] / 2
    return risk + MODEL.lamp * square + MODEL.lam / size * entropy


@pytest.mark.parametrize("size", [1, 2, 5])
def test_gap_is_the_difference_of_objectives(size):
    moments = gauss.chain_moments(G, 0.4, np.array(3), START, WIDE)
    own, cross = gauss.gaussian_covariance(G, size, moments)
    covariance = np.kron(np.eye(size), own - cross) + np.kron(np.ones((size, size)), cross)
    optimum = direct_objective(1, G.theta, G.variance * np.eye(3)) - _one_neuron_excess()
    gap = direct_objective(size, np.tile(moments.mean, size), covariance) - optimum
    assert gauss.gaussian_gap(G, size, moments) == pytest.approx(gap, abs=1e-13)
    kl = gauss.gaussian_kl(G, size, moments)
    difference = np.tile(moments.mean - G.theta, size)
    exact = np.trace(covariance) / G.variance - 3 * size + difference @ difference / G.variance
    exact += 3 * size * np.log(G.variance) - np.linalg.slogdet(covariance)[1]
    assert kl == pytest.approx(exact / 2, rel=1e-12)


def _one_neuron_excess():
    """L^1 of the law mu* exceeds L(mu*) by the variance of one neuron's output, (1/2n) sum_j Var h(x, z_j)."""
    return G.variance * np.trace(MODEL.Z @ MODEL.Z.T) / (2 * MODEL.n)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_gibbs_law(size):
    """P* from its precision matrix: covariance, Delta_N, KL and W_2^2."""
    S = MODEL.Z.T @ MODEL.Z / MODEL.n
    precision = (np.kron(np.ones((size, size)) / size, S) + 0.3 * np.eye(3 * size)) / MODEL.lam
    covariance = np.linalg.inv(precision)
    moments = gauss.stationary_moments(G)
    own, cross = gauss.gaussian_covariance(G, size, moments)
    np.testing.assert_allclose(own, covariance[:3, :3], atol=1e-14)
    if size > 1:
        np.testing.assert_allclose(cross, covariance[:3, 3:6], atol=1e-14)
        shrunk = np.eye(3) - np.linalg.inv(np.eye(3) + S / 0.3)
        np.testing.assert_allclose(cross, -G.variance / size * shrunk, atol=1e-14)
    assert gauss.gaussian_gap(G, size, moments) == pytest.approx(G.kappa / size, abs=1e-15)
    assert gauss.gaussian_kl(G, size, moments) == pytest.approx(G.kl, abs=1e-14)
    product = block_diag(*[G.variance * np.eye(3)] * size)
    transport = np.trace(covariance + product - 2 * np.real(sqrtm(covariance @ product)))
    assert G.transport == pytest.approx(transport, abs=1e-12)
    optimum_bounds = 2 * G.kl / G.alpha, 2 * G.kappa / (G.alpha * G.lam), 2 * G.gap_bound / (G.alpha * G.lam)
    assert G.transport < optimum_bounds[0] < optimum_bounds[1] < optimum_bounds[2]
    assert G.transport > 2 * G.kl / (6 * G.alpha)


def test_noisy_gradient_descent():
    """4000 replicas of N = 4, fixed seed: five standard errors, false alarms below 1e-4."""
    rng, size, eta, replicas = np.random.default_rng(6), 4, 0.2, 4000
    x = START + np.sqrt(WIDE) * rng.standard_normal((replicas, size, 3))
    for _ in range(20):
        residual = x.mean(1) @ MODEL.Z.T - MODEL.y
        drift = (residual @ MODEL.Z / MODEL.n)[:, None] + 2 * MODEL.lamp * x
        x = x - eta * drift + np.sqrt(2 * MODEL.lam * eta) * rng.standard_normal(x.shape)
    moments = gauss.chain_moments(G, eta, np.array(20), START, WIDE)
    modes = (x.mean(1) - moments.mean) @ G.vectors
    error = np.sqrt(moments.mode / size / replicas)
    assert (np.abs(modes.mean(0)) < 5 * error).all()
    ratio = size * (modes**2).mean(0) / moments.mode
    assert (np.abs(ratio - 1) < 5 * np.sqrt(2 / replicas)).all()
    orthogonal = (x - x.mean(1, keepdims=True)).var() * size / (size - 1)
    assert abs(orthogonal / moments.orthogonal - 1) < 5 * np.sqrt(2 / (replicas * 9))


def test_small_steps_follow_the_flow():
    time, eta = np.array([0.0, 0.5, 3.0]), 1e-5
    flow = gauss.flow_moments(G, time, START, WIDE)
    chain = gauss.chain_moments(G, eta, np.round(time / eta).astype(int), START, WIDE)
    for a, b in zip(flow, chain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_excess_of_the_stationary_gap():
    eta = np.array([0.02, 0.01])
    excess = [(gauss.gaussian_gap(G, 8, gauss.stationary_moments(G, e)) - G.kappa / 8) / e**2 for e in eta]
    assert 2 * excess[1] - excess[0] == pytest.approx(gauss.excess_limit(G, 8), rel=1e-4)
    at = gauss.gaussian_gap(G, 8, gauss.stationary_moments(G, 0.05)) - G.kappa / 8
    close(at / 0.05**2, "0.00420")


RATIOS = {0.5: (0.137, 0.195), 0.2: (0.545, 0.589), 0.05: (0.884, 0.894)}


@pytest.mark.parametrize("eta", RATIOS)
def test_discrete_bound(eta):
    steps = np.arange(2000)
    for size in (2, 8, 64):
        moments = gauss.chain_moments(G, eta, steps, START, WIDE)
        gap = gauss.gaussian_gap(G, size, moments) - G.kappa / size
        bound = gauss.chain_bound(G, eta, steps, gap[0], gauss.drift_bound(G, size, moments).max())
        assert (gap <= bound).all()
        low, high = RATIOS[eta]
        assert low - 6e-4 <= (gap / bound)[1:].max() <= high + 6e-4


def test_floor_needs_the_discretisation_term():
    stationary = gauss.stationary_moments(G, 0.5)
    excess = [gauss.gaussian_gap(G, size, stationary) - G.kappa / size for size in (2, 8, 64)]
    close(excess, "0.0044", "0.00146", "0.00059")


def test_continuous_bound():
    """Rate 2 alpha lam holds; the gap decays with 4 alpha lam, so that a larger rate fails."""
    time = np.linspace(0, 20, 2001)
    for size in (2, 8, 64):
        gap = gauss.gaussian_gap(G, size, gauss.flow_moments(G, time, START, WIDE)) - G.kappa / size
        assert (gap[1:] < gauss.flow_bound(G, time[1:], gap[0])).all()
        assert (gap / gauss.flow_bound(G, 2.5 * time, gap[0])).max() > 100
        assert -np.log(gap[-1] / gap[-101]) == pytest.approx(4 * G.a0, rel=0.01)


@settings(max_examples=30)
@given(eta=st.floats(0.01, 1.4), size=st.integers(1, 50), variance=st.floats(0.05, 5), steps=st.integers(0, 400))
def test_gap_is_at_least_that_of_the_gibbs_law(eta, size, variance, steps):
    gap = gauss.gaussian_gap(G, size, gauss.chain_moments(G, eta, np.array(steps), START, variance))
    assert gap >= G.kappa / size - 1e-13


def test_rejects():
    with pytest.raises(InputError, match="linear neurons"):
        gauss.gaussian_model(theory.tanh1d())
    for eta in (0.0, -0.1, 1.41):
        with pytest.raises(InputError, match="step size eta must lie in"):
            gauss.chain_moments(G, eta, np.array(1), START, WIDE)
