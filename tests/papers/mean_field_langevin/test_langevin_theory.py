"""Losses, neurons, the optimum with its certificate, entropy identities, constants and bounds against independent values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from threadpoolctl import threadpool_limits

from theorysim.errors import InputError
from theorysim.papers.mean_field_langevin.theory import mean_field as theory
from theorysim.papers.mean_field_langevin.theory.mean_field import LINEAR, LOGISTIC, RBF, SQUARED, TANH, Model

NEURONS = {"tanh": TANH, "rbf": RBF, "linear": LINEAR, "bias": theory.tanh_with_bias(3.0)}
LINE = theory.ball_grid(6.0, 801)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices are small: on a busy machine the threads of the linear algebra would wait for each other."""
    with threadpool_limits(1):
        yield


def close(value, *reference, rel=0.0):
    """Each value is the reference, printed to so many decimals (or, with rel, to that relative error)."""
    for v, text in zip(np.ravel(value), reference, strict=True):
        decimals = len(text.partition(".")[2])
        assert abs(float(text) - v) <= max(0.51 * 10.0**-decimals, rel * abs(float(text))), (text, v)
    return True


def column(*z):
    return np.array(z)[:, None]


def mixture(rng, grid):
    """A random density on a line: one to three Gaussians."""
    log_terms = [
        np.log(w) - (grid.line - rng.normal()) ** 2 / (2 * s) - np.log(s) / 2
        for w, s in zip(rng.dirichlet(np.ones(3)), rng.uniform(0.05, 1, 3), strict=True)
    ]
    return theory.normalised(grid, np.logaddexp.reduce(log_terms[: rng.integers(1, 4)]))


# --- losses and neurons -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [SQUARED, LOGISTIC])
@pytest.mark.parametrize("y", [1.0, -1.0])
def test_loss_derivatives_and_conjugate(loss, y):
    u, step = np.linspace(-3, 3, 13), 1e-5
    for f, derivative in ((loss.value, loss.slope), (loss.slope, loss.curvature), (loss.curvature, loss.third)):
        difference = (f(u + step, y) - f(u - step, y)) / (2 * step)
        np.testing.assert_allclose(derivative(u, y), difference, rtol=0, atol=1e-9)
    g = loss.slope(u, y)
    np.testing.assert_allclose(loss.conjugate(g, y), g * u - loss.value(u, y), rtol=0, atol=1e-14)
    assert (loss.curvature(u, y) <= loss.smoothness).all()


def test_logistic_conjugate_is_infinite_outside():
    assert LOGISTIC.conjugate(np.array([0.1, -1.1]), 1.0).tolist() == [np.inf, np.inf]
    assert LOGISTIC.conjugate(np.array([0.0, -1.0]), 1.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("q", [1, 2])
def test_neuron_derivatives(name, q):
    neuron, rng, step = NEURONS[name], np.random.default_rng(1), 1e-4
    d = q + neuron.excess
    x, z = rng.normal(size=(5, 1, d)), rng.normal(size=(3, q))
    assert neuron.gradient is not None and neuron.laplacian is not None
    value, gradient, laplacian = neuron.value(x, z), neuron.gradient(x, z), neuron.laplacian(x, z)
    assert value.shape == (5, 3) and gradient.shape == (5, 3, d) and laplacian.shape == (5, 3)
    assert (np.abs(value) <= neuron.bound).all()
    total = 0.0
    for axis in range(d):
        shift = step * np.eye(d)[axis]
        up, down = neuron.value(x + shift, z), neuron.value(x - shift, z)
        np.testing.assert_allclose(gradient[..., axis], (up - down) / (2 * step), rtol=0, atol=1e-6)
        total = total + (up - 2 * value + down) / step**2
    np.testing.assert_allclose(laplacian, total, rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lam": 0.0}, "temperature lam"),
        ({"lamp": -1.0}, "regularisation lamp"),
        ({"y": np.ones(3)}, r"responses y must be of shape \(2,\)"),
        ({"Z": np.array([[np.nan], [0.0]])}, "finite"),
        ({"loss": LOGISTIC}, r"labels y must be \+1 or -1"),
    ],
)
def test_model_rejects(change, message):
    good = {"neuron": TANH, "Z": column(0.7, 2.0), "y": np.array([0.8, -0.4]), "lam": 0.05, "lamp": 0.05}
    with pytest.raises(InputError, match=message):
        Model(**(good | change))


