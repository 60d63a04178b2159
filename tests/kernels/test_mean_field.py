"""Functionals of a neuron's law and the optimum: against sums in NumPy, plain fixed-point iteration, duality, published digits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from theorysim.errors import InputError
from theorysim.kernels import mean_field
from theorysim.kernels.langevin import Model, Ridge
from theorysim.kernels.losses import Logistic
from theorysim.kernels.mean_field import ball_grid

optimum = jax.jit(mean_field.optimum)
free_energy, kl, dual = (jax.jit(f) for f in (mean_field.free_energy, mean_field.kl, mean_field.dual))
bregman, predictions = jax.jit(mean_field.bregman), jax.jit(mean_field.predictions)
proximal_gibbs = jax.jit(mean_field.proximal_gibbs)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def tanh1d():
    return Model.of("tanh", "squared", np.array([[0.7], [2.0]]), np.array([0.8, -0.4]), lamp=0.05, lam=0.05)


def tanhlog():
    return Model.of("tanh", "logistic", np.array([[0.7], [2.0], [-1.0]]), np.array([1.0, -1, 1]), lamp=0.05, lam=0.05)


def rbf(lam):
    return Model.of("rbf", "squared", np.array([[-1.5], [1.5]]), np.ones(2), lamp=0.02, lam=lam)


def three_dimensional():
    Z = np.array([[0.5, -1.0], [1.0, 0.4], [-0.7, 0.9], [0.2, 0.3]])
    neuron = Ridge("tanh", radius=2.0, bias=True)
    return Model.of(neuron, "squared", Z, np.array([1.0, -1.0, 1.0, 0.5]), lamp=0.3, lam=0.4)


MODELS = [
    (tanh1d(), 8.0, 801, 1),
    (tanhlog(), 8.0, 801, 1),
    (rbf(0.1), 12.0, 1201, 1),
    (three_dimensional(), 5.5, 35, 3),
]


def random_density(grid, seed):
    rng, d = np.random.default_rng(seed), grid.nodes.shape[1]
    variances = jnp.asarray(rng.uniform(0.1, 2, size=3))
    weights, means = jnp.asarray(rng.uniform(size=3)), jnp.asarray(rng.normal(size=(3, d)))
    return jax.jit(mean_field.gaussian_mixture)(grid, weights, means, variances)


def test_reference_values_of_the_optimum():
    best = optimum(tanh1d(), ball_grid(8.0, 801))
    np.testing.assert_allclose(best.u, [0.076111062394, 0.012560579674], atol=6e-13)
    np.testing.assert_allclose(best.free_energy, 0.157688987261, atol=6e-13)
    best = optimum(tanhlog(), ball_grid(8.0, 801))
    np.testing.assert_allclose(best.u, [-0.3690324, -0.67478449, 0.47681068], atol=6e-9)
    for lam, u in (0.2, 0.39561156), (0.1, 0.43264314), (0.05, 0.45078472), (0.01, 0.48281516), (0.005, 0.48883265):
        best = optimum(rbf(lam), ball_grid(14.0, 1401))
        np.testing.assert_allclose(best.u, u, atol=6e-9)
        assert best.converged


@pytest.mark.slow
@pytest.mark.parametrize(("model", "extent", "count", "d"), MODELS)
def test_the_optimum_is_a_fixed_point_with_a_certificate(model, extent, count, d):
    grid = ball_grid(extent, count, d)
    best = optimum(model, grid)
    assert best.converged
    np.testing.assert_allclose(proximal_gibbs(model, grid, best.log_density), best.log_density, atol=1e-11)
    np.testing.assert_allclose(predictions(model, grid, best.log_density), best.u, atol=1e-13)
    np.testing.assert_allclose(dual(model, grid, model.loss.slope(best.u, model.y)), best.free_energy, atol=1e-13)
    wider = optimum(model, ball_grid(1.25 * extent, int(1.25 * count) // 2 * 2 + 1, d))
    np.testing.assert_allclose(wider.u, best.u, atol=1e-8)  # the box is large, the spacing small enough
    np.testing.assert_allclose(wider.free_energy, best.free_energy, atol=1e-8)
    np.testing.assert_allclose(wider.log_partition, best.log_partition, atol=1e-6)


def test_the_optimum_against_damped_iteration():
    model, grid = three_dimensional(), ball_grid(5.5, 35, 3)
    x, Z, y = np.asarray(grid.nodes), np.asarray(model.Z), np.asarray(model.y)
    assert np.all(np.sum(x**2, axis=1) <= 5.5**2 + 1e-9)
    H = 2 * np.tanh(x[:, :2] @ Z.T + x[:, 2:])
    u = np.zeros(4)
    for _ in range(300):
        p = softmax(-(H @ (u - y) / 4 + 0.3 * np.sum(x**2, axis=1)) / 0.4)
        u = u + 0.3 * (p @ H - u)
    best = optimum(model, grid)
    np.testing.assert_allclose(best.u, u, atol=1e-12)
    np.testing.assert_allclose(mean_field.masses(grid, best.log_density), p, atol=1e-13)


@pytest.mark.parametrize(("model", "extent", "count", "d"), MODELS)
def test_functionals_by_sums(model, extent, count, d):
    grid = ball_grid(extent, count, d)
    log_density = random_density(grid, 0)
    x, w, mu = np.asarray(grid.nodes), np.asarray(grid.weights), np.exp(log_density)
    np.testing.assert_allclose(w, (2 * extent / (count - 1)) ** d)
    np.testing.assert_allclose(w @ mu, 1, rtol=1e-13)
    Z, y = np.asarray(model.Z), np.asarray(model.y)
    if isinstance(model.neuron, Ridge):
        b = x[:, 2:] if d == 3 else 0
        H = float(model.neuron.radius) * np.tanh(x[:, : Z.shape[1]] @ Z.T + b)
    else:
        H = np.exp(-((x - Z.T) ** 2) / 2)
    h = (w * mu) @ H
    np.testing.assert_allclose(predictions(model, grid, log_density), h, atol=1e-14)
    loss = np.log1p(np.exp(-y * h)) if isinstance(model.loss, Logistic) else (h - y) ** 2 / 2
    F = loss.mean() + model.lamp * (w * mu) @ np.sum(x**2, axis=1)
    np.testing.assert_allclose(jax.jit(mean_field.objective)(model, grid, log_density), F, rtol=1e-13)
    entropy = (w * mu) @ np.log(np.maximum(mu, 1e-300))
    np.testing.assert_allclose(free_energy(model, grid, log_density), F + model.lam * entropy, rtol=1e-12)


@pytest.mark.parametrize(("model", "extent", "count", "d"), MODELS)
def test_the_two_identities_of_the_gap(model, extent, count, d):
    grid = ball_grid(extent, count, d)
    best = optimum(model, grid)
    for seed in range(3):
        mu = random_density(grid, seed)
        h, near = predictions(model, grid, mu), proximal_gibbs(model, grid, mu)
        gap = free_energy(model, grid, mu) - best.free_energy
        own = model.lam * kl(grid, mu, best.log_density)
        np.testing.assert_allclose(own + bregman(model, h, best.u), gap, atol=1e-12)
        rest = bregman(model, best.u, h) + model.lam * kl(grid, best.log_density, near)
        np.testing.assert_allclose(model.lam * kl(grid, mu, near), gap + rest, atol=1e-12)
        certificate = free_energy(model, grid, mu) - dual(model, grid, model.loss.slope(h, model.y))
        np.testing.assert_allclose(certificate, model.lam * kl(grid, mu, near), atol=1e-12)
        assert own <= gap + 1e-12


def test_the_bregman_term_by_its_definition():
    model, grid = tanhlog(), ball_grid(8.0, 401)
    mu, nu = (random_density(grid, seed) for seed in (1, 2))
    h, g = predictions(model, grid, mu), predictions(model, grid, nu)
    U = mean_field.first_variation(model, grid, model.loss.slope(g, model.y))
    difference = mean_field.masses(grid, mu) - mean_field.masses(grid, nu)
    F = partial(mean_field.objective, model, grid)
    np.testing.assert_allclose(bregman(model, h, g), F(mu) - F(nu) - difference @ U, atol=1e-14)
    np.testing.assert_allclose(bregman(model, jnp.stack([h, g]), g), [bregman(model, h, g), 0], atol=1e-16)


def test_conjugates_by_maximisation():
    cases = [(tanh1d(), 0.3, 0.8), (tanh1d(), -1.2, -0.4), (tanhlog(), -0.3, 1.0), (tanhlog(), 0.9, -1.0)]
    for model, g, y in cases:
        u = jnp.linspace(-8, 8, 160_001)
        conjugate = mean_field.CONJUGATES[type(model.loss)](jnp.asarray(g), jnp.asarray(y))
        np.testing.assert_allclose(conjugate, jnp.max(g * u - model.loss.value(u, jnp.full_like(u, y))), atol=2e-9)
    assert dual(tanhlog(), ball_grid(8.0, 401), jnp.asarray([0.1, 0.2, -0.3])) == -np.inf
    ends = mean_field.CONJUGATES[Logistic](jnp.asarray([-1.0, 0.0]), jnp.ones(2))
    np.testing.assert_array_equal(ends, 0)


def test_gaussian_mixtures():
    """Mean, and entropy of a single component, of the continuous law."""
    grid = ball_grid(8.0, 41, 2)
    one = mean_field.gaussian_mixture(grid, jnp.ones(1), jnp.asarray([[0.5, -1.0]]), jnp.asarray([1.3]))
    np.testing.assert_allclose(mean_field.masses(grid, one) @ grid.nodes, [0.5, -1.0], atol=1e-8)
    np.testing.assert_allclose(mean_field.entropy(grid, one), -np.log(2 * np.pi * np.e * 1.3), atol=1e-7)
    means = jnp.asarray([[1.0, 0.0], [-1.0, 2.0]])
    two = mean_field.gaussian_mixture(grid, jnp.asarray([1.0, 3.0]), means, jnp.asarray([0.5, 0.8]))
    np.testing.assert_allclose(mean_field.masses(grid, two) @ grid.nodes, [-0.5, 1.5], atol=1e-8)


def test_many_problems_in_one_program():
    """Data, temperature, regularisation and extent traced; every third with so little noise that full steps overshoot."""
    rng = np.random.default_rng(3)
    Z, y = rng.uniform(-2, 2, size=(9, 2, 1)), rng.uniform(-1.5, 1.5, size=(9, 2))
    lam, lamp = 10 ** rng.uniform(-1.5, 0.5, size=9), 10 ** rng.uniform(-1.5, 0.3, size=9)
    lam[::3] = 2e-3

    def solve(Z, y, lam, lamp):
        model = Model.of("tanh", "squared", Z, y, lamp=lamp, lam=lam)
        extent = mean_field.sufficient_extent(model, 1.0)
        return extent, mean_field.optimum(model, ball_grid(extent, 601))

    extents, many = jax.jit(jax.vmap(solve))(*map(jnp.asarray, (Z, y, lam, lamp)))
    assert many.converged.all()
    assert many.log_density[:, [0, -1]].max() < -16 * np.log(10) + many.log_density.max()
    for i in range(9):
        x = np.linspace(-1, 1, 601) * extents[i]
        a = -(np.tanh(x[:, None] * Z[i, :, 0]) @ (many.u[i] - y[i]) / 2 + lamp[i] * x**2) / lam[i]
        p = np.exp(a - logsumexp(a))
        np.testing.assert_allclose(p @ np.tanh(x[:, None] * Z[i, :, 0]), many.u[i], atol=1e-12)


def test_any_neuron_and_loss():
    """Functions of the user, differentiated by JAX: those of tanh and the logistic loss, and the conjugate by hand."""
    model = tanhlog()
    own = model._replace(
        neuron=Model.of(lambda x, z: jnp.tanh(x[0] * z[0]), "squared", model.Z, model.y, lamp=0.05, lam=0.05).neuron,
        loss=Model.of("tanh", lambda u, y: jax.nn.softplus(-y * u), model.Z, model.y, lamp=0.05, lam=0.05).loss,
    )
    grid = ball_grid(8.0, 401)
    best, expected = optimum(own, grid), optimum(model, grid)
    np.testing.assert_allclose(best.u, expected.u, atol=1e-13)
    np.testing.assert_allclose(best.free_energy, expected.free_energy, atol=1e-14)
    slopes = model.loss.slope(best.u, model.y)
    with pytest.raises(InputError, match="conjugate must be given for the loss Differentiated"):
        mean_field.dual(own, grid, slopes)
    conjugate = mean_field.CONJUGATES[type(model.loss)]
    np.testing.assert_allclose(mean_field.dual(own, grid, slopes, conjugate), best.free_energy, atol=1e-13)


def test_steps_that_overshoot_are_halved():
    """Newton's method for arctan u = 0 diverges from u = 3."""
    evaluate = lambda u: (jnp.max(jnp.abs(jnp.arctan(u))), -jnp.arctan(u) * (1 + u**2))
    last = mean_field.damped_newton(evaluate, jnp.asarray([3.0]), jnp.asarray(1e-12), 50)
    np.testing.assert_allclose(last.u, 0, atol=1e-12)
    assert last.norm < 1e-12
    assert last.iterations < 15


def test_too_few_iterations_are_reported():
    assert not jax.jit(partial(mean_field.optimum, limit=2))(rbf(0.02), ball_grid(10.0, 801)).converged


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="count must be at least 2, got 1"):
        ball_grid(1.0, 1)
    with pytest.raises(InputError, match="dimension d must be at least 1, got 0"):
        ball_grid(1.0, 5, 0)
    with pytest.raises(InputError, match=r"extent must be positive, got -1\.0"):
        ball_grid(-1.0, 5)
