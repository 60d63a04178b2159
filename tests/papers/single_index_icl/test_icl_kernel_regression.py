"""Learning curves and prompt-only bounds against integral equations, simulated regression, exact algebra and known values."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import bisect
from scipy.special import eval_hermitenorm

from theorysim.errors import InputError
from theorysim.papers.single_index_icl.theory import zonal
from theorysim.papers.single_index_icl.theory.attention_floor import attention_floor, polar_grid
from theorysim.papers.single_index_icl.theory.kernel_regression import (
    Spectrum,
    gaussian_spectrum,
    plateau_risk,
    prior_spectrum,
    ridge_regression_risk,
    sphere_power,
    sphere_spectrum,
    step_risk,
)
from theorysim.papers.single_index_icl.theory.links import HE2, HE3, HE4, MIX, polynomial
from theorysim.papers.single_index_icl.theory.prompt_only import (
    correlational_bound,
    excess_absolute_risk,
    large_prompt_limits,
    linear_optimum,
    smoother_risk,
)

CORRELATED = polynomial([0, 0, 1, 0, np.sqrt(12)])


def shown(reference, value):
    """The reference, printed to so many decimals, is the value rounded."""
    decimals = len(reference.partition(".")[2])
    return abs(float(reference) - value) <= 0.51 * 10.0**-decimals


# --- known values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spectrum", "link", "d", "values"),
    [
        (sphere_spectrum, HE2, 8, {16: ".7509", 32: ".4192", 64: ".1125", 128: ".0208"}),
        (sphere_spectrum, HE2, 16, {64: ".7152", 128: ".3753", 256: ".1072", 512: ".0219"}),
        (sphere_spectrum, HE2, 32, {256: ".6671", 512: ".3539", 1024: ".1067", 2048: ".0231"}),
        (sphere_spectrum, HE3, 16, {128: ".8547", 256: ".7588", 512: ".4850"}),
        (sphere_spectrum, HE3, 32, {2048: ".7557"}),
        (gaussian_spectrum, HE2, 16, {64: ".883", 128: ".509", 256: ".196", 512: ".0785", 2048: ".0415"}),
        (gaussian_spectrum, HE2, 32, {64: "1.204", 256: ".748", 512: ".418", 2048: ".0499"}),
    ],
)
def test_reference_ridge_regression(spectrum, link, d, values):
    risk = ridge_regression_risk(np.array(list(values)), spectrum(link, d), 0.01, 0.1)
    assert all(map(shown, values.values(), risk))


@pytest.mark.parametrize(
    ("r", "values"),
    [
        (8, {16: ".529", 64: ".0125", 256: ".0016"}),
        (16, {16: ".8605", 64: ".515", 256: ".0111", 1024: ".0015"}),
        (32, {64: ".863", 128: ".743", 256: ".511"}),
    ],
)
def test_reference_linear_optimum_equivalents(r, values):
    risk = ridge_regression_risk(np.array(list(values)), prior_spectrum(HE2, r), 0.01, 0.1)
    assert all(map(shown, values.values(), risk))


def test_reference_staircase():
    table = {
        0.5: (".69426", ".65568", ".63141", ".61810", ".61117", ".60763", ".60405"),
        1: (".34934", ".34091", ".33729", ".33561", ".33481", ".33441", ".33402"),
        2: (".09499", ".10031", ".10376", ".10570", ".10673", ".10726", ".10779"),
    }
    for alpha, (*values, limit) in table.items():
        found = [
            ridge_regression_risk(int(alpha * zonal.multiplicity(2, d)), sphere_spectrum(HE2, d), 0.01, 0.1)
            for d in (16, 32, 64, 128, 256, 512)
        ]
        assert all(map(shown, values, found))
        end = step_risk(alpha, HE2, 2, 0.01, 0.1)
        assert shown(limit, end)
        gaps = np.abs(np.array(found[2:]) - end)
        np.testing.assert_allclose(gaps[:-1] / gaps[1:], 2, atol=0.15)  # corrections are of order 1/d


# --- deterministic equivalent -----------------------------------------------------------------------------------------


def test_fixed_point():
    spectrum = Spectrum(np.array([1.0, 0.1, 0.003]), np.array([1.0, 20.0, 500.0]), np.array([0.2, 0.5, 0.3]))
    n, ridge, tau = 60, 0.05, 0.3
    lam, mu, V = spectrum
    kappa = bisect(lambda k: np.sum(mu * lam / (lam + k)) + ridge / k - n, 1e-6, 10, xtol=1e-15)
    learned = lam / (lam + kappa)
    expected = n / (n - mu @ learned**2) * ((1 - learned) ** 2 @ V + tau**2) - tau**2
    assert ridge_regression_risk(n, spectrum, ridge, tau) == pytest.approx(expected, rel=1e-10)


def test_ridge_regression_on_gaussian_features():
    """phi ~ N(0, diag(lam)), target theta.phi with theta drawn so that eigenspaces have power V: the setting of the theory."""
    generator = np.random.default_rng(0)
    mu = np.array([10, 60, 300])
    lam, V = np.array([0.05, 0.005, 0.0005]), np.array([0.5, 0.4, 0.1])
    scale, power = np.repeat(lam, mu), np.repeat(V / mu, mu)
    n, ridge, tau, risks = 80, 0.02, 0.2, []
    for _ in range(60):
        z = generator.normal(size=(n, mu.sum()))
        features = z * np.sqrt(scale)
        dual = np.linalg.solve(features @ features.T + ridge * np.eye(n), z)
        # Target sum_i sqrt(power_i) g_i z_i, averaged over g and the noise.
        residual = np.eye(mu.sum()) - np.sqrt(scale)[:, None] * (features.T @ dual)
        noise = features.T @ np.linalg.inv(features @ features.T + ridge * np.eye(n)) * np.sqrt(scale)[:, None]
        risks.append(np.sum(residual**2 * power) + tau**2 * np.sum(noise**2))
    expected = ridge_regression_risk(n, Spectrum(lam, mu.astype(float), V), ridge, tau)
    assert np.mean(risks) == pytest.approx(expected, rel=0.02)


def test_ridge_regression_on_the_sphere():
    """d = 16, n = 128, he2: the smoother's exact mean over beta; the multiplicity d^l/l! would be low by 20% at n = 256."""
    d, ridge, tau, generator = 16, 0.01, 0.1, np.random.default_rng(1)
    for n, draws, tolerance in ((128, 12, 0.04), (256, 6, 0.05)):
        risks = []
        for _ in range(draws):
            x = generator.normal(size=(n + 200, d))
            x *= np.sqrt(d) / np.linalg.norm(x, axis=1)[:, None]
            kernel = np.exp(-(1 - x @ x.T / d))
            weights = np.linalg.solve(kernel[:n, :n] + ridge * np.eye(n), kernel[:n, n:])
            risks.append(smoother_risk(weights, x[:n], x[n:], HE2, tau).mean())
        spectrum = sphere_spectrum(HE2, d)
        assert np.mean(risks) == pytest.approx(ridge_regression_risk(n, spectrum, ridge, tau), rel=tolerance)
    degrees = np.arange(len(spectrum.power))
    wrong = spectrum._replace(multiplicity=np.cumprod(np.concatenate([[1.0], d / degrees[1:]])))
    assert np.mean(risks) > 1.1 * ridge_regression_risk(256, wrong, ridge, tau)