def test_grids_reject():
    with pytest.raises(InputError, match="count of nodes per axis"):
        theory.ball_grid(1.0, 4)
    with pytest.raises(InputError, match="grid must be of dimension 1"):
        theory.mf_optimum(theory.tanh1d(), theory.ball_grid(1.0, 5, 2))
    with pytest.raises(InputError, match="unbounded neuron"):
        theory.mf_optimum(theory.gauss())
    with pytest.raises(InputError, match="gradient and laplacian"):
        user = theory.Neuron(lambda x, z: np.cos(x[..., 0] * z[..., 0]), 1.0)
        theory.step_size_bias(theory.mf_optimum(Model(user, column(1.0), np.ones(1), 0.1, 0.1)), column(1.0))


# --- the optimum ------------------------------------------------------------------------------------------------------


def test_tanh1d_reference():
    optimum, z = theory.mf_optimum(theory.tanh1d()), column(0.7, 2.0, 1.0, -0.5, 3.0)
    close(optimum.u, "0.076111062394", "0.012560579674")
    close(optimum.value, "0.157688987261")
    close(optimum.K, "0.21368611", "0.33980880", "0.33980880", "0.56662848")
    close(optimum.kappa, "0.055922369052")
    close(optimum.gap_bound, "0.19507865")
    p = theory.predict(optimum, z)
    close(p.value, "0.07611106", "0.01256058", "0.06996414", "-0.06959464", "-0.03177930")
    close(p.iid_variance, "0.21368611", "0.56662848", "0.32443248", "0.13255043", "0.69133819")
    close(p.variance, "0.02881101", "0.06650159", "0.03942339", "0.01980500", "0.08990385")
    close(p.bias, "-0.01385754", "-0.00687314", "-0.01213892", "0.01338334", "-0.00757141")
    beta = theory.step_size_bias(optimum, z)
    close(beta, "-0.0045834076", "0.0087590179", "-0.0032717284", "0.0042514486", "0.0207461725")
    chaos = theory.local_chaos(optimum)
    close(chaos, "0.0393577", "0.473024", "0.6418844", "0.020837")
    np.testing.assert_allclose(np.diag(optimum.Sigma), p.variance[:2], rtol=1e-12)
    assert theory.truncation_error(optimum) < 1e-13


def test_tanhlog_reference():
    optimum, z = theory.mf_optimum(theory.tanhlog()), column(0.7, 2.0, -1.0, 1.0, 3.0)
    close(optimum.u, "-0.3690324", "-0.67478449", "0.47681068")
    close(optimum.kappa, "0.010827617")
    p = theory.predict(optimum, z)
    close(p.variance, "0.04777711", "0.11284657", "0.0702162", "0.0702162", "0.13479241")
    close(p.bias, "-0.04384381", "-0.09455696", "0.05944591", "-0.05944591", "-0.11209993")
    close(theory.step_size_bias(optimum, column(2.0, 3.0)), "0.0176685", "0.0265109")
    assert abs(theory.merging_threshold(p.bias[-1], p.variance[-1]) - 10.73) < 0.01


RBF_TABLE = [
    (0.2, "0.39561156", "0.05900127", "0.07557"),
    (0.1, "0.43264314", "0.04946811", "0.08026"),
    (0.05, "0.45078472", "0.03852535", "0.08623"),
    (0.02, "0.47078245", "0.02445219", "0.09680"),
    (0.01, "0.48281516", "0.01572984", "0.10371"),
    (0.005, "0.48883265", "0.00958495", "0.10726"),
]


@pytest.mark.parametrize("lam, u, kappa, bound", RBF_TABLE)
def test_rbf_reference(lam, u, kappa, bound):
    optimum = theory.mf_optimum(theory.rbf(lam))
    close(optimum.u, u, u)
    close(optimum.kappa, kappa)
    close(optimum.gap_bound, bound)
    assert optimum.kappa < optimum.gap_bound < theory.worst_case_gap(optimum.model) == 0.5


def test_rbf_predictions():
    optimum, z = theory.mf_optimum(theory.rbf(0.1)), column(0.0, 1.5, 3.0)
    p = theory.predict(optimum, z)
    close(p.value, "0.5182115", "0.43264314", "0.13257272")
    close(p.variance, "0.08694759", "0.06595133", "0.0340282")
    close(p.bias, "0.03486905", "-0.00736166", "-0.00879283")
    close(theory.step_size_bias(optimum, z), "0.00777", "-0.00604", "0.00107")


