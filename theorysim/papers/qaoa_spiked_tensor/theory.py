"""Predictions for the QAOA on the spiked tensor model: exact finite-n formulas, limit laws and their finite-n bridge.

Zhou, Basso, Mei, NeurIPS 2024, arXiv 2402.19456. The p-step scaling and the sine-Gaussian law are theirs; constants,
finite-n forms beyond (p, q) = (1, 2) and everything else without a reference are derived here, with the key step in
each docstring.

Convention: Y = (lambda_n / n^{q/2}) u^{(x)q} + W / sqrt n with all n^q entries of W i.i.d. N(0, noise), cost C(z) =
n^{-(q-2)/2} <Y, z^{(x)q}>, p layers e^{-i beta_t B} e^{-i gamma_t C} from the uniform superposition, B = sum_j X_j,
overlap R = <u, z>/n. `snr` is lambda_n; `scale` is Lambda in lambda_n = Lambda n^{(q-2+eps_p)/2}. `noise` is 1 in the
paper; 0 is the circuit without noise. Angles are sequences of length p, or arrays (..., p) where batches are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Complex, Float, Shaped
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import comb, erf, gammaln, hyp1f1, ndtr
from scipy.stats import poisson

from theorysim.errors import require

Real = float | int | np.floating | np.integer | Shaped[np.ndarray, "..."]
"""A number or an array of any shape; arguments broadcast against each other."""

Value: TypeAlias = Any
"""What a broadcasting formula returns, typed as NumPy types its own ufuncs: float64, a scalar for scalars."""

Angles = Sequence[float] | Float[np.ndarray, "*batch p"]

# --------------------------------------------------------------------------------------------------------------------
# Scales
# --------------------------------------------------------------------------------------------------------------------


def response_power(p: int, q: int) -> int:
    """S_p = sum_{t<p} (q - 1)^t, the power of Lambda in the p-step law."""
    return sum((_order(q) - 1) ** t for t in range(_depth(p)))


def epsilon(p: int, q: int) -> float:
    """eps_p = 1/S_p: 1/p for q = 2, (q - 2)/((q - 1)^p - 1) otherwise."""
    return 1 / response_power(p, q)


def snr_exponent(p: int, q: int) -> float:
    """(q - 2 + eps_p)/2: p steps, of the QAOA or of power iteration, recover the spike at lambda_n ~ n^this.

    h_t = lambda_n m_t^{q-1} starts at m_1 ~ n^{-1/2} and is of order one after p steps: with lambda_n = n^a the
    exponents obey x_{t+1} = a + (q - 1) x_t, x_1 = -1/2, x_{p+1} = 0, i.e. a S_p = (q - 1)^p/2.
    """
    return (q - 2 + epsilon(p, q)) / 2


def signal_to_noise(n: Real, p: int, q: int, scale: Real = 1.0) -> Value:
    """lambda_n = Lambda n^{(q - 2 + eps_p)/2}."""
    return np.asarray(scale, dtype=np.float64)[()] * np.asarray(n, dtype=np.float64)[()] ** snr_exponent(p, q)


def unfolding_exponent(q: int, p: int | None = None) -> float:
    """(q - 2)/4 + q/(4 p): the exponent of n in the lambda_n that p steps on the unfolded tensor need (even q).

    `p=None` is the limit p -> infinity, (q - 2)/4, never beaten at any p. `unfolded` gives the reduction: lambda' =
    Lambda N^{1/(2p)} with N = n^{q/2}.
    """
    require(_order(q) % 2 == 0, f"order q must be even to unfold the tensor into a square matrix, got {q}")
    return (q - 2) / 4 + (0.0 if p is None else q / (4 * _depth(p)))


def enumerated_costs(
    W: Float[np.ndarray, "..."], spike: Shaped[np.ndarray, " n"], snr: float
) -> Float[np.ndarray, " strings"]:
    """C(z) = n^{-(q-2)/2} <Y, z^{(x)q}> for each of the 2^n strings, z_j = 1 - 2 bit_j, contracting Y axis by axis.

    Y = (lambda_n/n^{q/2}) u^{(x)q} + W/sqrt n with W of shape (n,) * q and u = `spike`. O(2^n n^q): for small n.
    """
    n, q = len(spike), W.ndim
    signal = np.ones(())
    for _ in range(q):
        signal = np.multiply.outer(signal, spike)
    z = 1.0 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    form = np.broadcast_to(snr / n ** (q / 2) * signal + W / np.sqrt(n), (2**n, *W.shape))
    for _ in range(q):
        form = np.einsum("si,si...->s...", z, form)
    return n ** (-(q - 2) / 2) * form


def unfolded(n: int, q: int, snr: Real) -> tuple[int, Value]:
    """(N, lambda') of the q = 2 problem that the unfolding of an even-order tensor is: N = n^{q/2} spins.

    M = sqrt(n/N) times the N x N unfolding of Y is (lambda'/N) U U^T + W'/sqrt N exactly, U = u^{(x)q/2}, lambda' =
    lambda_n sqrt(n/N) = lambda_n n^{-(q-2)/4}.
    """
    require(_order(q) % 2 == 0, f"order q must be even to unfold the tensor into a square matrix, got {q}")
    return _size(n) ** (q // 2), np.asarray(snr, dtype=np.float64)[()] * float(n) ** (-(q - 2) / 4)


# --------------------------------------------------------------------------------------------------------------------
# One step at finite n, averaged over the noise
# --------------------------------------------------------------------------------------------------------------------


def one_step_correlator(order: int, n: int, q: int, snr: Real, gamma: Real, beta: Real, *, noise: float = 1.0) -> Value:
    """c_s = E <prod_{i in S} u_i z_i> for |S| = s = `order` spins after one step, exact, in O(sqrt n); broadcasts.

    e^{i beta X} Z e^{-i beta X} = cos(2 beta) Z + sin(2 beta) Y, and Y on k of the s spins flips them. The average over
    W damps a flip of k spins by exp(-noise gamma^2 n (1 - (1 - 2k/n)^q)), the signal turns it by phi = gamma lambda_n n
    [((a+b)/n)^q - ((a-b)/n)^q], where b is the sum of the k flipped signs and a that of the n - k others:

        c_s = sum_{k=1}^s C(s,k) cos(2 beta)^{s-k} sin(2 beta)^k damping_k Re i^k E[kappa_{s-k}(a) prod b_i e^{-i phi}]

    with kappa_r(a) the mean product of r of the others given a (the k = 0 term is E kappa_s = 0). phi is odd in b, and
    E prod b_i = 0, so that e^{-i phi} -> -i sin(phi) or -2 sin^2(phi/2): no cancellation at small signal.
    """
    n = _size(n)
    require(0 <= order <= n, f"order of the correlator must lie in [0, n = {n}], got {order}")
    snr, gamma, beta = _one_step(q, snr, gamma, beta, noise)
    if order == 0:
        return np.ones(np.broadcast_shapes(*(np.shape(x) for x in (snr, gamma, beta))))[()]
    total: Value = 0.0
    for k in range(1, order + 1):
        a, weight = _sign_sum(n - k)
        kappa = _product_given_sum(order - k, a, n - k) * weight
        turned: Value = 0.0
        for minus in range(k + 1):
            b = k - 2 * minus
            phase = (gamma * snr)[..., None] * (n * _odd_difference(a / n, b / n, q))
            turn = np.sin(phase) if k % 2 else -2 * np.sin(phase / 2) ** 2
            turned = turned + (-1) ** minus * comb(k, minus) / 2**k * (turn @ kappa)
        sign = (-1) ** (k // 2)  # Re i^k (-i) for odd k, i^k for even k
        rotated = comb(order, k) * np.cos(2 * beta) ** (order - k) * np.sin(2 * beta) ** k
        total = total + sign * rotated * np.exp(-noise * gamma**2 * _decoherence(n, q, k)) * turned
    return total


def one_step_moments(
    n: int, q: int, snr: Real, gamma: Real, beta: Real, *, orders: int = 2, noise: float = 1.0
) -> Float[np.ndarray, "orders *shape"]:
    """E R, E R^2, ..., E R^orders of one step, exact for any n >= 2 (10^8 included); (p, q) = (1, 2): Sec. 4, eq. (4.1).

    R^r is a mean over r random indices of the product of their spins, which is a product over the |S| = s spins drawn
    an odd number of times: E R^r = sum_s P(s odd spins after r draws) c_s. For r = 2: 1/n + (1 - 1/n) c_2.

    Returns the shape that `snr`, `gamma` and `beta` broadcast to, behind an axis of the orders.
    """
    require(orders >= 1, f"number of moments must be at least 1, got {orders}")
    largest = min(orders, _size(n))
    c = np.stack([one_step_correlator(s, n, q, snr, gamma, beta, noise=noise) for s in range(largest + 1)])
    odd = np.eye(1, largest + 1)[0]
    moments = []
    for _ in range(orders):
        odd = _flip_random_spin(odd, n)
        moments.append(np.tensordot(odd, c, axes=1))
    return np.stack(moments)


def one_step_pmf(
    n: int, q: int, snr: float, gamma: float, beta: float, *, noise: float = 1.0
) -> Float[np.ndarray, " outcomes"]:
    """P(K = k), k = 0..n, of the number K of spins with u_i z_i = -1, averaged over the noise; R = 1 - 2 K/n.

    The average over W of the state after the phase is dephasing in the computational basis, of kernel exp(-mu (1 -
    (z.z'/n)^q)), mu = noise gamma^2 n: a Poisson(mu) number of random Z-strings, each a product of q random Z_i. So the
    outcome is a mixture, over the number s of spins hit an odd number of times, of the outcomes of noise-free circuits
    from s spins in |-> and n - s in |+>, which live in a space of (s + 1)(n - s + 1) dimensions. All terms are
    probabilities: nothing cancels (1e-13 at n = 100), and O(n^4) for all s is milliseconds at n = 40.

    Raises InputError for n > 1000, where a probability would leave float64's range.
    """
    require(_size(n) <= 1000, f"n must be at most 1000 for the whole law, got {n}")
    snr, gamma, beta = (float(x) for x in _one_step(q, snr, gamma, beta, noise))
    minus = np.arange(n + 1)
    phase = np.exp(-1j * gamma * snr * n * (1 - 2 * minus / n) ** q)
    turns = list(_symmetric_rotations(n, beta))
    pmf = np.zeros(n + 1)
    for s, weight in enumerate(_dephasing_weights(n, q, noise * gamma**2 * n)):
        plus, hit = _binomial_amplitudes(n - s), _binomial_amplitudes(s) * (-1.0) ** minus[: s + 1]
        together = minus[: n - s + 1, None] + minus[: s + 1]
        state = turns[n - s] @ (np.outer(plus, hit) * phase[together]) @ turns[s].T
        pmf += weight * np.bincount(together.ravel(), np.square(np.abs(state)).ravel())
    return pmf


def _one_step(q: int, snr: Real, gamma: Real, beta: Real, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _order(q)
    _noise(noise)
    return np.asarray(snr, np.float64), np.asarray(gamma, np.float64), np.asarray(beta, np.float64)


def _sign_sum(count: int) -> tuple[Float[np.ndarray, " values"], Float[np.ndarray, " values"]]:
    """Values and probabilities of a sum of `count` random signs, within 12 standard deviations (all but 1e-31).

    Ratios of neighbours, multiplied up: log-gammas would lose log10(count) digits.
    """
    half = int(np.ceil(6 * np.sqrt(count)))
    plus = np.arange(max(0, count // 2 - half), min(count, count - count // 2 + half) + 1)
    log_weight = np.concatenate([[0.0], np.cumsum(np.log((count - plus[:-1]) / plus[1:]))])
    weight = np.exp(log_weight - log_weight.max())
    return (2.0 * plus - count), weight / weight.sum()


def _product_given_sum(r: int, a: Float[np.ndarray, " values"], count: int) -> Float[np.ndarray, " values"]:
    """Mean product of r of `count` signs of sum a, a Krawtchouk polynomial: (N - r) k_{r+1} = a k_r - r k_{r-1}."""
    before, now = np.zeros_like(a), np.ones_like(a)
    for j in range(r):
        before, now = now, (a * now - j * before) / (count - j)
    return now


def _odd_difference(x: Float[np.ndarray, " values"], y: float, q: int) -> Float[np.ndarray, " values"]:
    """(x + y)^q - (x - y)^q without cancellation for small y."""
    return np.sum([2 * comb(q, i) * y**i * x ** (q - i) for i in range(1, q + 1, 2)], axis=0)


def _decoherence(n: int, q: int, k: int) -> float:
    """n (1 - (1 - 2k/n)^q), to full precision for k << n."""
    return n * (1 - (1 - 2 * k / n) ** q) if 2 * k >= n else -n * np.expm1(q * np.log1p(-2 * k / n))


def _flip_random_spin(odd: Float[np.ndarray, " counts"], n: int) -> Float[np.ndarray, " counts"]:
    """Law of the number of spins drawn an odd number of times, after one more draw (Ehrenfest urn); may be cut short."""
    s = np.arange(len(odd))
    return np.concatenate([[0.0], odd[:-1] * (1 - s[:-1] / n)]) + np.append(odd[1:] * s[1:] / n, 0.0)


def _dephasing_weights(n: int, q: int, mu: float) -> Float[np.ndarray, " counts"]:
    """Law of the number of spins drawn an odd number of times in q Poisson(mu) draws."""
    odd = np.eye(1, n + 1)[0]
    total = np.zeros(n + 1)
    for probability in poisson.pmf(np.arange(int(mu + 12 * np.sqrt(mu) + 30)), mu):
        total += probability * odd
        for _ in range(q):
            odd = _flip_random_spin(odd, n)
    return total / total.sum()


def _binomial_amplitudes(count: int) -> Float[np.ndarray, " counts"]:
    return np.sqrt(comb(count, np.arange(count + 1)) / 2.0**count)


def _symmetric_rotations(n: int, beta: float) -> Iterator[Complex[np.ndarray, "N N"]]:
    """e^{-i beta B} on the symmetric states |#minus = k> of N = 0, 1, ..., n spins; N from N - 1 by adding a spin.

    |k>_N = sqrt(1 - k/N) |k>|0> + sqrt(k/N) |k-1>|1>: a compression of U_{N-1} (x) U_1, so errors only add up.
    """
    stay, flip = np.cos(beta), -1j * np.sin(beta)
    turn = np.ones((1, 1), complex)
    yield turn
    for count in range(1, n + 1):
        k = np.arange(count)
        zero, one = np.sqrt(1 - k / count), np.sqrt((k + 1) / count)
        larger = np.zeros((count + 1, count + 1), complex)
        larger[:-1, :-1] += stay * np.outer(zero, zero) * turn
        larger[1:, 1:] += stay * np.outer(one, one) * turn
        larger[:-1, 1:] += flip * np.outer(zero, one) * turn
        larger[1:, :-1] += flip * np.outer(one, zero) * turn
        turn = larger
        yield turn


# --------------------------------------------------------------------------------------------------------------------
# One step: optima, threshold and the leading finite-n correction
# --------------------------------------------------------------------------------------------------------------------

BEST_GAMMA_GRID = np.geomspace(1e-4, 0.6, 120)
"""Where `best_one_step` looks. Above threshold the best gamma falls as n^{(q-1)/2}/lambda_n: a linear grid misses it."""


class BestStep(NamedTuple):
    """The largest E R^2 of one step at beta = pi/4, and its gamma."""

    second_moment: float
    gamma: float


def best_one_step(n: int, q: int, snr: float, *, gammas: Float[np.ndarray, " grid"] = BEST_GAMMA_GRID) -> BestStep:
    """sup of E R^2 over the grid of gamma at beta = pi/4, exact at finite n.

    As n grows with lambda_n = n^a: to 0 for a < (q-1)/2 (`weak_signal_second_moment`), to the maximum over gamma of
    `limit_law` at a = (q-1)/2, to 1/2 (R the sine of a uniform phase) for a > (q-1)/2.
    """
    second = one_step_moments(n, q, snr, gammas, np.pi / 4)[1]
    return BestStep(float(second.max()), float(gammas[second.argmax()]))


def weak_signal_second_moment(n: Real, q: int, snr: Real) -> Value:
    """1/n + (q/e) E g^{2q-2} Lambda_n^2, Lambda_n = lambda_n n^{-(q-1)/2} -> 0: the best E R^2 of one step.

    `limit_law` at p = 1: E R^2 -> e^{-4 q gamma^2} (2 q gamma Lambda_n)^2 E g^{2q-2}, largest at gamma = 1/(2 sqrt q).
    """
    n, snr = np.asarray(n, dtype=np.float64)[()], np.asarray(snr, dtype=np.float64)[()]
    return 1 / n + q / np.e * _gaussian_moment(2 * _order(q) - 2) * snr**2 * n ** -(q - 1.0)


def optimal_gamma(scale: Real = 1.0) -> Value:
    """The gamma that maximises the limiting E R^2 of one step at q = 2, beta = pi/4: sqrt(log(1 + 4 L^2)/(32 L^2)).

    E R^2 = e^{-8 gamma^2} (1 - e^{-32 gamma^2 Lambda^2})/2. At Lambda = 1: gamma^2 = log(5)/32, E R^2 = 5^{-1/4} 2/5.
    """
    square = np.square(np.asarray(scale, dtype=np.float64)[()])
    return np.sqrt(np.log1p(4 * square) / (32 * square))


def second_moment_correction(gamma: Real, scale: Real = 1.0) -> Value:
    """lim n (E R^2 - limit) for one step at q = 2, beta = pi/4, lambda_n = Lambda sqrt n.

    1 - L + 16 x L - e^{-8x - 32 x Lambda^2} [64 x Lambda^2 - (1024/3) x^2 Lambda^4]/2, x = gamma^2, L the limit: E R^2 =
    1/n + (1 - 1/n) e^{-8x(1 - 2/n)} [1 - cos^{n-2}(8 gamma Lambda/sqrt n)]/2 to first order in 1/n.
    """
    x, y = np.square(np.asarray(gamma, np.float64)[()]), np.square(np.asarray(scale, np.float64)[()])
    limit = -np.exp(-8 * x) * np.expm1(-32 * x * y) / 2
    return 1 - limit + 16 * x * limit - np.exp(-8 * x - 32 * x * y) * (32 * x * y - 512 / 3 * np.square(x * y))


# --------------------------------------------------------------------------------------------------------------------
# p steps, n -> infinity: correlations, linear responses and the sine-Gaussian law
# --------------------------------------------------------------------------------------------------------------------

# One layer's spin on both branches of the path integral: (ket, bra) = (+,+), (+,-), (-,+), (-,-).
_KET = np.array([1.0, 1.0, -1.0, -1.0])
_BRA = np.array([1.0, -1.0, 1.0, -1.0])


class LimitConstants(NamedTuple):
    """Constants of the noisy circuit without a signal at n -> infinity; index t - 1 is time t, index p the output.

    correlation: G_{t',s} = <z_{t'} z_s>, time-ordered on the forward branch: shape (..., p+1, p+1), complex, symmetric,
        1 on the diagonal. The other branches follow from it: G_{r,s} = G_{-r,s} for s earlier than r, G_{-r,-s} =
        conj G_{r,s}, G_{t,-t} = 1.
    response: 2 q gamma_s Im G_{t',s}, shape (..., p+1, p+1), zero unless s < t': what a field h in layer s, acting as
        e^{-i q gamma_s h sum z}, adds per unit h to the magnetisation entering layer t' (p + 1: the output).
    """

    correlation: Complex[np.ndarray, "*batch p1 p1"]
    response: Float[np.ndarray, "*batch p1 p1"]

    @property
    def chi(self) -> Float[np.ndarray, "*batch p"]:
        """chi_t = 2 q gamma_t Im G_{t+1,t}, the response of one layer; chi_p = 2 q gamma_p A by the same formula."""
        return np.diagonal(self.response, -1, -2, -1)

    @property
    def amplitude(self) -> Float[np.ndarray, "*batch"]:
        """A = Im G_{0,p}."""
        return np.imag(self.correlation[..., -1, -2])


def limit_constants(q: int, gammas: Angles, betas: Angles, *, noise: float = 1.0) -> LimitConstants:
    """Correlations and responses of the p-step circuit as n -> infinity, exact, in O(4^p); batches of angles (..., p).

    Averaged over W, the spins are independent paths a in a Gaussian influence functional, exp(-noise (q/2) sum_{r,s}
    Gamma_r Gamma_s G_{rs}^{q-1} a_r a_s), Gamma = (gamma_1, ..., gamma_p, 0, -gamma_p, ..., -gamma_1), and G is
    self-consistent, G_{rs} = sum_a w(a) a_r a_s. By causality G up to time t needs the first t - 1 layers alone: one
    pass over the layers is the fixed point, without iteration. p = 1: A = e^{-2 q gamma^2} sin(2 beta). noise = 0:
    chi_t = 2 q gamma_t sin(2 beta_t), A = sin(2 beta_p).
    """
    return _paths(q, gammas, betas, noise)[0]


def _paths(
    q: int, gammas: Angles, betas: Angles, noise: float
) -> tuple[LimitConstants, list[Complex[np.ndarray, "*batch paths"]]]:
    """Constants, and for t = 1..p the weights of paths over the first t layers, shape (..., 4^t), layer 1 slowest.

    With d_s = a_s - a_{-s} and e_s = a_s + a_{-s}, layer t multiplies weights by exp(-noise (q/2) [gamma_t^2 d_t^2 + 2
    gamma_t d_t sum_{s<t} gamma_s (d_s Re G_{ts}^{q-1} + i e_s Im G_{ts}^{q-1})]).
    """
    _order(q)
    _noise(noise)
    gamma, beta = _angles(gammas, betas)
    batch, p = gamma.shape[:-1], gamma.shape[-1]
    correlation = np.zeros((*batch, p + 1, p + 1), complex)
    correlation[..., range(p + 1), range(p + 1)] = 1
    kets, bras = np.zeros((0, 1)), np.zeros((0, 1))
    mixed = np.full((*batch, 1, 1), 0.5 + 0j)
    exponent = np.zeros((*batch, 1), complex)
    history: list[np.ndarray] = []
    for t in range(p):
        memory = gamma[..., :t] * correlation[..., t, :t] ** (q - 1)
        past = np.real(memory) @ (kets - bras) + 1j * (np.imag(memory) @ (kets + bras))
        jump = (gamma[..., t, None] * (_KET - _BRA))[..., None, :]
        exponent = (exponent[..., None] - noise * q / 2 * (jump**2 + 2 * jump * past[..., None])).reshape(*batch, -1)
        mixed = np.broadcast_to(mixed, (*batch, 4**t, 4)).reshape(*batch, -1)
        history.append(mixed * np.exp(exponent))
        kets = np.vstack([np.repeat(kets, 4, axis=1), np.tile(_KET, 4**t)])
        bras = np.vstack([np.repeat(bras, 4, axis=1), np.tile(_BRA, 4**t)])
        output = (history[t].reshape(*batch, -1, 4) * _measured(beta[..., t])[..., None, :]).reshape(*batch, -1)
        correlation[..., t + 1, : t + 1] = output @ kets.T
        correlation[..., : t + 1, t + 1] = correlation[..., t + 1, : t + 1]
        mixed = mixed[..., None] * np.tile(_mixer(beta[..., t]), (4**t, 1))
    response = np.zeros((*batch, p + 1, p + 1))
    response[..., :, :p] = np.tril(2 * q * np.imag(correlation), -1)[..., :p] * gamma[..., None, :]
    return LimitConstants(correlation, response), history


def _mixer(beta: Value) -> np.ndarray:
    """<b|e^{-i beta X}|a> <b'|e^{-i beta X}|a'>^* from the pair (a, a') to (b, b'): (..., 4, 4)."""
    stay, flip = np.cos(beta)[..., None, None], -1j * np.sin(beta)[..., None, None]
    ket = np.where(_KET[:, None] == _KET, stay, flip)
    bra = np.where(_BRA[:, None] == _BRA, stay, flip)
    return ket * np.conj(bra)


def _measured(beta: Value) -> np.ndarray:
    """<bra| e^{i beta X} Z e^{-i beta X} |ket> = <bra| Z cos(2 beta) + Y sin(2 beta) |ket> over the four pairs."""
    cosine, sine = np.cos(2 * beta), 1j * np.sin(2 * beta)
    return np.stack([cosine, sine, -sine, -cosine], axis=-1)


def limit_law(q: int, gammas: Angles, betas: Angles, scale: float = 1.0, *, noise: float = 1.0) -> SineGaussian:
    """The law of R at n -> infinity, lambda_n = `signal_to_noise`(n, p, q, scale): A sin(2 q gamma_p H).

    H = Lambda^{S_p} prod_{t<p} chi_t^{(q-1)^{p-t}} g^{(q-1)^p}: m_1 = g/sqrt n, h_t = lambda_n m_t^{q-1}, m_{t+1} =
    chi_t h_t for t < p, and the last layer, where h_p is of order one, turns every spin by 2 q gamma_p h_p.
    """
    constants = limit_constants(q, gammas, betas, noise=noise)
    chi = constants.chi
    require(chi.ndim == 1, "the limit law takes one set of angles, not a batch")
    p = len(chi)
    powers = np.array([(q - 1) ** (p - t) for t in range(1, p)])
    gain = float(scale) ** response_power(p, q) * np.prod(chi[:-1] ** powers)
    return SineGaussian(float(constants.amplitude), float(2 * q * np.asarray(gammas)[-1] * gain), (q - 1) ** p)


class _FunctionOfGaussian:
    """Law of values(g), g ~ N(0, 1); values(-g) = +-values(g)."""

    def values(self, g: Real) -> Value:
        raise NotImplementedError

    def moment(self, order: int) -> float:
        """E R^order by the trapezoidal rule; Gauss-Hermite rules fail on sin(g^4) in the second digit."""
        g, weight = _gaussian_grid()
        return float(weight @ self.values(g) ** order)

    def mean(self) -> float:
        return self.moment(1)

    def second_moment(self) -> float:
        """E R^2."""
        return self.moment(2)

    def std(self) -> float:
        return float(np.sqrt(self.moment(2) - self.moment(1) ** 2))


@dataclass(frozen=True)
class SineGaussian(_FunctionOfGaussian):
    """The law of A sin(B g^k), g ~ N(0, 1): A = `amplitude`, B = `frequency`, k = `power` = (q - 1)^p."""

    amplitude: float
    frequency: float
    power: int

    def values(self, g: Real) -> Value:
        """A sin(B g^k)."""
        return self.amplitude * np.sin(self.frequency * g**self.power)

    def cdf(self, x: ArrayLike) -> Value:
        """P(R <= x), a sum over the branches of the sine.

        At most 512 branches; beyond, only for k >= 5 or so, |B g^k| > 1024 pi is taken as a uniform phase.
        """
        x = np.asarray(x, dtype=np.float64)
        if self.amplitude == 0 or self.frequency == 0:
            return np.where(x >= 0, 1.0, 0.0)[()]
        level = np.clip(x / abs(self.amplitude), -1, 1)
        if self.power % 2:
            below = (self._below(level) + 1 - self._below(-level)) / 2
        else:
            below = self._below(level) if self.amplitude * self.frequency > 0 else 1 - self._below(-level)
        return np.clip(below, 0, 1)[()]

    def _below(self, level: Value) -> Value:
        """P(sin v <= level), v = |B| |g|^k: v in [0, alpha], or in [(2j-1) pi - alpha, 2j pi + alpha], j = 1, 2, ..."""
        alpha = np.arcsin(level)
        largest = abs(self.frequency) * _LARGEST_GAUSSIAN**self.power
        branches = int(min(np.ceil(largest / (2 * np.pi)), 512))
        total = self._within(np.maximum(alpha, 0))
        for j in range(1, branches + 1):
            total = total + self._within(2 * j * np.pi + alpha) - self._within((2 * j - 1) * np.pi - alpha)
        beyond = 1 - self._within(np.asarray((2 * branches + 0.5) * np.pi))
        return total + beyond * (0.5 + alpha / np.pi)

    def _within(self, v: Value) -> Value:
        return erf((v / abs(self.frequency)) ** (1 / self.power) / np.sqrt(2))

    def smeared_pmf(self, n: int) -> Float[np.ndarray, " outcomes"]:
        """P(K = k), k = 0..n, of K ~ Binomial(n, (1 - D)/2), D of this law: the law seen through n spins' sampling.

        Up to O(1/n) the finite-n law of the number of spins with u_i z_i = -1.
        """
        g, weight = _gaussian_grid()
        half = g >= 0
        minus = (1 - self.values(g[half])) / 2
        with np.errstate(divide="ignore"):
            log_minus, log_plus = np.log(minus), np.log1p(-minus)
        weight = weight[half] * np.where(g[half] > 0, 2, 1)
        k = np.arange(_size(n) + 1)
        log_count = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        with np.errstate(invalid="ignore"):  # 0 log 0 = 0
            terms = (np.where(j > 0, j * log_minus, 0.0) + np.where(n > j, (n - j) * log_plus, 0.0) for j in k)
            pmf = np.array([weight @ np.exp(c + term) for c, term in zip(log_count, terms, strict=True)])
        return (pmf + pmf[::-1]) / 2 if self.power % 2 else pmf


_LARGEST_GAUSSIAN = 9.0


@cache
def _gaussian_grid() -> tuple[Float[np.ndarray, " grid"], Float[np.ndarray, " grid"]]:
    """Nodes and weights of the trapezoidal rule for E f(g), |g| <= 9."""
    g = np.linspace(-_LARGEST_GAUSSIAN, _LARGEST_GAUSSIAN, 400_001)
    weight = np.exp(-np.square(g) / 2)
    weight /= weight.sum()
    g.flags.writeable = weight.flags.writeable = False  # the cache hands out the same arrays
    return g, weight


def _gaussian_moment(order: int) -> float:
    """E g^order = (order - 1)!! for even orders."""
    return float(np.prod(np.arange(1, order, 2))) if order % 2 == 0 else 0.0


# --------------------------------------------------------------------------------------------------------------------
# p steps at finite n, q = 2: a Gaussian process conditioned on its own fields
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GaussianMixture:
    """The law sum_i weights_i N(centres_i, spreads_i^2); a spread may be 0."""

    weights: Float[np.ndarray, " parts"]
    centres: Float[np.ndarray, " parts"]
    spreads: Float[np.ndarray, " parts"]

    def cdf(self, x: ArrayLike) -> Value:
        """P(R <= x); O(parts) for each x."""
        x = np.asarray(x, dtype=np.float64)
        spreads = np.maximum(self.spreads, np.finfo(np.float64).tiny)
        with np.errstate(over="ignore"):
            below = [self.weights @ ndtr((level - self.centres) / spreads) for level in x.ravel()]
        return np.reshape(below, x.shape)[()]

    def mean(self) -> float:
        return float(self.weights @ self.centres)

    def second_moment(self) -> float:
        """E R^2."""
        return float(self.weights @ (self.centres**2 + self.spreads**2))

    def std(self) -> float:
        return float(np.sqrt(self.second_moment() - self.mean() ** 2))


def bridging_law(
    n: int,
    snr: float,
    gammas: Angles,
    betas: Angles,
    *,
    noise: float = 1.0,
    spacing: float = 0.25,
    zero_field_covariance: bool = False,
) -> GaussianMixture:
    """The law of R after p steps at q = 2 and finite n, with an error of O(1/n); derived here.

    `limit_law` is reached only at rate n^{-eps_p} (all beta = pi/4) or n^{-eps_p/2}. At q = 2 the signal's phase is
    bilinear in the magnetisation, so that fields can be drawn layer by layer: m_t = D_t + xi_t/sqrt n, h_t = lambda_n
    m_t, path weights w_h(a) = w(a) exp(-2i sum_{s<t} gamma_s h_s (a_s - a_{-s})), D_t = Re <a_t>, and xi_t is Gaussian
    given xi_1, ..., xi_{t-1} under V_ts = Re <a_t a_s> - D_t D_s, V_tt = 1 - D_t^2. R = m_0, the output.

    Quadrature over the p standard normals that drive xi_1, ..., xi_p (trapezoidal, |y| <= 8), xi_0 being Gaussian given
    those: one part of the mixture for each of (1 + 16/spacing)^p nodes. Moments at spacing 0.25 are converged to 1e-9
    for angles and fields of order one; so is the cdf to 1e-5 where the parts overlap (n < 100 or so), while narrow
    parts (large n, noise = 0) need a smaller spacing. `zero_field_covariance` puts V at h = 0 in place of V, which
    leaves an error of O(n^{-1/2}): a control.

    Raises InputError where the quadrature would need more than 10^7 nodes.
    """
    constants, weights = _paths(2, gammas, betas, noise)
    gamma, beta = _angles(gammas, betas)
    require(gamma.ndim == 1, "the bridging law takes one set of angles, not a batch")
    require(0 < spacing <= 1, f"spacing of the quadrature must lie in (0, 1], got {spacing}")
    p = len(gamma)
    nodes = np.arange(-np.floor(8 / spacing), np.floor(8 / spacing) + 1) * spacing
    require(len(nodes) ** p <= 10**7, f"spacing {spacing} at p = {p} needs {len(nodes) ** p} nodes, at most 10000000")
    root = np.sqrt(_size(n))
    # Everything is an array over the p axes of nodes, of length 1 along those it does not depend on.
    drive = [nodes.reshape(-1, *(1,) * (p - 1 - t)) for t in range(p)]
    mean = [np.zeros((1,) * p)]
    factor = [[np.ones((1,) * p)]]  # rows of the Cholesky factor of V
    phases = []
    for t in range(p):
        fluctuation = sum(row * y for row, y in zip(factor[t], drive[: t + 1], strict=True))
        field = snr * (mean[t] + fluctuation / root)
        phases.append(np.exp(-2j * gamma[t] * field[..., None] * (_KET - _BRA)))
        average = _averages(weights[t], _measured(beta[t]), phases)
        mean.append(average[..., 0])
        if zero_field_covariance:
            covariance, variance = list(np.real(constants.correlation[t + 1, : t + 1])), 1.0
        else:
            covariance = [average[..., s + 1] - mean[-1] * mean[s] for s in range(t + 1)]
            variance = 1 - mean[-1] ** 2
        row: list[np.ndarray] = []
        for s in range(t + 1):
            rest = covariance[s] - sum(a * b for a, b in zip(row, factor[s][:s], strict=True))
            pivot = factor[s][s]
            row.append(np.where(pivot > 1e-5, rest / np.maximum(pivot, 1e-5), 0.0))  # V may be singular
        remaining = variance - sum(a * a for a in row)
        factor.append([*row, np.sqrt(np.maximum(remaining, 0.0))])
    centre = mean[p] + sum(row * y for row, y in zip(factor[p][:p], drive, strict=True)) / root
    weight = np.prod(np.stack(np.broadcast_arrays(*(np.exp(-np.square(y) / 2) for y in drive))), axis=0)
    parts = np.broadcast_arrays(weight / weight.sum(), centre, factor[p][p] / root)
    return GaussianMixture(*(part.ravel() for part in parts))


def _averages(weights: np.ndarray, measured: np.ndarray, phases: list[np.ndarray]) -> np.ndarray:
    """Re <a_t> and Re <a_t a_s>, s < t, in the fields of `phases` (nodes, 4): (nodes, t); summed layer by layer."""
    block = (weights.reshape(-1, 4) * measured).reshape(1, -1)
    for phase in phases:
        block = block.reshape(*block.shape[:-1], 4, -1)
        plain = np.einsum("...a,...oar->...or", phase, block)
        marked = np.einsum("...a,...oar->...or", phase * _KET, block[..., :1, :, :])
        block = np.concatenate([plain, marked], axis=-2)
    return np.real(block[..., 0])


# --------------------------------------------------------------------------------------------------------------------
# Power iteration
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PowerIterationStep:
    """Exact law at any n of the overlap after one step of power iteration from a uniform start on the sphere.

    W is not symmetrised and has unit variance. With m the first coordinate of the start, sqrt n times the contraction
    along u is N(delta, 1), delta = sqrt n lambda_n m^{q-1}, and its other n - 1 coordinates are standard normal, of norm
    s: r/sqrt(1 - r^2) = N(delta, 1)/s.
    """

    n: int
    q: int
    snr: float

    def __post_init__(self) -> None:
        _size(self.n)
        _order(self.q)

    def _shifts(self) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
        """delta and its probabilities: m = sin(phi), density cos(phi)^{n-2}, smooth and periodic, trapezoidal rule."""
        end = min(np.pi / 2, 10 / np.sqrt(max(self.n - 2, 1)))
        phi = np.linspace(-end, end, 2001)
        with np.errstate(divide="ignore"):
            weight = np.exp((self.n - 2) * np.log(np.cos(phi))) if self.n > 2 else np.ones_like(phi)
        weight[[0, -1]] /= 2
        return np.sqrt(self.n) * self.snr * np.sin(phi) ** (self.q - 1), weight / weight.sum()

    def cdf(self, x: ArrayLike) -> Value:
        """P(r <= x) = E Phi(s x/sqrt(1 - x^2) - delta), by quadrature over s and delta."""
        x = np.asarray(x, dtype=np.float64)
        delta, weight = self._shifts()
        middle = np.sqrt(self.n - 1)
        lowest, highest = max(middle - 6.5, 0.0), middle + 6.5  # the chi density is at most e^{-(s - middle)^2}
        node, length = np.polynomial.legendre.leggauss(64)
        s = (lowest + highest + (highest - lowest) * node) / 2
        density = length * np.exp((self.n - 2) * np.log(s / middle) + (middle**2 - s**2) / 2)
        density /= density.sum()
        with np.errstate(divide="ignore"):
            ratio = np.clip(x, -1, 1) / np.sqrt(np.maximum(1 - x * x, 0.0))
        below = [density @ ndtr(s[:, None] * level - delta) @ weight for level in ratio.ravel()]
        return np.clip(np.reshape(below, x.shape), 0, 1)[()]

    def mean(self) -> float:
        """E r: given delta, (delta/sqrt 2) Gamma((n+1)/2)/Gamma(n/2+1) 1F1(1/2; n/2+1; -delta^2/2)."""
        if self.q % 2 == 0:
            return 0.0
        delta, weight = self._shifts()
        ratio = np.exp(gammaln((self.n + 1) / 2) - gammaln(self.n / 2 + 1))
        return float(weight @ (delta / np.sqrt(2) * ratio * hyp1f1(0.5, self.n / 2 + 1, -(delta**2) / 2)))

    def second_moment(self) -> float:
        """E r^2: given delta, 1 - (1 - 1/n) 1F1(1; n/2+1; -delta^2/2)."""
        delta, weight = self._shifts()
        return float(weight @ (1 - (1 - 1 / self.n) * hyp1f1(1.0, self.n / 2 + 1, -(delta**2) / 2)))

    def std(self) -> float:
        return float(np.sqrt(self.second_moment() - self.mean() ** 2))


@dataclass(frozen=True)
class PowerIterationLimit(_FunctionOfGaussian):
    """The law of H/sqrt(variance + H^2), H = gain g^power, g ~ N(0, 1)."""

    gain: float
    power: int
    variance: float

    def values(self, g: Real) -> Value:
        """H/sqrt(variance + H^2)."""
        h = self.gain * g**self.power
        return h / np.sqrt(self.variance + h * h)

    def cdf(self, x: ArrayLike) -> Value:
        """P(r <= x)."""
        x = np.asarray(x, dtype=np.float64)
        with np.errstate(divide="ignore"):
            h = np.abs(x) * np.sqrt(self.variance / np.maximum(1 - x * x, 0.0)) / abs(self.gain)
        within = erf(h ** (1 / self.power) / np.sqrt(2))
        if self.power % 2:
            return ((1 + np.sign(x) * within) / 2)[()]
        return (np.where(x >= 0, within, 0.0) if self.gain > 0 else np.where(x >= 0, 1.0, 1 - within))[()]


def power_iteration_limit(p: int, q: int, scale: float = 1.0, *, variance: float = 1.0) -> PowerIterationLimit:
    """The law of the overlap after p steps of power iteration, n -> infinity, at `signal_to_noise`(n, p, q, scale).

    r = H/sqrt(variance + H^2), H = Lambda^{S_p} g^{(q-1)^p}: h_t = lambda_n m_t^{q-1} against noise of norm
    sqrt(variance) in the last step. Fresh noise in every contraction, variance 1, when W is not symmetrised; see
    `symmetrised_variance`.
    """
    require(scale > 0, f"scale must be positive, got {scale}")
    require(variance > 0, f"variance must be positive, got {variance}")
    return PowerIterationLimit(float(scale) ** response_power(p, q), (q - 1) ** p, variance)


def symmetrised_variance(p: int, q: int) -> float:
    """sigma_p^2 of power iteration on the tensor averaged over permutations of its axes: 1/q at p = 1.

    q = 2: the spectrum of the symmetrised matrix is a semicircle of radius sqrt 2, and the noise after p steps is
    <v_0, W^{2p} v_0> = Catalan(p)/2^p. Raises InputError for p >= 2 with q >= 3, where it is not known here.
    """
    if _depth(p) == 1:
        return 1 / _order(q)
    require(
        _order(q) == 2, f"variance of symmetrised power iteration is known for p = 1 or q = 2, got p = {p}, q = {q}"
    )
    return comb(2 * p, p) / (p + 1) / 2**p


# --------------------------------------------------------------------------------------------------------------------
# Enhancement over power iteration at weak signal
# --------------------------------------------------------------------------------------------------------------------


class Enhancement(NamedTuple):
    """A factor and the angles that attain it."""

    factor: float
    gammas: Float[np.ndarray, " p"]
    betas: Float[np.ndarray, " p"]


def enhancement(q: int, gammas: Angles, betas: Angles, *, noise: float = 1.0) -> Value:
    """eta = |c|^{1/S_p}, c = prod_{t=1}^p chi_t^{(q-1)^{p-t}}, chi_p = 2 q gamma_p A; batches of angles (..., p).

    As Lambda -> 0 the QAOA has |R| = |c| Lambda^{S_p} |g|^{(q-1)^p} and power iteration on the raw tensor the same
    with c = 1: it needs an eta times larger signal (Table 1). On the symmetrised tensor power iteration has its own
    factor, `symmetrised_variance`^{-1/(2 S_p)}, so that the ratio at p = 1 is e^{-1/2} for every q.
    """
    return np.exp(_log_enhancement(q, gammas, betas, noise))[()]


def _log_enhancement(q: int, gammas: Angles, betas: Angles, noise: float = 1.0) -> Value:
    chi = limit_constants(q, gammas, betas, noise=noise).chi
    p = chi.shape[-1]
    powers = float(q - 1) ** np.arange(p - 1, -1, -1)
    with np.errstate(divide="ignore"):
        return np.log(np.abs(chi)) @ powers / response_power(p, q)


BEST_ANGLES: dict[tuple[int, int], tuple[tuple[float, ...], tuple[float, ...]]] = {
    (2, 2): ((0.30205, 0.41833), (np.pi / 4, np.pi / 4)),
    (2, 3): ((0.24675, 0.34660), (0.63419, np.pi / 4)),
    (2, 4): ((0.21194, -0.28561), (np.pi / 4, np.pi / 4)),
    (2, 5): ((0.19464, 0.24867), (0.87355, np.pi / 4)),
    (2, 6): ((0.17972, 0.22045), (np.pi / 4, np.pi / 4)),
    (3, 2): ((0.27498, 0.38482, 0.43138), (np.pi / 4, np.pi / 4, np.pi / 4)),
    (3, 3): ((0.22938, 0.32461, -0.34414), (0.60827, 0.95115, np.pi / 4)),
    (3, 4): ((0.19739, -0.25935, 0.27532), (np.pi / 4, np.pi / 4, np.pi / 4)),
    (3, 5): ((0.18988, -0.22363, 0.23248), (0.69336, 0.74784, np.pi / 4)),
    (3, 6): ((0.17793, 0.19735, -0.20914), (np.pi / 4, np.pi / 4, np.pi / 4)),
    (4, 2): ((0.25589, 0.37050, 0.40196, 0.43338), (np.pi / 4, np.pi / 4, np.pi / 4, np.pi / 4)),
    (4, 3): ((0.22300, 0.31566, -0.32152, 0.32341), (0.60330, 0.96365, 0.92244, np.pi / 4)),
    (4, 4): ((0.19692, -0.25819, 0.22177, 0.26533), (np.pi / 4, np.pi / 4, np.pi / 4, np.pi / 4)),
    (4, 5): ((0.18876, -0.22053, 0.19774, -0.24434), (0.69190, 0.74914, 0.76418, np.pi / 4)),
    (4, 6): ((0.17733, 0.19498, -0.18185, -0.21969), (np.pi / 4, np.pi / 4, np.pi / 4, np.pi / 4)),
}
"""(p, q): gammas and betas of the largest `enhancement` found by `best_enhancement` with 100 restarts, to 5 digits."""


def best_enhancement(p: int, q: int, *, restarts: int = 40, seed: int = 0) -> Enhancement:
    """The largest `enhancement` found: at p = 1 exactly sqrt(q/e), gamma = 1/(2 sqrt q), beta = pi/4; else a lower bound.

    BFGS from `restarts` random starts, half of them the best angles of p - 1 layers with one layer added: seconds at p
    = 4. The landscape has many local optima for p >= 3, among them sign flips of single gamma_t.
    """
    require(restarts >= 1, f"restarts must be at least 1, got {restarts}")
    if _depth(p) == 1:
        gamma = 1 / (2 * np.sqrt(_order(q)))
        return Enhancement(float(np.sqrt(q / np.e)), np.array([gamma]), np.array([np.pi / 4]))
    shorter = best_enhancement(p - 1, q, restarts=restarts, seed=seed)
    rng = np.random.default_rng(seed)
    gammas, betas = rng.uniform(-0.5, 0.5, (restarts, p)), rng.uniform(0.2, 1.3, (restarts, p))
    gammas[: restarts // 2, :-1] = shorter.gammas
    betas[: restarts // 2, :-1] = shorter.betas
    step = 1e-5
    steps = step * np.vstack([np.zeros((1, 2 * p)), np.eye(2 * p), -np.eye(2 * p)])

    def loss(angles: np.ndarray) -> tuple[float, np.ndarray]:  # and its gradient, by central differences in one batch
        near = angles + steps
        value = np.minimum(-_log_enhancement(q, near[:, :p], near[:, p:]), 700.0)  # long steps end where chi underflows
        return value[0], (value[1 : 2 * p + 1] - value[2 * p + 1 :]) / (2 * step)

    runs = [minimize(loss, start, jac=True, method="BFGS") for start in np.hstack([gammas, betas])]
    best = min(runs, key=lambda run: run.fun)
    return Enhancement(float(np.exp(-best.fun)), best.x[:p], best.x[p:])


# --------------------------------------------------------------------------------------------------------------------
# Admissible input
# --------------------------------------------------------------------------------------------------------------------


def _size(n: int) -> int:
    require(n >= 2, f"n must be at least 2, got {n}")
    return n


def _order(q: int) -> int:
    require(q >= 2, f"order q must be at least 2, got {q}")
    return q


def _depth(p: int) -> int:
    require(p >= 1, f"depth p must be at least 1, got {p}")
    return p


def _noise(noise: float) -> None:
    require(bool(np.isfinite(noise) and noise >= 0), f"noise must be >= 0 and finite, got {noise}")


def _angles(gammas: Angles, betas: Angles) -> tuple[Float[np.ndarray, "*batch p"], Float[np.ndarray, "*batch p"]]:
    gamma, beta = np.asarray(gammas, dtype=np.float64), np.asarray(betas, dtype=np.float64)
    require(
        gamma.shape == beta.shape and gamma.ndim >= 1 and gamma.shape[-1] >= 1,
        f"gammas and betas must be equally many angles, at least one, got shapes {gamma.shape} and {beta.shape}",
    )
    return gamma, beta
