"""Approximate message passing against NumPy loops, state evolution, stationarity, ridge regression and reference values."""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.kernels import amp
from theorysim.kernels.amp import Status
from theorysim.kernels.designs import Dense, marchenko_pastur, regenerated, sample, subsampled_orthogonal
from theorysim.kernels.designs import gaussian as gaussian_entries
from theorysim.kernels.priors import bernoulli_gaussian, channel, gaussian, three_point
from theorysim.kernels.priors import sample as draw

U3 = three_point()
scalar_channel = jax.jit(channel)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def instance(seed, n, p, sigma, batch=(), density=2 / 3):
    """(X, beta, y) in NumPy; atoms -1, 0, 1."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) / np.sqrt(p)
    beta = rng.choice([-1.0, 0.0, 1.0], size=(*batch, p), p=[density / 2, 1 - density, density / 2])
    return X, beta, beta @ X.T + sigma * rng.normal(size=(*batch, n))


def posterior(lam, gam, density=2 / 3):
    """Means and variances of the tilted three-point law, in NumPy."""
    plus, minus, zero = density / 2 * np.exp(lam - gam / 2), density / 2 * np.exp(-lam - gam / 2), 1 - density
    mean = (plus - minus) / (plus + minus + zero)
    return mean, (plus + minus) / (plus + minus + zero) - mean**2


def loop(X, y, noise, steps, coefficient=lambda new, old, tau: new / tau, m=0.0, V=2 / 3, damping=0.0):
    """The recursion for one instance, line by line: means, variances and residuals of every step."""
    n, p = X.shape
    m = np.full(p, m)
    z = y - X @ m
    trace = []
    for _ in range(steps):
        tau = noise + V
        gamma = n / p / tau
        lam = gamma * m + X.T @ z * gamma / (n / p)
        new, variances = posterior(lam, gamma)
        b = coefficient(variances.mean(), V, tau)
        m, V = (1 - damping) * new + damping * m, (1 - damping) * variances.mean() + damping * V
        z = (1 - damping) * (y - X @ m + b * z) + damping * z
        trace.append((m, V, z))
    return [np.array(x) for x in zip(*trace, strict=True)]


def everything(before, after):
    return after.mean, after.variance, after.residual


def start(design, y, prior=U3):
    moments = prior.moments(jnp.zeros((), y.dtype), jnp.zeros((), y.dtype))
    return amp.init(design, y, moments.mean, moments.variance)


@partial(jax.jit, static_argnames=("steps", "onsager", "observe"))
def run(design, y, noise, steps, prior=U3, damping=0.0, onsager=amp.onsager, observe=amp.summary, target=None):
    observe = observe if target is None else partial(amp.summary, target=target)
    return amp.run(
        start(design, y, prior), design, y, prior.moments, noise,
        steps=steps, damping=damping, onsager=onsager, observe=observe,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("most_steps",))
def solve(design, y, noise, prior=U3, damping=0.0, tolerance=1e-12, most_steps=1000):
    return amp.solve(
        start(design, y, prior), design, y, prior.moments, noise,
        tolerance=tolerance, most_steps=most_steps, damping=damping,
    )  # fmt: skip


# --- the recursion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_numpy_loop(damping):
    """A batch that shares X at delta = 0.6, each instance with a noise of its own."""
    n, p, noise = 60, 100, np.array([0.04, 0.2, 1.0])
    X, _, y = instance(1, n, p, 0.3, (3,))
    state, (means, variances, residuals) = run(
        Dense(jnp.asarray(X)), jnp.asarray(y), jnp.asarray(noise), 12, damping=damping, observe=everything
    )
    assert means.shape == (12, 3, p)
    for i in range(3):
        m, V, z = loop(X, y[i], noise[i], 12, damping=damping)
        np.testing.assert_allclose(means[:, i], m, atol=1e-11)
        np.testing.assert_allclose(variances[:, i], V, atol=1e-11)
        np.testing.assert_allclose(residuals[:, i], z, atol=1e-11)
    np.testing.assert_allclose(state.correlation, state.residual @ X, atol=1e-11)
    np.testing.assert_allclose(
        U3.moments(state.lam, state.gamma[:, None]).mean, means[-1], atol=1 if damping else 1e-14
    )


NEW, OLD = (lambda new, old, tau: new / (0.09 + new)), (lambda new, old, tau: old / tau)
WITHOUT_DELTA, NONE = (lambda new, old, tau: 0.5 * new / tau), (lambda new, old, tau: 0 * new)


@pytest.mark.parametrize("coefficient", [NEW, OLD, WITHOUT_DELTA, NONE])
def test_other_onsager_coefficients(coefficient):
    X, _, y = instance(2, 50, 100, 0.3)
    _, (means, _, _) = run(Dense(jnp.asarray(X)), jnp.asarray(y), 0.09, 6, onsager=coefficient, observe=everything)
    np.testing.assert_allclose(means, loop(X, y, 0.09, 6, coefficient)[0], atol=1e-11)


def test_reference_instance():
    """Independent values of the fixed point, to the digits given."""
    rng = np.random.default_rng(2024)
    X = rng.normal(size=(200, 200)) / np.sqrt(200)
    beta = rng.choice([-1, 0, 1], size=200, p=[1 / 3] * 3)
    y = X @ beta + 0.3 * rng.normal(size=200)
    assert y[0] == pytest.approx(0.6857445280523248, rel=1e-15)
    state, trace = run(Dense(jnp.asarray(X)), jnp.asarray(y), 0.09, 400, target=jnp.asarray(beta, jnp.float64))
    np.testing.assert_allclose(state.gamma, 3.89576668707, atol=1e-11)
    np.testing.assert_allclose(state.variance, 0.16668888317, atol=5e-12)
    np.testing.assert_allclose(np.mean(state.mean**2), 0.49727309309, atol=5e-12)
    np.testing.assert_allclose(trace.mse[-1], 0.17668317064, atol=5e-12)
    np.testing.assert_allclose(state.mean[:3], (-0.08654319, 0.41848051, 0.99543727), atol=5e-9)
    assert trace.change[-1] < 1e-14


def residual_of_stationarity(X, y, noise, state):
    """lam - g m - X^T(y - X m)/sigma^2 at g = delta/(sigma^2 + V), in NumPy: the TAP gradient in m."""
    n, p = X.shape
    m = np.asarray(state.mean)
    V = posterior(np.asarray(state.lam), float(state.gamma))[1].mean()
    return np.asarray(state.lam) - n / p / (noise + V) * m - X.T @ (y - X @ m) / noise


@pytest.mark.slow
@pytest.mark.parametrize(("n", "p"), [(200, 400), (300, 200)])
def test_fixed_points_are_stationary_points_of_the_tap_free_energy(n, p):
    X, _, y = instance(3, n, p, 0.5)
    design, y = Dense(jnp.asarray(X)), jnp.asarray(y)
    solution = solve(design, y, 0.25)
    assert solution.status == Status.CONVERGED
    assert np.abs(residual_of_stationarity(X, y, 0.25, solution.state)).max() < 1e-9
    # The coefficient without 1/delta, or none, has other fixed points, if any.
    for wrong in (lambda new, old, tau: n / p * new / tau, NONE):
        state, _ = run(design, y, 0.25, 100, onsager=wrong)
        assert np.abs(residual_of_stationarity(X, y, 0.25, state)).max() > 0.1


def test_damping_leaves_the_fixed_point_where_it_is():
    X, _, y = instance(4, 150, 200, 0.5)
    plain, damped = (solve(Dense(jnp.asarray(X)), jnp.asarray(y), 0.25, damping=a) for a in (0.0, 0.3))
    assert plain.status == damped.status == Status.CONVERGED
    np.testing.assert_allclose(damped.state.mean, plain.state.mean, atol=1e-10)
    np.testing.assert_allclose(damped.state.variance, plain.state.variance, atol=1e-11)


@pytest.mark.parametrize(("n", "p"), [(60, 120), (90, 60)])
def test_ridge_regression_is_the_gaussian_prior(n, p):
    v, noise = 1.7, 0.09
    X, beta, _ = instance(5, n, p, 0.3)
    y = X @ beta + 0.3 * np.random.default_rng(6).normal(size=n)
    solution = solve(Dense(jnp.asarray(X)), jnp.asarray(y), noise, prior=gaussian(v), tolerance=1e-13)
    ridge = np.linalg.solve(X.T @ X / noise + np.eye(p) / v, X.T @ y / noise)
    np.testing.assert_allclose(solution.state.mean, ridge, atol=1e-10)
    E = solution.state.variance
    np.testing.assert_allclose(E**2 / v + E * (noise / v + n / p - 1), noise, rtol=1e-9)


# --- state evolution --------------------------------------------------------------------------------------------------

SE = {0: 0.341964, 1: 0.242108, 2: 0.199334, 4: 0.168013, 8: 0.156846, 15: 0.155783}
"""mmse(gamma_t) of U3 at delta = 1, sigma = 0.3, independently computed."""


@cache
def errors_and_variances(onsager):
    """(MSE_t, V_t) of 24 instances at p = 400, shape (24, 16) each."""

    def one(key):
        of_X, of_beta, of_noise = jax.random.split(key, 3)
        design = Dense(sample(of_X, gaussian_entries, 400, 400))
        beta = draw(of_beta, U3, jnp.zeros(400, jnp.float32), jnp.zeros(400, jnp.float32))
        y = design.forward(beta) + 0.3 * jax.random.normal(of_noise, (400,), jnp.float32)
        observe = partial(amp.summary, target=beta)
        state = start(design, y)
        return amp.run(state, design, y, U3.moments, 0.09, steps=16, onsager=onsager, observe=observe)[1]

    trace = jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.key(0), 24))
    return np.asarray(trace.mse, float), np.asarray(trace.variance, float)


def scores(onsager):
    """z-scores of the means against state evolution, at the steps of SE, shape (2, 6)."""
    values, expected = np.array(errors_and_variances(onsager))[:, :, list(SE)], np.array(list(SE.values()))
    return (values.mean(1) - expected) / (values.std(1, ddof=1) / np.sqrt(values.shape[1]))


def test_state_evolution():
    """Twelve correlated z-scores at fixed keys; each beyond 4 with probability 6e-5 for a right kernel."""
    assert np.abs(scores(amp.onsager)).max() < 4


@pytest.mark.parametrize("coefficient", [NEW, OLD, NONE])
def test_a_mispaired_correction_leaves_state_evolution(coefficient):
    """V_1 or V_2 are wrong at once; with the new gamma or the old V the limit is right, without a correction it is not."""
    assert np.abs(scores(coefficient)[1, 1:3]).max() > 8
    errors = errors_and_variances(coefficient)[0][:, -1].mean()
    assert errors > 0.4 if coefficient is NONE else abs(errors - SE[15]) < 0.02


@pytest.mark.slow
def test_cosine_designs_follow_state_evolution_where_their_singular_values_do():
    """Within four standard deviations of one run, about 0.4/sqrt(p); for orthogonal rows V is not the error."""
    n, p, noise, prior = 1024, 2048, 0.04, three_point(0.1)
    expected, V = [], 0.1
    for _ in range(21):
        V = float(scalar_channel(prior, jnp.asarray(n / p / (noise + V))).mmse)
        expected.append(V)

    def errors(make):
        of_design, of_beta, of_noise = jax.random.split(jax.random.key(1), 3)
        design = jax.jit(make, static_argnums=(1, 2))(of_design, n, p)
        beta = draw(of_beta, prior, jnp.zeros(p, jnp.float32), jnp.zeros(p, jnp.float32))
        y = design.forward(beta) + 0.2 * jax.random.normal(of_noise, (n,), jnp.float32)
        return run(design, y, noise, 21, prior=prior, target=beta)[1]

    spectral = errors(marchenko_pastur)
    assert np.abs(np.asarray(spectral.mse) - expected).max() < 4 * 0.4 / np.sqrt(p)
    assert np.abs(np.asarray(spectral.variance) - expected).max() < 4 * 0.2 / np.sqrt(p)
    orthogonal = errors(subsampled_orthogonal)
    assert orthogonal.variance[-1] - orthogonal.mse[-1] > 0.01


# --- how runs end -----------------------------------------------------------------------------------------------------


def test_solve_stops_each_instance_on_its_own():
    X, _, y = instance(7, 150, 150, 0.5, (3,))
    noise, design = jnp.asarray([0.25, 0.5, 1.0]), Dense(jnp.asarray(X))
    together = solve(design, jnp.asarray(y), noise)
    assert len(set(together.steps.tolist())) == 3
    for i in range(3):
        alone = solve(design, jnp.asarray(y[i]), noise[i])
        assert alone.status == together.status[i] == Status.CONVERGED
        assert alone.steps == together.steps[i]
        assert alone.change < 1e-12
        np.testing.assert_allclose(together.state.mean[i], alone.state.mean, atol=1e-12)
        _, (means, _, _) = run(design, jnp.asarray(y[i]), noise[i], int(alone.steps), observe=everything)
        np.testing.assert_allclose(alone.state.mean, means[-1], atol=1e-12)
        np.testing.assert_allclose(
            alone.return_change, np.sqrt(np.mean((means[-1] - means[-3]) ** 2)), rtol=1e-6, atol=1e-15
        )


def test_out_of_steps_and_the_best_iterate():
    X, _, y = instance(7, 150, 150, 0.5)
    solution = solve(Dense(jnp.asarray(X)), jnp.asarray(y), 0.25, most_steps=9)
    assert (solution.steps, solution.status) == (9, Status.OUT_OF_STEPS)
    _, (means, _, _) = run(Dense(jnp.asarray(X)), jnp.asarray(y), 0.25, 9, observe=everything)
    changes = np.sqrt(np.mean(np.diff(means, axis=0, prepend=0) ** 2, axis=1))
    np.testing.assert_allclose(solution.best_change, changes.min(), rtol=1e-10)
    np.testing.assert_allclose(solution.best.mean, means[changes.argmin()], atol=1e-13)


def test_a_cycle_of_period_two_is_reported():
    """With X = I/2 and y near 0, lam has the signs of m, and this denoiser turns them over."""

    class Turned(NamedTuple):
        mean: jax.Array
        variance: jax.Array

    turn = lambda lam, gamma: Turned(-jnp.sign(lam), jnp.zeros_like(lam))
    design, y = Dense(jnp.eye(30) / 2), jnp.full((2, 30), 0.01)
    state = amp.init(design, y, jnp.ones(30), 1.0)
    solution = amp.solve(state, design, y, turn, 1.0, tolerance=1e-8, most_steps=100)
    assert solution.status.tolist() == [Status.CYCLE] * 2
    np.testing.assert_allclose(solution.change, 2)
    assert (solution.return_change < 1e-3).all()
    assert (solution.steps < 10).all()


def test_divergence_is_reported():
    """Entries of mean 1/2 over sqrt(p) make AMP diverge; so does the loss of finite values."""
    n, p = 200, 200
    X, beta, _ = instance(8, n, p, 0.3)
    shifted = X + 2 / np.sqrt(p)
    prior = bernoulli_gaussian(0.3)
    y = jnp.asarray(shifted @ beta)
    solution = solve(Dense(jnp.asarray(shifted)), y, 0.09, prior=prior)
    assert solution.status == Status.DIVERGED
    assert np.isfinite(solution.best.mean).all()
    assert solve(Dense(jnp.asarray(X)), y.at[0].set(jnp.nan), 0.09, prior=prior).status == Status.DIVERGED


# --- other denoisers, designs, types ----------------------------------------------------------------------------------


def test_soft_thresholding_solves_the_lasso():
    """Optimality conditions of |y - X b|^2/(2 delta) + lambda |b|_1 at the fixed point, with no other solver."""
    n, p, alpha = 200, 400, 1.5
    X, _, y = instance(9, n, p, 0.2 * np.sqrt(0.5), density=0.1)
    design, y = Dense(jnp.asarray(X)), jnp.asarray(y)
    state = amp.init(design, y, 0.0, 0.0)
    solution = amp.solve(state, design, y, amp.soft_threshold(alpha), None, tolerance=1e-12, most_steps=1000)
    assert solution.status == Status.CONVERGED
    m = np.asarray(solution.state.mean)
    tau = np.sqrt(np.mean(solution.state.residual**2) / (n / p))
    penalty = alpha * tau * (1 - np.count_nonzero(m) / n)
    slope = X.T @ (np.asarray(y) - X @ m) / (n / p)
    np.testing.assert_allclose(slope[m != 0], penalty * np.sign(m[m != 0]), atol=1e-9)
    assert np.abs(slope[m == 0]).max() <= penalty * (1 + 1e-9)
    assert 0.02 < np.count_nonzero(m) / p < 0.3


def test_matrix_free_designs_give_the_same_estimates():
    key, n, p = jax.random.key(2), 70, 90
    dense, free = Dense(sample(key, gaussian_entries, n, p)), regenerated(key, gaussian_entries, n, p)
    y = jnp.asarray(np.random.default_rng(0).normal(size=(2, n)), jnp.float32)
    a, b = (run(design, y, 0.25, 8)[0].mean for design in (dense, free))
    np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_large_instance_fits_into_memory():
    """p = 10^5, n = 5 10^4, whose matrix has 20 GB: what the compiled program takes. It is not run."""
    n, p = 50_000, 100_000

    def large(key, y):
        design = regenerated(key, gaussian_entries, n, p)
        return run(design, y, 0.04, 30)

    single = jnp.float32
    analysis = jax.jit(large).lower(jax.random.key(0), jnp.zeros(n, single)).compile().memory_analysis()
    assert analysis.temp_size_in_bytes + analysis.output_size_in_bytes < 100e6


def test_batches_of_designs_and_single_precision():
    data = [instance(seed, 40, 50, 0.5) for seed in range(3)]
    X, y = (jnp.asarray(np.stack([d[i] for d in data])) for i in (0, 2))
    together = jax.jit(jax.vmap(lambda X, y: run(Dense(X), y, 0.25, 10)[0].mean))(X, y)
    for i in range(3):
        np.testing.assert_allclose(together[i], run(Dense(X[i]), y[i], 0.25, 10)[0].mean, atol=1e-12)
    state, trace = run(Dense(X[0].astype(jnp.float32)), y[0].astype(jnp.float32), 0.25, 10)
    assert {leaf.dtype for leaf in jax.tree.leaves((state, trace))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(state.mean, together[0], atol=1e-5)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="response must have the design's n = 3 entries, got 4"):
        amp.init(Dense(jnp.ones((3, 5))), jnp.ones(4), 0.0, 1.0)