def test_circles_reference():
    """61 nodes per axis: 7 digits."""
    optimum = theory.mf_optimum(theory.circles(), theory.ball_grid(5.0, 61, 3))
    np.testing.assert_allclose(optimum.model.Z[0], [-0.77792282, -0.6068126], atol=1e-8)
    assert abs(optimum.kappa - 0.35486439) < 1e-7 and abs(optimum.gap_bound - 2.66709863) < 1e-6
    assert abs(np.diag(optimum.Sigma).mean() - 0.28372469) < 1e-7
    assert theory.worst_case_gap(optimum.model) == 4.5
    assert abs(optimum.value - optimum.dual_value) < 1e-12
    z = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 2.5]])
    p = theory.predict(optimum, z)
    np.testing.assert_allclose(p.value, [0.67407057, -0.06357570, -0.42566015], atol=1e-7)
    np.testing.assert_allclose(p.variance, [0.20873756, 0.21627612, 0.58775291], atol=2e-7)
    np.testing.assert_allclose(p.bias, [-0.1422319, 0.0311503, -0.0119034], atol=2e-7)
    np.testing.assert_allclose(p.iid_variance, [3.956788, 4.788974, 6.422454], atol=1e-6)
    beta = theory.step_size_bias(optimum, z)
    np.testing.assert_allclose(beta, [-0.0176301, -0.0010983, 0.0039408], atol=1e-6)


def test_gauss_on_a_grid():
    """mu* = N(theta, (lam/a0) I), and the bias vanishes."""
    model = theory.gauss()
    optimum = theory.mf_optimum(model, theory.ball_grid(5.5, 41, 3))
    S = model.Z.T @ model.Z / model.n
    a0 = 2 * model.lamp
    theta = np.linalg.solve(S + a0 * np.eye(3), model.Z.T @ model.y / model.n)
    np.testing.assert_allclose(optimum.u, model.Z @ theta, atol=1e-10)
    np.testing.assert_allclose(optimum.K, model.lam / a0 * model.Z @ model.Z.T, atol=1e-9)
    assert abs(optimum.kappa - 0.17649332597875) < 1e-10
    z = np.eye(3)
    p = theory.predict(optimum, z)
    np.testing.assert_allclose(p.bias, 0, atol=1e-9)
    np.testing.assert_allclose(p.variance, model.lam * np.diag(np.linalg.inv(S + a0 * np.eye(3))), atol=1e-9)
    np.testing.assert_allclose(theory.step_size_bias(optimum, z), 0, atol=1e-9)


def test_plane_against_tensor_quadrature():
    """d = 2 by the defining fixed point: mu* from the outputs found reproduces them under an independent quadrature."""
    neuron = theory.tanh_with_bias()
    model = Model(neuron, column(0.5, -1.0), np.array([1.0, -0.5]), 0.1, 0.2)
    optimum = theory.mf_optimum(model)
    node, weight = np.polynomial.legendre.leggauss(160)
    w, b = np.meshgrid(5 * node, 5 * node)
    g = (optimum.u - model.y) / 2
    h = [np.tanh(w * z + b) for z in (0.5, -1.0)]
    gibbs = np.outer(weight, weight) * np.exp(-(g[0] * h[0] + g[1] * h[1] + 0.2 * (w**2 + b**2)) / 0.1)
    np.testing.assert_allclose([(gibbs * f).sum() / gibbs.sum() for f in h], optimum.u, atol=1e-10)


@pytest.mark.parametrize("model", [theory.tanh1d(), theory.tanhlog(), theory.rbf(0.1)], ids=["tanh", "log", "rbf"])
def test_certificate(model):
    rng, grid = np.random.default_rng(2), theory.ball_grid(13.0, 1001)
    optimum = theory.mf_optimum(model, grid)
    assert abs(optimum.value - optimum.dual_value) < 1e-14 and optimum.residual < 1e-13
    for _ in range(30):
        density = mixture(rng, grid)
        value, u = theory.objective(model, grid, density), theory.outputs(model, grid, density)
        proximal = theory.proximal_gibbs(model, grid, u)
        slope = model.loss.slope(u, model.y)
        duality = value - theory.dual(model, grid, slope)
        assert abs(duality - model.lam * theory.kl(grid, density, proximal)) < 1e-12
        assert theory.dual(model, grid, rng.normal(size=model.n)) <= optimum.value
        # the sandwich
        forward = model.lam * theory.kl(grid, density, optimum.density)
        assert abs(value - optimum.value - forward - model.bregman(u, optimum.u)) < 1e-12
        backward = model.bregman(optimum.u, u) + model.lam * theory.kl(grid, optimum.density, proximal)
        assert abs(duality - (value - optimum.value) - backward) < 1e-12