# --- spectra ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "h2"), [(2, 2.0), (3, 0.4), (16, None), (16, 0.5), (40, 90.0)])
def test_sphere_eigenvalues(d, h2):
    spectrum = sphere_spectrum(MIX, d, h2)
    z = d / (d if h2 is None else h2)
    u, w = zonal.sphere_nodes(d, 80)
    for degree in range(6):
        expected = w @ (np.exp(-z * (1 - u)) * zonal.gegenbauer(degree, d, u))
        assert spectrum.eigenvalue[degree] == pytest.approx(expected, rel=1e-7, abs=1e-13)
    assert spectrum.eigenvalue @ spectrum.multiplicity == pytest.approx(1, rel=1e-11)


def test_sphere_trace_at_high_dimension():
    """Where round-off of quadrature would be blown up by the multiplicities."""
    for d in (128, 512, 4096):
        spectrum = sphere_spectrum(HE4, d)
        assert spectrum.eigenvalue @ spectrum.multiplicity == pytest.approx(1, rel=1e-10)


def test_sphere_power():
    for d in (2, 16, 512):
        power = sphere_power(HE2, d)
        assert power[0] == pytest.approx(0, abs=1e-12)
        assert power.sum() == pytest.approx(d / (d + 2) * (1 - 1 / d), rel=1e-10)
    u, w = zonal.sphere_nodes(11, 40)
    for link in (HE4, MIX, CORRELATED):
        total = np.array(link.weights) @ link(np.sqrt(11) * u) ** 2 @ w
        assert sphere_power(link, 11).sum() == pytest.approx(total, rel=1e-11)


