"""The law of a neuron in time: free energy, decay rates and step-size bias against dense linear algebra and published digits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.kernels import fokker_planck, mean_field
from theorysim.kernels.langevin import Model
from theorysim.kernels.mean_field import ball_grid

POINTS = np.array([0.7, 2.0, 1.0, -0.5, 3.0])[:, None]

flow, stationary = jax.jit(fokker_planck.flow), jax.jit(fokker_planck.stationary)
optimum, predictions = jax.jit(mean_field.optimum), jax.jit(mean_field.predictions)
normal = lambda grid, m, v: mean_field.gaussian_mixture(grid, jnp.ones(1), jnp.full((1, 1), m), jnp.full(1, v))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def tanh1d():
    return Model.of("tanh", "squared", np.array([[0.7], [2.0]]), np.array([0.8, -0.4]), lamp=0.05, lam=0.05)


def slopes_by_hand(model, x, h):
    """U and U' of the squared loss and tanh neurons at predictions h."""
    z, y = np.asarray(model.Z)[:, 0], np.asarray(model.y)
    t = np.tanh(x[:, None] * z)
    return t @ (h - y) / len(y) + model.lamp * x**2, ((1 - t**2) * z) @ (h - y) / len(y) + 2 * model.lamp * x


def test_the_optimum_stays():
    model, grid = tanh1d(), ball_grid(6.0, 121)
    best = optimum(model, grid)
    found = flow(model, grid, best.log_density, 0.1, steps=np.array([1, 50]))
    np.testing.assert_allclose(found.free_energy, best.free_energy, atol=1e-14)
    np.testing.assert_allclose(np.exp(found.log_density), np.exp(best.log_density)[None] * np.ones((2, 1)), atol=1e-13)


@pytest.mark.slow
def test_steps_by_dense_matrices():
    model, grid = tanh1d(), ball_grid(4.0, 41)
    x, dx, dt = np.asarray(grid.nodes)[:, 0], 0.2, 0.05
    p = np.asarray(mean_field.masses(grid, normal(grid, 0.5, 0.6)))
    found = flow(model, grid, normal(grid, 0.5, 0.6), dt, steps=np.array([0, 1, 3]))
    np.testing.assert_allclose(np.exp(found.log_density[0]) * dx, p, rtol=1e-12)
    for k in range(3):
        U, _ = slopes_by_hand(model, x, p @ np.tanh(x[:, None] * np.asarray(model.Z)[:, 0]))
        Q = np.zeros((41, 41))
        for i in range(40):
            v = (U[i + 1] - U[i]) / model.lam
            Q[i + 1, i] = model.lam / dx**2 * v / np.expm1(v)
            Q[i, i + 1] = model.lam / dx**2 * -v / np.expm1(-v)
        p = np.linalg.solve(np.eye(41) - dt * (Q - np.diag(Q.sum(0))), p)
        if k in (0, 2):
            row = found.log_density[1 if k == 0 else 2]
            np.testing.assert_allclose(np.exp(row) * dx, p, rtol=1e-11)
    value = mean_field.free_energy(model, grid, found.log_density[2])
    np.testing.assert_allclose(found.free_energy[2], value, rtol=1e-14)


def test_the_ornstein_uhlenbeck_process():
    """Without data's pull (y = h = 0) a Gaussian law keeps its form: variance lam/a (1 - e^{-2at}) + v e^{-2at}, a = 2 lamp."""
    model = Model.of("tanh", "squared", np.zeros((1, 1)), np.zeros(1), lamp=0.5, lam=0.4)
    grid = ball_grid(6.0, 601)
    found = flow(model, grid, normal(grid, 1.0, 0.2), 1e-3, steps=np.array([500]))
    x, p = grid.nodes[:, 0], mean_field.masses(grid, found.log_density[0])
    np.testing.assert_allclose(p @ x, np.exp(-0.5), rtol=5e-4)
    variance = 0.4 * (1 - np.exp(-1)) + 0.2 * np.exp(-1)
    np.testing.assert_allclose(p @ x**2 - (p @ x) ** 2, variance, rtol=1e-3)


def test_rate_of_decay():
    """L(mu_t) - L(mu*) over t in [24, 40] decays at 0.2982(5), for the tanh network from N(1, 1/4)."""
    model, grid = tanh1d(), ball_grid(6.0, 601)
    found = flow(model, grid, normal(grid, 1.0, 0.25), 0.02, steps=np.array([0, 1200, 2000]))
    gap = found.free_energy - optimum(model, grid).free_energy
    np.testing.assert_allclose(np.log(gap[1] / gap[2]) / 16, 0.2982, atol=1e-3)
    assert gap[0] > gap[1] > gap[2] > 0