@pytest.mark.parametrize("model, error", [(theory.tanh1d(), 0.0108), (theory.rbf(0.1), 0.0032)])
def test_certificate_catches_a_missing_two(model, error):
    half = Model(model.neuron, model.Z, model.y, model.lam, model.lamp / 2)
    grid = theory.ball_grid(25.0, 2001)
    wrong = theory.mf_optimum(half, grid)
    gap = theory.objective(model, grid, wrong.density) - theory.dual(model, grid, wrong.u - model.y)
    assert gap > 0.8 * error


def test_entropy_and_kl_of_normal_laws():
    a, b = theory.normal_density(LINE, 0.3, 0.4), theory.normal_density(LINE, -0.2, 0.5)
    assert abs(theory.entropy(LINE, a) + np.log(2 * np.pi * np.e * 0.4) / 2) < 1e-12
    assert abs(theory.kl(LINE, a, b) - (0.4 / 0.5 - 1 + np.log(0.5 / 0.4) + 0.25 / 0.5) / 2) < 1e-12


# --- predictions ------------------------------------------------------------------------------------------------------


def test_bias_against_the_formula_term_by_term():
    """b = -(1/2)[t_z - K_z.G t], written out with third moments."""
    optimum, z = theory.mf_optimum(theory.tanhlog(), LINE), column(2.0, 3.0)
    p, phi, G = optimum.density * LINE.weight, optimum.features, optimum.G
    np.testing.assert_allclose(np.linalg.inv(G), 0.15 * np.diag(1 / optimum.D) + optimum.K, rtol=1e-9)
    np.testing.assert_allclose(
        optimum.Sigma, optimum.K @ np.linalg.inv(np.eye(3) + np.diag(optimum.D) @ optimum.K / 0.15), atol=1e-14
    )
    H = np.tanh(LINE.nodes * z[:, 0])
    phi_z = H - p @ H
    third = optimum.model.loss.third(optimum.u, optimum.model.y)
    c = third * np.diag(optimum.Sigma) / (0.05 * 3)
    t = np.einsum("g,gj,gk,gl,kl->j", p, phi, phi, phi, G) + optimum.K @ c
    K_z = np.einsum("g,gm,gj->mj", p, phi_z, phi)
    t_z = np.einsum("g,gm,gk,gl,kl->m", p, phi_z, phi, phi, G) + K_z @ c
    np.testing.assert_allclose(theory.predict(optimum, z).bias, -(t_z - K_z @ G @ t) / 2, rtol=1e-10)


def test_step_correction_in_a_harmonic_potential():
    """Without data the chain's law is normal with variance lam/(a0 (1 - eta a0/2)), a0 = 2 lamp."""
    model = Model(LINEAR, column(0.0), np.array([0.0]), 0.3, 0.4)
    optimum = theory.mf_optimum(model, LINE)
    q, a0 = 0.3 / 0.8, 0.8
    np.testing.assert_allclose(optimum.step_correction, a0 / 4 * (LINE.line**2 / q - 1), atol=1e-12)


def test_user_neuron_and_many_inputs(monkeypatch):
    user = theory.Neuron(lambda x, z: np.cos(x[..., 0] * z[..., 0]), 1.0)
    optimum = theory.mf_optimum(Model(user, column(1.0), np.ones(1), 0.1, 0.1))
    monkeypatch.setattr(theory, "BLOCK", 2**16)  # 32 inputs
    z = column(*np.linspace(0, 2, 90))
    p = theory.predict(optimum, z)
    assert p.value.shape == (90,) and abs(p.value[0] - 1) < 1e-12 and p.iid_variance[0] < 1e-20
    one = theory.predict(optimum, z[85:86])
    np.testing.assert_allclose(p.bias[85], one.bias[0], rtol=1e-12)
    u = optimum.u[0]
    weight = lambda x: np.exp(-((u - 1) * np.cos(x) + 0.1 * x**2) / 0.1)
    norm = quad(weight, -8, 8, epsabs=1e-13)[0]
    assert abs(quad(lambda x: weight(x) * np.cos(x), -8, 8, epsabs=1e-13)[0] / norm - u) < 1e-10