@pytest.mark.parametrize("h2", [0.7, 3.0, 16.0])
def test_gaussian_spectrum_in_one_dimension(h2):
    """int k(x, y) e(y) N(dy) = lam e(x), and powers as squared integrals."""
    grid = np.linspace(-14, 14, 1401)
    weight = np.exp(-(grid**2) / 2)
    weight /= weight.sum()
    kernel = np.exp(-((grid[:, None] - grid) ** 2) / (2 * h2))
    spectrum = gaussian_spectrum(CORRELATED, 1, h2)
    c = np.sqrt(1 / 16 + 1 / (4 * h2))
    for k in range(7):
        norm = np.sqrt(np.prod(np.arange(1, k + 1, dtype=float)))
        e = (4 * c) ** 0.25 * np.exp(-(c - 1 / 4) * grid**2) * eval_hermitenorm(k, 2 * np.sqrt(c) * grid) / norm
        assert weight @ e**2 == pytest.approx(1, rel=1e-9)
        inner = np.abs(grid) < 5
        np.testing.assert_allclose((kernel @ (weight * e))[inner], spectrum.eigenvalue[k] * e[inner], atol=1e-10)
        assert spectrum.power[k] == pytest.approx((weight @ (CORRELATED(grid)[0] * e)) ** 2, rel=1e-8, abs=1e-12)
    assert spectrum.multiplicity[:-1] == pytest.approx(1)


def test_gaussian_spectrum_in_two_dimensions():
    h2, grid = 2.0, np.linspace(-12, 12, 601)
    weight = np.exp(-(grid**2) / 2)
    weight /= weight.sum()
    c = np.sqrt(1 / 16 + 1 / (4 * h2))
    norms = np.sqrt(np.cumprod(np.append(1.0, np.arange(1, 9))))
    e = [
        (4 * c) ** 0.25 * np.exp(-(c - 1 / 4) * grid**2) * eval_hermitenorm(k, 2 * np.sqrt(c) * grid) / norms[k]
        for k in range(9)
    ]
    found = gaussian_spectrum(HE3, 2, h2)
    assert found.eigenvalue @ found.multiplicity == pytest.approx(1, rel=1e-12)
    assert found.power.sum() == pytest.approx(1, rel=1e-12)
    for total in range(9):
        power = sum((weight @ (HE3(grid)[0] * e[k]) * (weight @ e[total - k])) ** 2 for k in range(total + 1))
        assert found.power[total] == pytest.approx(power, abs=1e-10)


@given(st.sampled_from([HE2, HE4, MIX, CORRELATED]), st.integers(1, 300), st.floats(0.5, 500))
@settings(max_examples=30)
def test_gaussian_spectrum_is_complete(link, d, h2):
    spectrum = gaussian_spectrum(link, d, h2)
    assert spectrum.eigenvalue @ spectrum.multiplicity == pytest.approx(1, rel=1e-9)
    assert spectrum.power.sum() == pytest.approx(link.variance, rel=1e-9)
    assert np.all(spectrum.power >= 0)


def test_prior_spectrum_is_that_of_the_kernel_on_samples():
    """Of K(X, X)/n at large n; and the trace is v."""
    for link in (MIX, CORRELATED):
        spectrum = prior_spectrum(link, 2)
        assert spectrum.power.sum() == pytest.approx(link.variance, rel=1e-12)
    angle, rho = 2 * np.pi * np.arange(20) / 20, np.linspace(0, 9, 121)[1:]
    weight = rho * np.exp(-(rho**2) / 2)
    points = np.stack([np.outer(rho, np.cos(angle)), np.outer(rho, np.sin(angle))], -1).reshape(-1, 2)
    root = np.sqrt(np.repeat(weight / weight.sum(), 20) / 20)
    beta = np.stack([np.cos(angle), np.sin(angle)])
    features = root[:, None] * CORRELATED(points @ beta)[0] / np.sqrt(20)
    values = np.linalg.svd(features, compute_uv=False) ** 2
    expected = np.sort(np.repeat(spectrum.eigenvalue, spectrum.multiplicity.astype(int)))[::-1]
    np.testing.assert_allclose(values[: len(expected)], expected, rtol=2e-3)
    assert values[len(expected)] < 1e-10