@pytest.mark.slow
def test_flows_of_many_networks():
    grid = ball_grid(6.0, 101)
    starts = jnp.stack([normal(grid, m, 0.3) for m in (-1.0, 0.0, 2.0)])
    lam = jnp.asarray([0.05, 0.1, 0.2])
    one = lambda lam, start: fokker_planck.flow(tanh1d()._replace(lam=lam), grid, start, 0.1, steps=np.array([5, 20]))
    many = jax.jit(jax.vmap(one))(lam, starts)
    for i in range(3):
        single = flow(tanh1d()._replace(lam=lam[i]), grid, starts[i], 0.1, steps=np.array([5, 20]))
        np.testing.assert_allclose(many.free_energy[i], single.free_energy, rtol=1e-12)


def test_transitions_by_hand():
    model, grid, eta, u = tanh1d(), ball_grid(3.0, 61), 0.3, np.array([0.2, -0.1])
    x = np.asarray(grid.nodes)[:, 0]
    _, slope = slopes_by_hand(model, x, u)
    T = np.exp(-((x[:, None] - (x - eta * slope)) ** 2) / (4 * 0.05 * eta))
    found = jax.jit(fokker_planck.transition)(model, grid, jnp.asarray(u), eta)
    np.testing.assert_allclose(found, T / T.sum(0), atol=1e-14)


def test_the_stationary_law_by_iteration():
    model, grid, eta = tanh1d(), ball_grid(5.0, 121), 0.5
    x = np.asarray(grid.nodes)[:, 0]
    H = np.tanh(x[:, None] * np.asarray(model.Z)[:, 0])
    p = np.ones(121) / 121
    for _ in range(600):
        _, slope = slopes_by_hand(model, x, p @ H)
        T = np.exp(-((x[:, None] - (x - eta * slope)) ** 2) / (4 * 0.05 * eta))
        p = (T / T.sum(0)) @ p
    found = stationary(model, grid, eta)
    assert found.converged
    np.testing.assert_allclose(mean_field.masses(grid, found.log_density), p, atol=1e-13)
    np.testing.assert_allclose(found.u, p @ H, atol=1e-13)
    assert not jax.jit(partial(fokker_planck.stationary, limit=1))(model, grid, eta).converged


def test_linear_neurons_have_a_gaussian_stationary_law():
    """Drift a x: variance lam/(a (1 - eta a/2)) of the chain at step size eta, a = 2 lamp, about theta."""
    model = Model.of("linear", "squared", np.array([[1.2], [-0.5]]), np.array([0.7, 0.3]), lamp=0.4, lam=0.3)
    grid, eta, a, S = ball_grid(5.0, 201), 0.4, 0.8, (1.2**2 + 0.5**2) / 2
    found = stationary(model, grid, eta)
    p, x = mean_field.masses(grid, found.log_density), grid.nodes[:, 0]
    np.testing.assert_allclose(p @ x, (1.2 * 0.7 - 0.5 * 0.3) / 2 / (S + a), rtol=1e-9)
    np.testing.assert_allclose(p @ x**2 - (p @ x) ** 2, 0.3 / (a * (1 - eta * a / 2)), rtol=1e-9)


@pytest.mark.slow
def test_reference_values_of_the_step_size_bias():
    """(h_{mu_eta} - h_{mu*})/eta at z = 0.7, 2, 3, and its limit beta by extrapolation from smaller steps."""
    model = tanh1d()
    beta = [-0.0045834076, 0.0087590179, -0.0032717284, 0.0042514486, 0.0207461725]

    def bias(eta, count):
        grid = ball_grid(5.5, count)
        limit = predictions(model, grid, optimum(model, grid).log_density, POINTS)
        return (predictions(model, grid, stationary(model, grid, eta).log_density, POINTS) - limit) / eta

    ratios = {0.2: bias(0.2, 321), 0.1: bias(0.1, 445)}
    np.testing.assert_allclose(ratios[0.2][jnp.array([0, 1, 4])], [-0.00440, 0.00924, 0.02132], atol=6e-6)
    np.testing.assert_allclose(ratios[0.1][jnp.array([0, 1, 4])], [-0.00450, 0.00899, 0.02103], atol=6e-6)
    np.testing.assert_allclose(2 * ratios[0.1] - ratios[0.2], beta, rtol=7e-3)


def test_bad_input_is_refused():
    plane = Model.of("tanh", "squared", np.ones((1, 2)), np.ones(1), lamp=0.1, lam=0.1)
    grid = ball_grid(1.0, 5, 2)
    with pytest.raises(InputError, match="nodes must be on a line, got dimension d = 2"):
        fokker_planck.flow(plane, grid, jnp.zeros(len(grid.weights)), 0.1, steps=np.array([1]))
    with pytest.raises(InputError, match="grid must have at most 4000 nodes for the matrix of transitions, got 5001"):
        fokker_planck.stationary(tanh1d(), ball_grid(1.0, 5001), 0.1)