# --- bounds and ensembles ---------------------------------------------------------------------------------------------


def test_ensembles():
    """Exact laws of N = 1, 2, 4, 8 neurons (tanhlog, z = 3) merged at 64 neurons in all, and the thresholds."""
    bias, variance = (
        np.array([-0.096616, -0.056642, -0.02896, -0.01430]),
        np.array([0.062471, 0.049657, 0.03028, 0.01615]),
    )
    merged = theory.ensemble_error(bias, variance, 64 / np.array([1, 2, 4, 8]))
    np.testing.assert_allclose(merged, [0.0103, 0.00476, 0.00273, 0.00222], rtol=0.006)
    assert (np.diff(merged) < 0).all()
    np.testing.assert_allclose(theory.merging_threshold(bias, variance), [6.7, 15.5, 36.1, 79], rtol=0.005)
    np.testing.assert_allclose(
        theory.ensemble_error(bias + 0.05 * 0.0265109, variance, 16)[1:], [0.006163, 0.002656, 0.001178], rtol=0.001
    )


def test_tanh_lsi_constant():
    model = Model(TANH, column(0.5, 0.8), np.array([0.5, -0.4]), 0.1, 0.4)
    close(theory.tanh_lsi(model) * model.lam, "0.31079")
    x = np.linspace(-20, 20, 100001)
    assert abs(np.gradient(np.gradient(np.tanh(x), x), x).max() - 4 / np.sqrt(27)) < 1e-5
    with pytest.raises(InputError, match="tanh neurons"):
        theory.tanh_lsi(theory.rbf(0.1))


def test_output_bounds():
    model = theory.rbf(0.1)
    bounds = theory.output_bounds(model, 8, 0.00632)
    close(bounds.bias, "0.126")
    close(bounds.mean_square, "0.426")
    close(bounds.training, "0.01264")
    assert bounds.ensemble(4) == bounds.bias + bounds.mean_square / 4
    # KL <= N q/lam turns one form into the other
    np.testing.assert_allclose(theory.output_bounds_kl(model, 8, 8 * 0.00632 / 0.1), bounds[:2], rtol=1e-12)


def test_remaining_bounds():
    optimum = theory.mf_optimum(theory.tanh1d(), LINE)
    model = optimum.model
    assert theory.worst_case_gap(model) == 0.5 and theory.worst_case_gap(theory.tanhlog()) == 0.125
    assert theory.defective_lsi(model, 2, 2.0, 3.0) == pytest.approx(0.05 * 3 / 8 + 2 * 1 / 2)
    assert theory.exponential_bound(model, 2.0, 3.0, 0.5) == pytest.approx(0.5 * np.exp(-2 * 2 * 0.05 * 3))
    first, second, third = theory.transport_bounds(optimum, 4, 2.0, 0.6, 0.015)
    assert first == pytest.approx(2 / (2 * 4) * 0.6) and second == pytest.approx(2 * 0.015 / (2 * 0.05))
    assert third == pytest.approx(np.trace(optimum.K) / (2 * 0.05 * 2 * 4))


@settings(max_examples=25)
@given(
    z=st.lists(st.floats(-2, 2), min_size=1, max_size=3),
    y=st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=3),
    lam=st.floats(0.03, 3),
    lamp=st.floats(0.03, 2),
    neuron=st.sampled_from([TANH, RBF]),
    logistic=st.booleans(),
)
def test_optimum_of_any_problem(z, y, lam, lamp, neuron, logistic):
    labels = np.array(y[: len(z)])
    labels = np.where(labels > 0, 1.0, -1.0) if logistic else labels
    model = Model(neuron, column(*z), labels, lam, lamp, LOGISTIC if logistic else SQUARED)
    optimum = theory.mf_optimum(model)
    assert abs(optimum.value - optimum.dual_value) < 1e-12 * max(1, abs(optimum.value))
    assert theory.truncation_error(optimum) < 1e-8
    p = theory.predict(optimum, column(0.3))
    assert 0 <= p.variance[0] <= p.iid_variance[0] + 1e-15 and 0 <= optimum.kappa <= optimum.gap_bound + 1e-15
    assert optimum.gap_bound <= theory.worst_case_gap(model)