# --- staircase --------------------------------------------------------------------------------------------------------


def test_plateaus():
    assert [plateau_risk(MIX, k) for k in range(6)] == pytest.approx([1, 1, 2 / 3, 1 / 3, 0, 0])
    # Between steps, up to what the noise adds and to shrinkage.
    assert step_risk(1e-6, MIX, 3, 0.0, 0.0) == pytest.approx(plateau_risk(MIX, 2), rel=1e-4)
    assert step_risk(1e6, MIX, 3, 0.0, 0.0) == pytest.approx(plateau_risk(MIX, 3), rel=1e-4)


@given(st.floats(0.01, 50), st.floats(0, 2), st.floats(0.2, 4), st.floats(0, 1))
@settings(max_examples=30)
def test_step_is_the_deterministic_equivalent_at_infinite_dimension(alpha, ridge, sharpness, tau):
    """Degrees below the step learned, those above a ridge of their total weight: n_l = 1e10 in place of d^l/l!."""
    large = 1e10
    step = np.exp(-sharpness) * sharpness**3 / 6
    above = 1 - np.exp(-sharpness) * np.sum(sharpness ** np.arange(4) / [1, 1, 2, 6])
    spectrum = Spectrum(np.array([step / large, 0.0]), np.array([large, 1.0]), np.array([1 / 3, 1 / 3]))
    expected = ridge_regression_risk(alpha * large, spectrum, ridge + above, tau)
    assert step_risk(alpha, MIX, 3, ridge, tau, sharpness) == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_step_without_the_higher_degrees_as_ridge():
    """delta_eff = delta: .514, .1327, .0127 - far from the limits, so that these have teeth."""
    for alpha, value in ((0.5, ".514"), (1, ".1327"), (2, ".0127")):
        x = 0.01 / (np.exp(-1) / 2)
        learned = 2 * alpha / (1 + alpha + x + np.sqrt((1 + alpha + x) ** 2 - 4 * alpha))
        wrong = ((1 - learned) ** 2 + 0.01) / (1 - learned**2 / alpha) - 0.01
        assert shown(value, wrong)
        assert abs(step_risk(alpha, HE2, 2, 0.01, 0.1) / wrong - 1) > 0.14


# --- one prompt -------------------------------------------------------------------------------------------------------


def test_smoother_risk_is_the_average_over_tasks():
    d, n, tau, tasks = 4, 15, 0.3, 100_000
    generator = np.random.default_rng(4)
    context, queries = generator.normal(size=(n, d)), generator.normal(size=(3, d))
    weights = generator.normal(size=(n, 3)) / n
    beta = generator.normal(size=(tasks, d))
    beta /= np.linalg.norm(beta, axis=1)[:, None]
    f = lambda x: CORRELATED(beta @ x.T)[0]
    y = f(context) + tau * generator.choice([-1, 1], (tasks, n))
    squares = (y @ weights - f(queries)) ** 2
    risk = smoother_risk(weights, context, queries, CORRELATED, tau)
    assert np.all(np.abs(squares.mean(0) - risk) < 4 * squares.std(0) / np.sqrt(tasks))


