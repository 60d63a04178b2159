"""Stage I: the mean and the second moment of one gradient step on the MLP weights, and the number of tasks it needs.

At a vanishing attention matrix the new neuron is w^(1) = 2 eta Gamma_jj g, with g the mean over T1 prompts of

    g_t = y [relu(h(x)) q + 1(h(x) > 0) p x],  p = (1/N1) sum_i y_i relu(h(x_i)),  q = (1/N1) sum_i y_i 1(h(x_i) > 0) x_i,

h(x) = <w, x> + b, (x, y) the query. All averages given (beta, c) are finite Hermite sums in s = <beta, w>, because y^2 has
degree 2P in <beta, x>; the average over s = rho u is a Gauss rule on the sphere, exact. Neurons are given by rho = |Pi w|
and b, arrays that broadcast against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, inf
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import roots_jacobi

from theorysim.errors import require
from theorysim.papers.single_index_icl.theory.hermite import (
    hermite_polynomials,
    relu_coefficients,
    squared_relu_coefficients,
    step_coefficients,
)
from theorysim.papers.single_index_icl.theory.inputs import (
    Real,
    Value,
    float64,
    require_dimension,
    require_each,
    require_noise,
    require_subspace,
)
from theorysim.papers.single_index_icl.theory.links import Link
from theorysim.papers.single_index_icl.theory.zonal import sphere_moment, sphere_nodes


@dataclass(frozen=True)
class Prompts:
    """Law of the pretraining prompts: N1 context points (inf is admitted) in R^d and one query, beta in dimension r."""

    link: Link
    d: int
    r: int
    N1: float
    tau: float

    def __post_init__(self) -> None:
        require_subspace(self.r, self.d)
        require(self.N1 >= 1, f"prompt length N1 must be at least 1, got {self.N1}")
        require_noise(self.tau)


# --------------------------------------------------------------------------------------------------------------------
# Mean
# --------------------------------------------------------------------------------------------------------------------


class PopulationGradient(NamedTuple):
    """E g = 2 [A Pi w + B w], of the shape of the neurons. Independent of N1, T1, tau and d."""

    rho: Value
    A: Value
    B: Value

    @property
    def squared_norm(self) -> Value:
        """|E g|^2."""
        return 4 * (self.rho**2 * self.A * (self.A + 2 * self.B) + self.B**2)

    @property
    def squared_norm_inside(self) -> Value:
        """|Pi E g|^2."""
        return 4 * self.rho**2 * (self.A + self.B) ** 2

    @property
    def alignment(self) -> Value:
        """|Pi E g|^2/|E g|^2 = 1 - rho^2 (a_{Q+2}/(Q a_Q))^2 + O(rho^4): the limit T1 -> infinity, neuron by neuron."""
        return self.squared_norm_inside / self.squared_norm


def population_gradient(link: Link, r: int, rho: Real, bias: Real = 0.0) -> PopulationGradient:
    """A = sum C_kl a_k a_l M_{k+l} rho^{k+l-2}/(k! (l-1)!), B = sum C_kl a_k a_{l+2} M_{k+l} rho^{k+l}/(k! l!), k + l even.

    E[g | beta, c] = 2 m D in the notation of `conditional_moments`.
    """
    require_dimension(r)
    rho, bias = _neurons(rho, bias)
    degree = link.degree
    a = relu_coefficients(degree + 2, bias)
    A: Value = np.zeros(np.broadcast(rho, bias).shape)
    B = np.zeros_like(A)
    for k in range(1, degree + 1):
        for j in range(2 - k % 2, degree + 1, 2):
            common = link.moments[k, j] * a[k] * sphere_moment(k + j, r) * rho ** (k + j - 2) / factorial(k)
            A = A + common * a[j] / factorial(j - 1)
            B = B + common * a[j + 2] * rho**2 / factorial(j)
    return PopulationGradient(rho, A[()], B[()])


# --------------------------------------------------------------------------------------------------------------------
# Second moment
# --------------------------------------------------------------------------------------------------------------------


class ConditionalMoments(NamedTuple):
    """Averages over one example given beta and the link, each (atoms, *shape); vectors by their parts along beta and w.

    S1: E[y^2 1(h>0)]. S2: E[y^2 relu(h)^2]. T, T_inside: E[y^2 1(h>0) |x|^2], the same of |Pi x|^2. U_beta, U_w: U = E[y^2
    relu(h) x]. m: E[y relu(h)]. D_beta, D_w: D = E[y 1(h>0) x].
    """

    S1: Value
    S2: Value
    T: Value
    T_inside: Value
    U_beta: Value
    U_w: Value
    m: Value
    D_beta: Value
    D_w: Value


def conditional_moments(
    link: Link, d: int, r: int, tau: float, s: Real, rho: Real, bias: Real = 0.0
) -> ConditionalMoments:
    """The averages at s = <beta, w>, which broadcasts against rho and b.

    With e_k = E[(tau^2 + sigma^2) He_k] all are sums of (e or c)_k (s, a or t)_k s^k/k!, Stein's lemma turning factors x
    into derivatives: E[F |x|^2] = E[d F + Laplacian F], and the n-th derivative of relu has coefficients a_{k+n}.
    """
    require_subspace(r, d)
    require_noise(tau)
    s, rho, bias = np.broadcast_arrays(float64(s), *_neurons(rho, bias))
    require_each("s = <beta, w>", s, np.abs(s) <= rho + 1e-12, "at most rho = |Pi w| in size")
    P = link.degree
    relu = relu_coefficients(2 * P + 3, bias)
    step, square = relu[1:], squared_relu_coefficients(2 * P, bias)
    c, e = _links_and_squares(link, tau)
    powers = np.stack([s**k / factorial(k) for k in range(2 * P + 1)])

    def mean(outer: Float[np.ndarray, "atoms degrees"], inner: Float[np.ndarray, "..."]) -> Value:
        """E[F(<beta, x>) G(<w, x> + b)] for the Hermite coefficients of F and G."""
        count = outer.shape[1]
        return np.tensordot(outer, inner[:count] * powers[:count], axes=1)

    S1 = mean(e, step)
    along, across, both = mean(e[:, 2:], step), mean(e, step[2:]), mean(e[:, 1:], step[1:])
    return ConditionalMoments(
        S1=S1,
        S2=mean(e, square),
        T=d * S1 + along + 2 * s * both + across,
        T_inside=r * S1 + along + 2 * s * both + rho**2 * across,
        U_beta=mean(e[:, 1:], relu),
        U_w=mean(e, step),
        m=mean(c, relu),
        D_beta=mean(c[:, 1:], step),
        D_w=mean(c, relu[2:]),
    )


class SecondMoments(NamedTuple):
    """Of the gradient g_t of one prompt, of the shape of the neurons.

    full: E|g_t|^2. inside: E|Pi g_t|^2. orthogonal: V, the variance along each of the d - r - 1 directions orthogonal to S
    and w.
    """

    full: Value
    inside: Value
    orthogonal: Value


def second_moments(prompts: Prompts, rho: Real, bias: Real = 0.0) -> SecondMoments:
    """E{(2/N1)(S2 T + |U|^2) + (1 - 1/N1)(S2 |D|^2 + T m^2 + 2 m <U, D>)}, V = E[2 S1 S2/N1 + (1 - 1/N1) S1 m^2].

    The mean of T1 prompts has |E g|^2 + (E|g_t|^2 - |E g|^2)/T1.
    """
    rho, bias = np.broadcast_arrays(*_neurons(rho, bias))
    u, weights = sphere_nodes(prompts.r, 2 * prompts.link.degree + 3)
    rho_, bias_ = rho[..., None], bias[..., None]
    s = rho_ * u
    given = conditional_moments(prompts.link, prompts.d, prompts.r, prompts.tau, s, rho_, bias_)
    U, D, again = (given.U_beta, given.U_w), (given.D_beta, given.D_w), 1 - 1 / prompts.N1

    def dot(x: tuple[Value, Value], y: tuple[Value, Value], norm_w: Value) -> Value:
        return x[0] * y[0] + s * (x[0] * y[1] + x[1] * y[0]) + norm_w * x[1] * y[1]

    def total(T: Value, norm_w: Value) -> Value:
        first = 2 / prompts.N1 * (given.S2 * T + dot(U, U, norm_w))
        pairs = given.S2 * dot(D, D, norm_w) + T * given.m**2 + 2 * given.m * dot(U, D, norm_w)
        return average(first + again * pairs)

    def average(value: Value) -> Value:
        return np.einsum("a,a...u,u->...", prompts.link.weights, value, weights)[()]

    orthogonal = average(2 / prompts.N1 * given.S1 * given.S2 + again * given.S1 * given.m**2)
    return SecondMoments(total(given.T, 1.0), total(given.T_inside, rho_**2), orthogonal)


# --------------------------------------------------------------------------------------------------------------------
# Alignment
# --------------------------------------------------------------------------------------------------------------------


def alignment(
    prompts: Prompts, T1: Real, rho: Real, bias: Real = 0.0, weights: Float[np.ndarray, " neurons"] | None = None
) -> Value:
    """cos^2 = sum_j E|Pi g_j|^2/sum_j E|g_j|^2 after T1 tasks (inf is admitted), over neurons rho, b of equal or given weight.

    A ratio of sums, dominated by the largest rho; broadcasts over T1. Raises InputError where no neuron sees the link and
    T1 = inf.
    """
    T1 = float64(T1)
    require_each("number of tasks T1", T1, T1 >= 1, "at least 1")
    rho, bias = (np.ravel(value) for value in np.broadcast_arrays(*_neurons(rho, bias)))
    mean, single = population_gradient(prompts.link, prompts.r, rho, bias), second_moments(prompts, rho, bias)
    average = lambda value: np.average(value, weights=weights)
    inside, full = average(mean.squared_norm_inside), average(mean.squared_norm)
    if full == 0 and np.any(np.isinf(T1)):
        visible_exponent(prompts.link, float(bias[0]))
    signal_share = 1 - 1 / T1
    return (inside * signal_share + average(single.inside) / T1) / (full * signal_share + average(single.full) / T1)


def uniform_neurons(d: int, r: int, count: int = 64) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """rho and weights for w uniform on the sphere of R^d, rho^2 ~ Beta(r/2, (d - r)/2): Gauss nodes in rho^2."""
    require_subspace(r, d)
    if r == d:
        return np.ones(1), np.ones(1)
    nodes, weights = roots_jacobi(count, (d - r) / 2 - 1, r / 2 - 1)
    return np.sqrt((1 + nodes) / 2), weights / weights.sum()


# --------------------------------------------------------------------------------------------------------------------
# Number of tasks
# --------------------------------------------------------------------------------------------------------------------


def visible_exponent(link: Link, bias: float = 0.0) -> int:
    """The lowest k with E c_k^2 > 0 and a_k(b) != 0: the exponent of d in Stage I, the information exponent where a_Q(b) != 0.

    Raises InputError where ReLU of that bias sees nothing of the link.
    """
    a = relu_coefficients(link.degree, bias)
    scale = np.sqrt([float(factorial(k)) for k in range(link.degree + 1)])
    seen = [k for k in range(1, link.degree + 1) if link.moments[k, k] > 0 and abs(a[k]) > 1e-12 * scale[k]]
    require(
        bool(seen),
        f"bias must not be {bias:g}: ReLU of that bias has no Hermite component of any degree of the link"
        + (" (at bias 0 none of odd degree 3 or more), so that the population gradient is zero" if bias == 0 else ""),
    )
    return seen[0]


def critical_tasks(prompts: Prompts, bias: float = 0.0) -> float:
    """T1* = (d - r) V/(4 A^2 rho^2) at rho^2 = r/d: there the noise outside the subspace is as strong as the signal.

    Raises InputError where ReLU of that bias does not see the link.
    """
    visible_exponent(prompts.link, bias)
    rho = np.sqrt(prompts.r / prompts.d)
    signal = population_gradient(prompts.link, prompts.r, rho, bias)
    noise = second_moments(prompts, rho, bias).orthogonal
    return float((prompts.d - prompts.r) * noise / (4 * signal.A**2 * rho**2))


class RateLimits(NamedTuple):
    """Leading order of T1* as d -> infinity; d^{2Q} r and d^Q r for large r.

    tokens: T1* N1 for N1 << d^Q. tasks: T1* for N1 >> d^Q. crossover: their ratio, the N1 from which longer prompts do not
    help.
    """

    tokens: float
    tasks: float

    @property
    def crossover(self) -> float:
        """2 t_0 E (v_c + tau^2)^2 (Q!)^2/(E[c_Q^2 (v_c + tau^2)] a_Q^2 M_2Q rho^2Q), v_c = sum_k c_k^2/k!."""
        return self.tokens / self.tasks


def rate_limits(link: Link, d: int, r: int, tau: float, bias: float = 0.0) -> RateLimits:
    """As s = <beta, w> -> 0: S1 -> (v_c + tau^2) Phi(b), S2 -> (v_c + tau^2) t_0, m -> c_Q a_Q s^Q/Q!, A -> its first term.

    Degree 2 without bias: (pi^2/18) (1 + tau^2)^2 (r + 2)^2 d^4/r tokens and (pi/24) (1 + tau^2) (r + 2) d^2 tasks.
    """
    require_subspace(r, d)
    require_noise(tau)
    Q = visible_exponent(link, bias)
    rho_squared = r / d
    c, e = _links_and_squares(link, tau)
    weights = np.asarray(link.weights)
    seen = relu_coefficients(Q, bias)[Q] ** 2 * sphere_moment(2 * Q, r) / factorial(Q)
    A = link.moments[Q, Q] * seen * rho_squared ** (Q - 1) / factorial(Q - 1)
    signal = 4 * A**2 * rho_squared
    half, square = step_coefficients(0, bias)[0], squared_relu_coefficients(0, bias)[0]
    context_noise = 2 * half * square * float(weights @ e[:, 0] ** 2)
    query_noise = half * float(weights @ (e[:, 0] * c[:, Q] ** 2)) * seen * rho_squared**Q / factorial(Q)
    return RateLimits(float(d * context_noise / signal), float(d * query_noise / signal))


def _links_and_squares(
    link: Link, tau: float
) -> tuple[Float[np.ndarray, "atoms degrees"], Float[np.ndarray, "atoms squares"]]:
    """c_k, k = 0..P, and e_k = tau^2 delta_k0 + E[sigma^2 He_k], k = 0..2P, of every atom; Gauss-Hermite, exact."""
    P = link.degree
    c = np.asarray(link.coefficients)[:, : P + 1]
    z, weights = np.polynomial.hermite_e.hermegauss(2 * P + 1)
    e = np.einsum("az,kz,z->ak", link(z) ** 2, hermite_polynomials(2 * P, z), weights / weights.sum())
    e[:, 0] += tau**2
    return c, e


def _neurons(rho: Real, bias: Real) -> tuple[Value, Value]:
    rho, bias = float64(rho), float64(bias)
    require_each("rho = |Pi w|", rho, (rho >= 0) & (rho <= 1 + 1e-12), "in [0, 1]")
    require_each("bias", bias, np.abs(bias) < inf, "finite")
    return rho, bias
