"""Predictions for mean-field Langevin dynamics: models, the mean-field optimum with its certificate, 1/N constants, bounds.

Nitanda, Lee, Tan, Sakaguchi, Suzuki, ICML 2025, arXiv 2502.05784; Nitanda, NeurIPS 2024, arXiv 2405.15767; Chen, Ren,
Wang, arXiv 2212.03050. Constants and everything else without a reference are derived here, with the key step in each
docstring.

Convention: neurons x in R^d, h_mu(z) = E_{x~mu} h(x, z), network of N neurons rho_X = (1/N) sum_i delta_{x^i} (1/N, not
1/sqrt N); F(mu) = (1/n) sum_j l(h_mu(z_j), y_j) + lamp E_mu |x|^2, L(mu) = F(mu) + lam Ent(mu) with Ent(mu) = int mu log mu.
U_mu = (1/n) sum_j l'(h_mu(z_j), y_j) h(., z_j) + lamp |x|^2 is the first variation; the optimum mu* is the fixed point of
mu = exp(-U_mu/lam)/norm. L^N(P) = N E_P F(rho_X) + lam Ent(P) has minimiser P* = exp(-N F(rho_X)/lam)/norm; the gap of a law
P is L^N(P)/N - L(mu*). A law mu satisfies LSI(alpha) if KL(nu||mu) <= FI(nu||mu)/(2 alpha): N(0, s^2) has alpha = 1/s^2.

At the optimum u_j = h_{mu*}(z_j), phi_j = h(., z_j) - u_j, K = E[phi phi^T], D = diag l''(u_j, y_j), c_j = l'''(u_j, y_j),
G = (lam n D^{-1} + K)^{-1}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Shaped
from scipy.interpolate import CubicSpline
from scipy.special import expit, logsumexp, rel_entr, xlogy

from theorysim.errors import InputError, require

Real = float | int | np.floating | np.integer | Shaped[np.ndarray, "..."]
"""A number or an array of any shape; arguments broadcast against each other."""

Value: TypeAlias = Any
"""What a broadcasting formula returns, typed as NumPy types its own ufuncs: float64, a scalar for scalars."""

Broadcast = Callable[[Value, Value], Value]

LINE_NODES = 2001
"""Nodes of the grid chosen for d = 1."""

AXIS_NODES = 91
"""Nodes per axis of the grid chosen for d = 2, 3: at 8 standard deviations a spacing of 0.18 of one."""

EDGE = 25.0
"""A chosen grid is enlarged until the density at its edge is below e^{-EDGE} of the peak."""

CHUNK = 2**16
"""Nodes taken together in sums over a grid."""

BLOCK = 2**24
"""Features of test points are made for so many numbers at a time."""

# --------------------------------------------------------------------------------------------------------------------
# Losses, neurons, models
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """l(u, y), convex and smooth in u, with derivatives in u.

    value, slope, curvature, third: l, l', l'', l''', functions of (u, y). conjugate: l*(g) = sup_u g u - l(u, y), a
    function of (g, y). smoothness: the paper's L = sup l''. binary: labels must be +1 or -1.
    """

    value: Broadcast
    slope: Broadcast
    curvature: Broadcast
    third: Broadcast
    conjugate: Broadcast
    smoothness: float
    binary: bool = False


def _logistic_curvature(u: Value, y: Value) -> Value:
    s = expit(-y * u)
    return s * (1 - s)


def _logistic_conjugate(g: Value, y: Value) -> Value:
    q = -y * g
    inside = (q >= 0) & (q <= 1)
    kept = np.where(inside, q, 0.5)
    return np.where(inside, xlogy(kept, kept) + xlogy(1 - kept, 1 - kept), np.inf)


SQUARED = Loss(
    value=lambda u, y: (u - y) ** 2 / 2,
    slope=lambda u, y: u - y,
    curvature=lambda u, y: np.ones_like(u - y),
    third=lambda u, y: np.zeros_like(u - y),
    conjugate=lambda g, y: g**2 / 2 + g * y,
    smoothness=1.0,
)
"""l = (u - y)^2/2."""

LOGISTIC = Loss(
    value=lambda u, y: np.logaddexp(0, -y * u),
    slope=lambda u, y: -y * expit(-y * u),
    curvature=_logistic_curvature,
    third=lambda u, y: -y * _logistic_curvature(u, y) * (1 - 2 * expit(-y * u)),
    conjugate=_logistic_conjugate,
    smoothness=0.25,
    binary=True,
)
"""l = log(1 + e^{-y u}), y = +-1. The conjugate is q log q + (1 - q) log(1 - q), q = -y g in [0, 1], infinite outside."""


@dataclass(frozen=True)
class Neuron:
    """h(x, z) of a neuron x (..., d) at an input z (..., q); leading axes broadcast against each other.

    value: h, (...). bound: the paper's R = sup |h|, infinite if there is none. gradient: grad_x h, (..., d), and laplacian
    of h in x, (...): for dynamics and for the bias of the step size alone. excess: d - q, parameters beyond the
    length of an input, 1 for a bias.
    """

    value: Broadcast
    bound: float
    gradient: Broadcast | None = None
    laplacian: Broadcast | None = None
    excess: int = 0


def _dot(x: Value, z: Value) -> Value:
    return np.einsum("...d,...d->...", x, z)


def _rbf(x: Value, z: Value) -> Value:
    return np.exp(-((x - z) ** 2).sum(-1) / 2)


def tanh_with_bias(scale: float = 1.0) -> Neuron:
    """h = scale tanh(w.z + b) with x = (w, b)."""

    def value(x: Value, z: Value) -> Value:
        return scale * np.tanh(_dot(x[..., :-1], z) + x[..., -1])

    def gradient(x: Value, z: Value) -> Value:
        slope = scale - value(x, z) ** 2 / scale
        return slope[..., None] * np.concatenate([z, np.ones_like(z[..., :1])], -1)

    def laplacian(x: Value, z: Value) -> Value:
        h = value(x, z) / scale
        return -2 * scale * h * (1 - h**2) * (1 + _dot(z, z))

    return Neuron(value, abs(scale), gradient, laplacian, excess=1)


TANH = Neuron(
    value=lambda x, z: np.tanh(_dot(x, z)),
    bound=1.0,
    gradient=lambda x, z: (1 - np.tanh(_dot(x, z)) ** 2)[..., None] * z,
    laplacian=lambda x, z: -2 * np.tanh(_dot(x, z)) * (1 - np.tanh(_dot(x, z)) ** 2) * _dot(z, z),
)
"""h = tanh(x.z)."""

RBF = Neuron(
    value=_rbf,
    bound=1.0,
    gradient=lambda x, z: (z - x) * _rbf(x, z)[..., None],
    laplacian=lambda x, z: (((x - z) ** 2).sum(-1) - x.shape[-1]) * _rbf(x, z),
)
"""h = exp(-|x - z|^2/2)."""

LINEAR = Neuron(
    value=_dot,
    bound=np.inf,
    gradient=lambda x, z: np.broadcast_arrays(x, z)[1],
    laplacian=lambda x, z: np.zeros_like(_dot(x, z)),
)
"""h = x.z: unbounded, the linear-Gaussian model."""


@dataclass(frozen=True, eq=False)
class Model:
    """Data and objective: neuron, inputs Z (n, q), responses y (n,), temperature lam, regularisation lamp (lambda'), loss.

    Raises InputError unless Z and y are finite and of one length n >= 1, lam and lamp are positive, and the labels of a
    binary loss are +-1.
    """

    neuron: Neuron
    Z: Float[np.ndarray, "n q"]
    y: Float[np.ndarray, " labels"]
    lam: float
    lamp: float
    loss: Loss = SQUARED

    def __post_init__(self) -> None:
        require(self.Z.ndim == 2 and len(self.Z) >= 1, f"inputs Z must be of shape (n, q), got shape {self.Z.shape}")
        require(self.y.shape == (self.n,), f"responses y must be of shape ({self.n},), got shape {self.y.shape}")
        require(
            bool(np.isfinite(self.Z).all() and np.isfinite(self.y).all()), "inputs Z and responses y must be finite"
        )
        require(self.lam > 0, f"temperature lam must be positive, got {self.lam}")
        require(self.lamp > 0, f"regularisation lamp must be positive, got {self.lamp}")
        binary = bool((np.abs(self.y) == 1).all())
        require(not self.loss.binary or binary, f"labels y must be +1 or -1, got {self.y.tolist()}")

    @property
    def n(self) -> int:
        return len(self.Z)

    @property
    def d(self) -> int:
        return self.Z.shape[1] + self.neuron.excess

    @property
    def prior_sd(self) -> float:
        """Standard deviation of N(0, lam/(2 lamp) I), the optimum without data."""
        return float(np.sqrt(self.lam / (2 * self.lamp)))

    def features(self, x: Float[np.ndarray, "g d"], z: Float[np.ndarray, "m q"]) -> Float[np.ndarray, "g m"]:
        """h(x, z) of every neuron and input."""
        columns = np.empty((len(x), len(z)))
        for j, point in enumerate(z):
            columns[:, j] = self.neuron.value(x, point)
        return columns

    def risk(self, u: Float[np.ndarray, "... n"]) -> Value:
        """(1/n) sum_j l(u_j, y_j), (...)."""
        return self.loss.value(u, self.y).mean(-1)

    def bregman(self, u: Float[np.ndarray, "... n"], at: Float[np.ndarray, " n"]) -> Value:
        """B(mu, nu) = F(mu) - F(nu) - int U_nu d(mu - nu) of laws with outputs u and `at`, (...).

        The regulariser is linear in mu and drops out.
        """
        return self.risk(u) - self.risk(at) - ((u - at) * self.loss.slope(at, self.y)).mean(-1)

    def potential(self, x: Float[np.ndarray, "g d"], g: Float[np.ndarray, " n"]) -> Float[np.ndarray, " g"]:
        """U(x) = (1/n) sum_j g_j h(x, z_j) + lamp |x|^2."""
        return self.features(x, self.Z) @ g / self.n + self.lamp * _dot(x, x)

    def potential_derivatives(
        self, x: Float[np.ndarray, "g d"], g: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "g d"], Float[np.ndarray, " g"]]:
        """Gradient and Laplacian of U(x) = (1/n) sum_j g_j h(x, z_j) + lamp |x|^2.

        Raises InputError if the neuron has no derivatives.
        """
        gradient, laplacian = 2 * self.lamp * x, np.full(len(x), 2.0 * self.lamp * self.d)
        if self.neuron.gradient is None or self.neuron.laplacian is None:
            raise InputError("neuron must have gradient and laplacian here, got none")
        for point, g_j in zip(self.Z, g / self.n, strict=True):
            gradient = gradient + g_j * self.neuron.gradient(x, point)
            laplacian = laplacian + g_j * self.neuron.laplacian(x, point)
        return gradient, laplacian


def _column(*values: float) -> Float[np.ndarray, "n 1"]:
    return np.array(values)[:, None]


def tanh1d() -> Model:
    """h = tanh(x z), z = (0.7, 2), y = (0.8, -0.4), lam = lamp = 0.05, squared loss."""
    return Model(TANH, _column(0.7, 2.0), np.array([0.8, -0.4]), 0.05, 0.05)


def tanhlog() -> Model:
    """h = tanh(x z), z = (0.7, 2, -1), y = (1, -1, 1), lam = lamp = 0.05, logistic loss."""
    return Model(TANH, _column(0.7, 2.0, -1.0), np.array([1.0, -1.0, 1.0]), 0.05, 0.05, LOGISTIC)


def rbf(lam: float) -> Model:
    """h = exp(-(x - z)^2/2), z = (-1.5, 1.5), y = (1, 1), lamp = 0.02, squared loss: bimodal, metastable as lam falls."""
    return Model(RBF, _column(-1.5, 1.5), np.array([1.0, 1.0]), lam, 0.02)


def gauss() -> Model:
    """Linear neuron, d = 3, n = 5, lam = 0.1, lamp = 0.15, squared loss: everything in closed form."""
    Z = [[1.0, 0.5, -0.3], [-0.4, 1.2, 0.8], [0.3, -0.9, 1.1], [1.5, 0.2, 0.6], [-0.7, 0.4, -1.3]]
    return Model(LINEAR, np.array(Z), np.array([1.0, -1.0, 0.5, 2.0, -0.5]), 0.1, 0.15)


def circles(lam: float = 0.05, lamp: float = 0.05) -> Model:
    """h = 3 tanh(w.z + b), 40 noisy points of two circles, radius 1 with y = 1 and radius 2 with y = -1, squared loss."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 40)
    outer = np.arange(40) % 2 == 1
    Z = np.where(outer, 2.0, 1.0)[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    Z = Z + 0.1 * rng.standard_normal((40, 2))
    return Model(tanh_with_bias(3.0), Z, np.where(outer, -1.0, 1.0), lam, lamp)


# --------------------------------------------------------------------------------------------------------------------
# Grids and laws on them
# --------------------------------------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """Quadrature nodes (G, d) of the trapezoidal rule with equal weights spacing^d, on |x| <= extent.

    For densities that vanish at the edge: the rule is then exact up to exponentially small terms, 2 pi/spacing against the
    width of the density and of the strip in which h is analytic. Densities on a grid are (G,), sum to 1 with the weight.
    """

    nodes: Float[np.ndarray, "g d"]
    extent: float
    spacing: float

    @property
    def weight(self) -> float:
        return self.spacing ** self.nodes.shape[1]

    @property
    def line(self) -> Float[np.ndarray, " g"]:
        """Nodes of a grid of dimension 1. Raises InputError for others."""
        require(self.nodes.shape[1] == 1, f"grid must be of dimension 1 here, got dimension {self.nodes.shape[1]}")
        return self.nodes[:, 0]


def ball_grid(extent: float, count: int, d: int = 1) -> Grid:
    """`count` nodes per axis on [-extent, extent]^d, those with |x| <= extent kept; all of them for d = 1.

    Raises InputError unless extent > 0, count is odd and at least 3 and d is 1, 2 or 3.
    """
    require(extent > 0, f"extent must be positive, got {extent}")
    require(count >= 3 and count % 2 == 1, f"count of nodes per axis must be odd and at least 3, got {count}")
    require(d in (1, 2, 3), f"dimension d of a grid must be 1, 2 or 3, got {d}")
    axis = np.linspace(-extent, extent, count)
    nodes = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), -1).reshape(-1, d)
    if d > 1:
        nodes = nodes[_dot(nodes, nodes) <= extent**2 * (1 + 1e-12)]
    return Grid(nodes, float(extent), 2 * extent / (count - 1))


def normalised(grid: Grid, log_density: Float[np.ndarray, " g"]) -> Float[np.ndarray, " g"]:
    """The density proportional to exp(log_density)."""
    return np.exp(log_density - logsumexp(log_density)) / grid.weight


def normal_density(grid: Grid, mean: float, variance: float) -> Float[np.ndarray, " g"]:
    """N(mean, variance I), normalised on the grid; the mean is the same along every axis."""
    return normalised(grid, -((grid.nodes - mean) ** 2).sum(-1) / (2 * variance))


def entropy(grid: Grid, density: Float[np.ndarray, " g"]) -> float:
    """Ent(mu) = int mu log mu (the negative of Shannon's)."""
    return float(xlogy(density, density).sum() * grid.weight)


def kl(grid: Grid, density: Float[np.ndarray, " g"], other: Float[np.ndarray, " g"]) -> float:
    """KL(density||other)."""
    return float(rel_entr(density, other).sum() * grid.weight)


def outputs(model: Model, grid: Grid, density: Float[np.ndarray, " g"]) -> Float[np.ndarray, " n"]:
    """h_mu(z_j) at the training inputs."""
    return density @ model.features(grid.nodes, model.Z) * grid.weight


def objective(model: Model, grid: Grid, density: Float[np.ndarray, " g"]) -> float:
    """L(mu) = F(mu) + lam Ent(mu)."""
    square = density @ _dot(grid.nodes, grid.nodes) * grid.weight
    risk = model.risk(outputs(model, grid, density))
    return float(risk + model.lamp * square + model.lam * entropy(grid, density))


def dual(model: Model, grid: Grid, g: Float[np.ndarray, " n"]) -> float:
    """D(g) = -(1/n) sum_j l*(g_j, y_j) - lam log int exp(-U_g/lam), U_g = (1/n) sum_j g_j h(., z_j) + lamp |x|^2.

    D(g) <= L(mu) for all g and mu on the grid (Fenchel's inequality in each l, Gibbs' variational principle), with equality
    at mu* and g = l'(u*); -infinity where a conjugate is infinite.
    """
    log_norm = logsumexp(-model.potential(grid.nodes, g) / model.lam) + np.log(grid.weight)
    return float(-model.loss.conjugate(g, model.y).mean() - model.lam * log_norm)


def proximal_gibbs(model: Model, grid: Grid, u: Float[np.ndarray, " n"]) -> Float[np.ndarray, " g"]:
    """exp(-U_mu/lam)/norm for a law mu with outputs u."""
    return normalised(grid, -model.potential(grid.nodes, model.loss.slope(u, model.y)) / model.lam)


# --------------------------------------------------------------------------------------------------------------------
# The optimum
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Optimum:
    """mu* on a grid.

    u: outputs h_{mu*}(z_j), (n,). density: mu* at the nodes, (G,). features: phi_j = h(., z_j) - u_j, (G, n).
    value: L(mu*). dual_value: D(l'(u*)), equal to `value` up to rounding: the certificate of the Newton solution, blind to
    the truncation of the grid. residual: max |u - h_mu(z)| of the fixed point. iterations: Newton steps.
    """

    model: Model
    grid: Grid
    u: Float[np.ndarray, " n"]
    density: Float[np.ndarray, " g"]
    features: Float[np.ndarray, "g n"]
    value: float
    dual_value: float
    residual: float
    iterations: int

    def mean(self, f: Float[np.ndarray, "g ..."]) -> Value:
        """E_{mu*} f for f on the nodes, one value for every trailing index."""
        return np.tensordot(self.density * self.grid.weight, f, 1)

    @cached_property
    def K(self) -> Float[np.ndarray, "n n"]:
        """E[phi phi^T]."""
        return _gram(self.density * self.grid.weight, self.features)

    @property
    def D(self) -> Float[np.ndarray, " n"]:
        """l''(u_j, y_j)."""
        return self.model.loss.curvature(self.u, self.model.y)

    @cached_property
    def A(self) -> Float[np.ndarray, "n n"]:
        """D^{1/2} K D^{1/2}/(lam n)."""
        root = np.sqrt(self.D)
        return root[:, None] * self.K * root / (self.model.lam * self.model.n)

    @cached_property
    def G(self) -> Float[np.ndarray, "n n"]:
        """(lam n D^{-1} + K)^{-1}, the precision of a Gaussian process with noise lam n/l''."""
        root, n = np.sqrt(self.D), self.model.n
        return root[:, None] * np.linalg.inv(np.eye(n) + self.A) * root / (self.model.lam * n)

    @property
    def Sigma(self) -> Float[np.ndarray, "n n"]:
        """K - K G K: the limit of N Cov_{P*}(h_rho(z_j), h_rho(z_l))."""
        return self.K - self.K @ self.G @ self.K

    @property
    def kappa(self) -> float:
        """lim N Delta_N = (lam/2) log det(I + D^{1/2} K D^{1/2}/(lam n)).

        N B = (1/2n) S^T D S + O(N^{-1/2}) with S = sqrt N (h_rho - u) -> N(0, K) under mu*^N, and
        Delta_N = -(lam/N) log E e^{-N B/lam}.
        """
        return float(self.model.lam / 2 * np.linalg.slogdet(np.eye(self.model.n) + self.A)[1])

    @property
    def gap_bound(self) -> float:
        """(L/(2n)) tr K >= N Delta_N at every N: N times the expected gap of i.i.d. neurons, by l'' <= L."""
        return float(self.model.loss.smoothness * np.trace(self.K) / (2 * self.model.n))

    @cached_property
    def marginal_correction(self) -> Float[np.ndarray, " g"]:
        """r on the nodes: P*^{(1)} = mu* (1 + r/N + O(1/N^2)).

        r = -(1/2) [Q - E Q + phi.c' - phi.G t], Q = phi^T G phi, t = E[phi Q] + K c', c'_j = l'''_j Sigma_jj/(lam n). From
        E[S_f W(S)] = K_f.E grad W + (1/(2 sqrt N)) T_f:E hess W with W = exp(-N B/lam) and T_f = E[f phi phi^T], for any f.
        """
        third = self.model.loss.third(self.u, self.model.y)
        c = third * np.diag(self.Sigma) / (self.model.lam * self.model.n)
        Q = np.einsum("gj,gj->g", self.features @ self.G, self.features)
        t = self.mean(self.features * Q[:, None]) + self.K @ c
        return -(Q - self.mean(Q) + self.features @ (c - self.G @ t)) / 2

    @cached_property
    def step_correction(self) -> Float[np.ndarray, " g"]:
        """s on the nodes: the chain with step size eta and infinitely many neurons has stationary law mu* (1 + eta s + O(eta^2)).

        psi - E psi - phi.G Cov(phi, psi), psi = |grad U|^2/(4 lam) - lap U/2: the first-order weak expansion of the Euler
        chain in the fixed potential U = U_{mu*} gives psi, and U answers through the outputs.
        """
        gradient, laplacian = self.model.potential_derivatives(
            self.grid.nodes, self.model.loss.slope(self.u, self.model.y)
        )
        psi = _dot(gradient, gradient) / (4 * self.model.lam) - laplacian / 2
        psi = psi - self.mean(psi)
        return psi - self.features @ (self.G @ self.mean(self.features * psi[:, None]))


def _gram(p: Float[np.ndarray, " g"], phi: Float[np.ndarray, "g n"]) -> Float[np.ndarray, "n n"]:
    gram = np.zeros((phi.shape[1],) * 2)
    for start in range(0, len(p), CHUNK):  # a chunk at a time, for the memory of the product
        part = phi[start : start + CHUNK]
        gram += (part * p[start : start + CHUNK, None]).T @ part
    return (gram + gram.T) / 2


def mf_optimum(model: Model, grid: Grid | None = None) -> Optimum:
    """The optimum mu* by damped Newton on u = h_{mu(u)}(z), mu(u) = exp(-U_u/lam)/norm.

    The Jacobian of the residual is I + K diag(l''(u))/(lam n), K the covariance of features under mu(u); steps are halved
    until the residual falls. Without a grid one is chosen: |x| <= 8 standard deviations of N(0, lam/(2 lamp)), enlarged
    by quarters until the density at the edge is below e^{-25} of the peak. Check a truncation with `truncation_error`.
    Raises InputError if the dimension of the grid is not that of the neurons, or the neuron is unbounded and no grid given.
    """
    if grid is not None:
        require(grid.nodes.shape[1] == model.d, f"grid must be of dimension {model.d}, got {grid.nodes.shape[1]}")
        return _newton(model, grid)
    require(
        np.isfinite(model.neuron.bound), f"a grid must be given for an unbounded neuron, got bound {model.neuron.bound}"
    )
    extent, count = 8 * model.prior_sd, LINE_NODES if model.d == 1 else AXIS_NODES
    while True:
        grid = ball_grid(extent, count, model.d)
        optimum = _newton(model, grid)
        edge = np.abs(grid.nodes).max(-1) if model.d == 1 else np.sqrt(_dot(grid.nodes, grid.nodes))
        if optimum.density[edge > extent - grid.spacing].max() < np.exp(-EDGE) * optimum.density.max():
            return optimum
        extent *= 1.25


def _newton(model: Model, grid: Grid) -> Optimum:
    H = model.features(grid.nodes, model.Z)
    ridge = -model.lamp * _dot(grid.nodes, grid.nodes) / model.lam
    u = np.zeros(model.n)
    if len(grid.nodes) > CHUNK:  # a thinned grid leaves two or three steps to the full one
        u = _fixed_point(model, H[::8].copy(), ridge[::8].copy(), u)[0]
    u, p, residual, iterations = _fixed_point(model, H, ridge, u)
    density = p / grid.weight
    g = model.loss.slope(u, model.y)
    log_norm = logsumexp(ridge - H @ (g / (model.n * model.lam))) + np.log(grid.weight)
    value = model.risk(p @ H) - model.lam * (p @ ridge) + model.lam * entropy(grid, density)
    return Optimum(
        model=model,
        grid=grid,
        u=u,
        density=density,
        features=np.subtract(H, u, out=H),
        value=float(value),
        dual_value=float(-model.loss.conjugate(g, model.y).mean() - model.lam * log_norm),
        residual=residual,
        iterations=iterations,
    )


def _fixed_point(
    model: Model, H: Float[np.ndarray, "g n"], ridge: Float[np.ndarray, " g"], u: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " g"], float, int]:
    """u = p(u) H with p(u) = softmax(ridge - H l'(u)/(n lam)); also p, the residual and the number of Newton steps."""
    n, lam = model.n, model.lam

    def law(u: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " g"], Float[np.ndarray, " n"]]:
        logits = ridge - H @ (model.loss.slope(u, model.y) / (n * lam))
        p = np.exp(logits - logits.max())
        p /= p.sum()
        return p, p @ H

    p, output = law(u)
    steps, residual = 0, np.abs(u - output).max()
    while residual > 1e-16 and steps < 200:
        jacobian = np.eye(n) + _gram(p, H - output) * model.loss.curvature(u, model.y) / (lam * n)
        step = np.linalg.solve(jacobian, u - output)
        # Below 1e-13 a step that does not help has met the rounding of the residual, and shorter ones are no better.
        for halving in range(30 if residual > 1e-13 else 1):
            trial = u - step / 2**halving
            trial_p, trial_output = law(trial)
            if (size := np.abs(trial - trial_output).max()) < residual:
                break
        else:
            break
        u, p, output, residual, steps = trial, trial_p, trial_output, size, steps + 1
    if residual > 1e-11 * (1 + np.abs(u).max()):
        raise ArithmeticError(f"Newton iteration of the optimum stopped at residual {residual:.2g}")
    return u, p, float(residual), steps


def truncation_error(optimum: Optimum) -> float:
    """Change of the outputs u, at most, and of L(mu*) when the grid's extent is 1.5 times as large at the same spacing."""
    grid = optimum.grid
    half = round(1.5 * grid.extent / grid.spacing)
    larger = _newton(optimum.model, ball_grid(half * grid.spacing, 2 * half + 1, optimum.model.d))
    return max(float(np.abs(larger.u - optimum.u).max()), abs(larger.value - optimum.value))


# --------------------------------------------------------------------------------------------------------------------
# Predictions at test inputs
# --------------------------------------------------------------------------------------------------------------------


class Prediction(NamedTuple):
    """Large-N behaviour of the network's output at test inputs under P*; m inputs.

    value: h_{mu*}(z), (m,). covariance: K_z = E[phi_z phi], (m, n). iid_variance: K_zz = E phi_z^2, N times the variance of N
    i.i.d. neurons, (m,). variance: v = K_zz - K_z G K_z^T = lim N Var h_rho(z), the posterior variance of a Gaussian process
    with covariance Cov(h_z, h_z') and noise lam n/l'', (m,). bias: b = lim N (E h_rho(z) - h*(z)), (m,).
    """

    value: Float[np.ndarray, " m"]
    covariance: Float[np.ndarray, "m n"]
    iid_variance: Float[np.ndarray, " m"]
    variance: Float[np.ndarray, " m"]
    bias: Float[np.ndarray, " m"]


def predict(optimum: Optimum, z: Float[np.ndarray, "m q"]) -> Prediction:
    """Values, variances and biases at test inputs; b(z) = E[phi_z r], r = `marginal_correction`."""
    value, covariance, iid, bias = [], [], [], []
    for H in _blocks(optimum, z):
        mean = optimum.mean(H)
        phi = H - mean
        weighted = phi * (optimum.density * optimum.grid.weight)[:, None]
        value.append(mean)
        covariance.append(weighted.T @ optimum.features)
        iid.append((weighted * phi).sum(0))
        bias.append(optimum.marginal_correction @ weighted)
    K_z, K_zz = np.concatenate(covariance), np.concatenate(iid)
    variance = K_zz - np.einsum("mj,jl,ml->m", K_z, optimum.G, K_z)
    return Prediction(np.concatenate(value), K_z, K_zz, variance, np.concatenate(bias))


def step_size_bias(optimum: Optimum, z: Float[np.ndarray, "m q"]) -> Float[np.ndarray, " m"]:
    """beta(z) = lim (h_{mu_eta}(z) - h*(z))/eta for noisy gradient descent with infinitely many neurons, E[phi_z s].

    s = `step_correction`. Raises InputError if the neuron has no derivatives.
    """
    weighted = optimum.step_correction * optimum.density * optimum.grid.weight
    return np.concatenate([weighted @ H for H in _blocks(optimum, z)])


def _blocks(optimum: Optimum, z: Float[np.ndarray, "m q"]):
    size = max(1, BLOCK // len(optimum.grid.nodes))
    for start in range(0, len(z), size):
        yield optimum.model.features(optimum.grid.nodes, z[start : start + size])


class LocalChaos(NamedTuple):
    """Limits of distances between P* and the product mu*^N.

    single: N^2 KL(P*^{(1)}||mu*). pair: N^2 KL(P*^{(2)}||mu*^2). joint: KL(P*||mu*^N). transport: N^2 W_2^2(P*^{(1)}, mu*),
    NaN unless d = 1.
    """

    single: float
    pair: float
    joint: float
    transport: float


def local_chaos(optimum: Optimum) -> LocalChaos:
    """E r^2/2, E r^2 + tr((K G)^2)/2, log det(I + A)/2 - tr(A (I + A)^{-1})/2 and E[(int_{-inf}^x r mu*/mu*(x))^2].

    The pair density is mu* mu*' (1 + (r + r' - phi^T G phi')/N + ...). The joint one is (kappa - E S^T D S/(2n))/lam with
    S -> N(0, Sigma). To first order the monotone transport of mu* to mu* (1 + r/N) displaces x by -int_{-inf}^x r mu*/(N mu*).
    """
    r = optimum.marginal_correction
    square = float(optimum.mean(r**2))
    KG = optimum.K @ optimum.G
    eigenvalues = np.linalg.eigvalsh(optimum.A)
    joint = (np.log1p(eigenvalues) - eigenvalues / (1 + eigenvalues)).sum() / 2
    transport = np.nan
    if optimum.model.d == 1:
        flux = CubicSpline(optimum.grid.line, r * optimum.density).antiderivative()(optimum.grid.line)
        # From the nearer end: the flux is small there, and would drown in the rounding of the sum from the other.
        flux = np.where(optimum.grid.line < 0, flux, flux - flux[-1])
        inside = optimum.density > 1e-13 * optimum.density.max()
        transport = float((flux[inside] ** 2 / optimum.density[inside]).sum() * optimum.grid.spacing)
    return LocalChaos(square / 2, square + float(np.trace(KG @ KG)) / 2, float(joint), transport)


# --------------------------------------------------------------------------------------------------------------------
# Bounds and ensembles
# --------------------------------------------------------------------------------------------------------------------


def worst_case_gap(model: Model) -> float:
    """L R^2/2 >= N Delta_N for every N, lam, lamp and data: no log-Sobolev constant (2405.15767, constant derived here)."""
    return model.loss.smoothness * model.neuron.bound**2 / 2


def defective_lsi(model: Model, size: Real, alpha: Real, fisher: Real) -> Value:
    """(lam/(2 alpha N)) FI(P||P*) + 2 L R^2/N >= gap of P, for every law P of N = size neurons.

    If the conditionals of P* for one neuron given the others satisfy LSI(alpha) (2502.05784; constant derived here: FI is at
    least 2 alpha times the sum of the conditionals' KL, bounded below with the trial law mu* for one neuron, whose swap
    costs at most (L/2)(2R)^2/N^2 beyond first order).
    """
    return model.lam * fisher / (2 * alpha * size) + 4 * worst_case_gap(model) / size


def exponential_bound(model: Model, alpha: Real, time: Real, initial: Real) -> Value:
    """exp(-2 alpha lam t) (L(mu_0) - L(mu*)) >= L(mu_t) - L(mu*), alpha an LSI constant of exp(-U_{mu_s}/lam)/norm, s <= t.

    Chizat 2022; Nitanda, Wu, Suzuki 2022.
    """
    return np.exp(-2 * alpha * model.lam * np.asarray(time, dtype=np.float64))[()] * initial


def transport_bounds(optimum: Optimum, size: Real, alpha: Real, kl: Real, gap: Real) -> tuple[Value, Value, Value]:
    """Bounds of W_2^2(P, mu*^N)/N, each at most the next: 2 KL/(alpha N), 2 gap/(alpha lam), L tr K/(alpha lam n N).

    alpha is an LSI constant of mu* (Talagrand's inequality), kl = KL(P||mu*^N) and gap that of P; the last bound holds
    for P = P* alone.
    """
    lam = optimum.model.lam
    return 2 * kl / (alpha * size), 2 * gap / (alpha * lam), 2 * optimum.gap_bound / (alpha * lam * size)


def tanh_lsi(model: Model) -> float:
    """LSI constant [2 lamp - (4/(3 sqrt 3)) (1/n) sum_j (1 + |y_j|) |z_j|^2]/lam of all proximal Gibbs laws.

    By curvature (Bakry-Emery): h = tanh(x.z) and squared loss, |u| <= 1, |tanh''| <= 4/(3 sqrt 3). Negative if the potential
    need not be convex. Raises InputError for other neurons and losses.
    """
    require(
        model.neuron is TANH and model.loss is SQUARED, "model must have tanh neurons and squared loss, got another"
    )
    return float(2 * model.lamp - 4 / np.sqrt(27) * ((1 + np.abs(model.y)) * _dot(model.Z, model.Z)).mean()) / model.lam


def ensemble_error(bias: Real, variance: Real, members: Real) -> Value:
    """bias^2 + variance/M: mean squared error of the average of M independent networks, exactly.

    To first order bias = b/N + eta beta and variance = v/N.
    """
    return bias**2 + variance / members


def merging_threshold(bias: Real, variance: Real) -> Value:
    """M* = Var_N/bias_N^2, where both terms of `ensemble_error` are equal: N v/b^2 to first order.

    Up to it M networks of N neurons are about as good as one of M N; beyond it the error saturates at bias_N^2.
    """
    return variance / bias**2


class OutputBounds(NamedTuple):
    """Bounds for an exchangeable law P of N neurons with |h| <= R, in terms of q = gap of P.

    bias: (2 R^2/lam) q >= (E h_rho(z) - h*(z))^2. mean_square: 4 R^2 q/lam + 2 log 2 R^2/N >= E (h_rho(z) - h*(z))^2. training:
    (2/mu) q >= (1/n) sum_j E (h_rho(z_j) - h*(z_j))^2 with l'' >= mu, here mu = 1, the squared loss alone.
    """

    bias: Value
    mean_square: Value
    training: Value

    def ensemble(self, members: Real) -> Value:
        """bias + mean_square/M >= mean squared error of M merged networks."""
        return self.bias + self.mean_square / members


def output_bounds(model: Model, size: Real, gap: Real) -> OutputBounds:
    """Bounds of 2502.05784's kind with constants derived here, from KL(P||mu*^N) <= N gap/lam.

    bias: superadditivity of KL and Pinsker. mean_square: Donsker-Varadhan with E exp(N (h_rho - h*)^2/(4 R^2)) <= sqrt 2, the
    Gaussian bound for sums of variables of range 2R. training: B = (1/2n) sum_j (h_rho - h*)^2 has E_P B <= gap.
    """
    square = model.neuron.bound**2
    return OutputBounds(
        2 * square * gap / model.lam, 4 * square * gap / model.lam + 2 * np.log(2) * square / size, 2 * gap
    )


def output_bounds_kl(model: Model, size: Real, kl: Real) -> tuple[Value, Value]:
    """The first two of `output_bounds` in terms of KL(P||mu*^N): 2 R^2 KL/N and (4 R^2/N)(KL + log(2)/2)."""
    square = model.neuron.bound**2
    return 2 * square * kl / size, 4 * square / size * (kl + np.log(2) / 2)