@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.floats(0.2, 30),
    st.floats(1e-3, 3),
    st.floats(0.05, 1),
    st.integers(0, 10**6),
)
@settings(max_examples=40)
def test_no_smoother_beats_the_linear_optimum(n, d, h2, ridge, tau, seed):
    """Pointwise in X and x, for kernel ridge regression, polynomial ridge regression and nearest neighbours."""
    generator = np.random.default_rng(seed)
    context, queries = generator.normal(size=(n, d)), generator.normal(size=(4, d))
    optimum = linear_optimum(context, queries, MIX, tau)
    np.testing.assert_allclose(smoother_risk(optimum.weights, context, queries, MIX, tau), optimum.risk, atol=1e-9)
    distance = ((context[:, None] - context) ** 2).sum(-1), ((context[:, None] - queries) ** 2).sum(-1)
    smoothers = [np.eye(n)[:, distance[1].argmin(0)]]
    for kernel in (lambda s: np.exp(-s / (2 * h2)), lambda s: (1 + 1 / (1 + s)) ** 2):
        smoothers.append(np.linalg.solve(kernel(distance[0]) + ridge * np.eye(n), kernel(distance[1])))
    for weights in smoothers:
        risk = smoother_risk(weights, context, queries, MIX, tau)
        assert np.all(risk >= optimum.risk - 1e-9 * np.maximum(1, risk))


def test_knowing_the_subspace_beats_the_prompt_only_bound():
    """d = 8, r = 2, n = 60: the true risk, of K_r, is below the bound of K_d everywhere; as a predictor for K_d it is not."""
    generator = np.random.default_rng(2)
    context, queries = generator.normal(size=(60, 8)), generator.normal(size=(50, 8))
    known = linear_optimum(context[:, :2], queries[:, :2], HE2, 0.1)
    bound = linear_optimum(context, queries, HE2, 0.1).risk
    assert np.all(known.risk < bound)
    assert known.risk.mean() < 0.003
    assert 0.01 < bound.mean() < 0.06
    assert np.all(smoother_risk(known.weights, context, queries, HE2, 0.1) >= bound)


def test_linear_optimum_of_one_example_is_the_floor():
    """At N = 1 the class is the same. Averaged over the plane: |x|, |x'| and the angle between them."""
    tau, rho = 0.3, np.linspace(0, 8, 161)[1:]
    weight = rho * np.exp(-(rho**2) / 2)
    weight /= weight.sum()
    angle = 2 * np.pi * np.arange(10) / 10
    queries = np.stack([np.outer(rho, np.cos(angle)), np.outer(rho, np.sin(angle))], -1).reshape(-1, 2)
    risks = [
        linear_optimum(np.array([[radius, 0.0]]), queries, HE2, tau).risk.reshape(-1, 10).mean(1) @ weight
        for radius in rho
    ]
    assert weight @ np.array(risks) == pytest.approx(float(attention_floor(1, HE2, 2, tau)), rel=2e-3)


def test_order_of_bayes_linear_optimum_and_floor():
    """he2, r = 2, tau = .3, Gaussian noise, N = 16: .00905, .0358 and .1457; posterior variance on a grid of angles."""
    N, tau, draws, generator = 16, 0.3, 400, np.random.default_rng(6)
    angle = np.pi * np.arange(1024) / 1024
    grid = np.stack([np.cos(angle), np.sin(angle)])
    bayes, linear = [], []
    for _ in range(draws):
        beta = grid[:, generator.integers(1024)]
        x = generator.normal(size=(N, 2))
        y = HE2(x @ beta)[0] + tau * generator.normal(size=N)
        logit = -np.square(y[:, None] - HE2(x @ grid)[0]).sum(0) / (2 * tau**2)
        posterior = np.exp(logit - logit.max())
        mean = np.einsum("g,ig,jg->ij", posterior / posterior.sum(), grid, grid)
        bayes.append(1 - np.sum(mean**2))
        linear.append(linear_optimum(x, generator.normal(size=(20, 2)), HE2, tau).risk.mean())
    assert np.mean(bayes) == pytest.approx(0.00905, rel=0.12)
    assert np.mean(linear) == pytest.approx(0.0358, rel=0.12)
    assert np.mean(bayes) < np.mean(linear) < attention_floor(N, HE2, 2, tau)


def test_large_prompt_limits():
    """N risk/tau^2 of the linear optimum tends to its number of parameters."""
    assert large_prompt_limits(HE2, 2) == (1, 3)
    assert large_prompt_limits(HE3, 3) == (2, 10)
    assert large_prompt_limits(CORRELATED, 2) == (1, 5)
    assert large_prompt_limits(polynomial([0, 0, 1, 1]), 4) == (3, 1 + 9 + 4 + 16)
    generator, grid, N = np.random.default_rng(8), polar_grid(60, 12), 1000
    risks = [grid.weights @ linear_optimum(generator.normal(size=(N, 2)), grid.points, HE2, 0.1).risk for _ in range(6)]
    assert N * np.mean(risks) / 0.01 == pytest.approx(3, rel=0.1)
    # Sixth moments of a context converge too slowly for the mixed link: its learning curve instead.
    for link, r in ((CORRELATED, 2), (HE3, 3)):
        risk = ridge_regression_risk(1e7, prior_spectrum(link, r), 0.01, 0.1)
        assert 1e7 * risk / 0.01 == pytest.approx(large_prompt_limits(link, r).linear, rel=1e-3)


def test_correlational_bound():
    """d = 8, Q = 2: E_beta (beta^T H beta)^2 = (2 |H|^2 + tr(H)^2)/(d(d + 2)) for h = (x^T H x - tr H)/sqrt 2, |H| = 1."""
    assert zonal.zonal_eigenvalue(2, 2, 8) == pytest.approx(0.025)
    assert correlational_bound(2, 8) == pytest.approx(0.125)  # H ~ identity
    assert correlational_bound(2, 8, centred=True) == pytest.approx(0.025)  # traceless H
    assert correlational_bound(3, 8) == correlational_bound(3, 8, centred=True) == pytest.approx(6 / (2 * 10 * 8))
    for Q, d in itertools.product((1, 2, 3, 4, 5), (2, 3, 9)):
        # E_x f_beta f_beta' = <beta, beta'>^Q, whose eigenvalue on harmonics of degree l is E u^Q P_l(u).
        u, w = zonal.sphere_nodes(d, 12)
        values = [w @ (u**Q * zonal.gegenbauer(degree, d, u)) for degree in range(Q + 1)]
        assert correlational_bound(Q, d) == pytest.approx(max(values), rel=1e-11)
        assert correlational_bound(Q, d, centred=True) == pytest.approx(max(values[1:]), rel=1e-11)
        assert zonal.zonal_eigenvalue(Q, Q, d) == pytest.approx(values[Q], rel=1e-9)
    for Q in (2, 3, 4, 5):
        ratio = correlational_bound(Q, 4000, centred=True) / correlational_bound(Q, 1000, centred=True)
        assert -np.log(ratio) / np.log(4) == pytest.approx(np.ceil((Q + 1) / 2), abs=0.02)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.floats(0, 2))
def test_excess_absolute_risk(error, tau):
    e = np.array(error)
    expected = np.mean([np.abs(e - tau), np.abs(e + tau)]) - tau
    assert excess_absolute_risk(e, tau) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ridge_regression_risk(0, sphere_spectrum(HE2, 4), 0.1, 0.1),
            "number of samples n must be at least 1, got 0",
        ),
        (
            lambda: ridge_regression_risk(9, sphere_spectrum(HE2, 4), 0.0, 0.1),
            "ridge must be positive and finite, got 0",
        ),
        (lambda: ridge_regression_risk(9, sphere_spectrum(HE2, 4), 0.1, -1.0), "tau must be >= 0 and finite, got -1"),
        (lambda: sphere_spectrum(HE2, 1), "dimension r must be at least 2, got 1"),
        (lambda: gaussian_spectrum(HE2, 4, 0.0), "squared bandwidth h2 must be positive and finite, got 0"),
        (lambda: sphere_spectrum(HE2, 512, 1.0), "h2 must be larger: multiplicities exceed 1e300, got 1"),
        (lambda: gaussian_spectrum(HE2, 2000, 1.0), "h2 must be larger: multiplicities exceed 1e300, got 1"),
        (lambda: step_risk(0.0, HE2, 2, 0.1, 0.1), r"alpha = n/n_l\(d\) must be positive, got 0"),
        (lambda: step_risk(1.0, HE2, 0, 0.1, 0.1), "degree l of a step must be at least 1, got 0"),
        (lambda: linear_optimum(np.ones((2, 2)), np.ones((1, 2)), HE2, 0.0), "tau must be positive and finite, got 0"),
        (lambda: large_prompt_limits(MIX, 2), "link must be fixed, got 18 atoms"),
        (lambda: large_prompt_limits(HE2, 1), "at least 2, got 1"),
        (lambda: correlational_bound(0, 4), "degree Q must be at least 1, got 0"),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(InputError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
