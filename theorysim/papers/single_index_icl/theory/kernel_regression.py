"""Learning curves of kernel ridge regression on one prompt, from the spectrum of the kernel and the power of the target.

The deterministic equivalent (Bordelon, Canatar, Pehlevan, 2020; Simon, Dickens, Karkada, DeWeese, 2023): with eigenvalues
lam_i of multiplicity mu_i, target power V_i, ridge delta on the unnormalised kernel matrix and n samples,

    n = sum_i mu_i L_i + delta/kappa,  L_i = lam_i/(lam_i + kappa),  E0 = n/(n - sum_i mu_i L_i^2),
    risk = E0 [sum_i (1 - L_i)^2 V_i + tau^2] - tau^2.

It is exact in the proportional limit of each degree on the sphere. With Gaussian inputs, and for the prior kernel in few
dimensions, it is low by a tenth to a half just beyond a transition, where the features are far from Gaussian.
"""

from __future__ import annotations

from math import factorial
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln, logsumexp
from scipy.stats import nbinom

from theorysim.errors import require
from theorysim.papers.single_index_icl.theory.hermite import hermite_polynomials
from theorysim.papers.single_index_icl.theory.inputs import (
    Real,
    Value,
    float64,
    require_dimension,
    require_each,
    require_noise,
)
from theorysim.papers.single_index_icl.theory.links import Link
from theorysim.papers.single_index_icl.theory.zonal import blocks, gegenbauer, multiplicity, sphere_nodes

NEGLIGIBLE_MASS = 1e-17
"""Eigenspaces of less than this part of the kernel's trace, and all beyond, are left out."""


class Spectrum(NamedTuple):
    """Eigenspaces of a kernel.

    eigenvalue: lam_i, 0 for what the kernel cannot see. multiplicity: mu_i. power: V_i, the target's power in the eigenspace.
    """

    eigenvalue: Float[np.ndarray, " spaces"]
    multiplicity: Float[np.ndarray, " spaces"]
    power: Float[np.ndarray, " spaces"]


def ridge_regression_risk(n: Real, spectrum: Spectrum, ridge: float, tau: float) -> Value:
    """Deterministic equivalent of the excess risk at n samples; broadcasts over n."""
    n = float64(n)
    require_each("number of samples n", n, n >= 1, "at least 1")
    require(0 < ridge < np.inf, f"ridge must be positive and finite, got {ridge}")
    require_noise(tau)
    flat = [_risk(float(samples), spectrum, ridge, tau) for samples in np.ravel(n)]
    return np.reshape(flat, np.shape(n))[()]


def _risk(n: float, spectrum: Spectrum, ridge: float, tau: float) -> float:
    lam, mu, power = spectrum

    def excess(log_kappa: float) -> float:
        kappa = np.exp(log_kappa)
        return float(np.sum(mu * lam / (lam + kappa)) + ridge / kappa - n)

    # n kappa lies between the ridge and the ridge with the whole trace.
    low, high = np.log(ridge / n), np.log((ridge + np.sum(mu * lam)) / n)
    kappa = np.exp(cast(float, brentq(excess, low - 1e-9, high + 1e-9, xtol=1e-14)))
    learned = lam / (lam + kappa)
    inflation = n / (n - np.sum(mu * learned**2))
    return float(inflation * (np.sum((1 - learned) ** 2 * power) + tau**2) - tau**2)


# --------------------------------------------------------------------------------------------------------------------
# Spectra
# --------------------------------------------------------------------------------------------------------------------


def sphere_spectrum(link: Link, d: int, h2: float | None = None) -> Spectrum:
    """Inputs uniform on the sphere of radius sqrt d, kernel exp(-|x - x'|^2/(2 h2)), h2 = d unless given; one space per degree.

    With z = d/h2: lam_l = e^{-z} Gamma(d/2) (2/z)^{d/2-1} I_{d/2-1+l}(z) as a power series in logs (quadrature would lose all
    digits of what the multiplicities blow up), sum_l n_l lam_l = 1; V_l = n_l E[sigma(sqrt d u) P_l(u)]^2.
    """
    require_dimension(d, 2)
    z = d / _squared_bandwidth(h2, d)
    eigenvalues: list[float] = []
    counts: list[float] = []
    while len(counts) <= link.degree or len(counts) <= z or eigenvalues[-1] * counts[-1] > NEGLIGIBLE_MASS:
        count = multiplicity(len(counts), d)
        _require_range(np.log(float(count)) if count.bit_length() < 1000 else np.inf, d / z)
        eigenvalues.append(_sphere_eigenvalue(len(counts), d, z))
        counts.append(float(count))
    power = np.zeros(len(counts))
    power[: link.degree + 1] = sphere_power(link, d)
    return Spectrum(np.array(eigenvalues), np.array(counts), power)


def sphere_power(link: Link, d: int) -> Float[np.ndarray, " degrees"]:
    """Power of x -> sigma(x_1) in the harmonics of degrees l = 0..P on the sphere of radius sqrt d."""
    P = link.degree
    u, weights = sphere_nodes(d, P + 1)
    norms = np.sqrt([float(factorial(k)) for k in range(P + 1)])
    values = hermite_polynomials(P, np.sqrt(d) * u) / norms[:, None]
    c = link.normalised_moments[: P + 1, : P + 1]
    projections = [values @ (weights * gegenbauer(degree, d, u)) for degree in range(P + 1)]
    return np.array([multiplicity(degree, d) * (p @ c @ p) for degree, p in enumerate(projections)])


def _sphere_eigenvalue(degree: int, d: int, z: float) -> float:
    """e^{-z} (z/2)^l Gamma(d/2)/Gamma(d/2 + l) 0F1(d/2 + l; z^2/4)."""
    j = np.arange(int(z) + 40)  # the largest term is at j < z/2
    order = d / 2 + degree
    series = logsumexp(2 * j * np.log(z / 2) - gammaln(j + 1) - gammaln(order + j))
    return float(np.exp(degree * np.log(z / 2) - z + gammaln(d / 2) + series))


def gaussian_spectrum(link: Link, d: int, h2: float | None = None) -> Spectrum:
    """Inputs N(0, I_d), kernel exp(-|x - x'|^2/(2 h2)), h2 = d unless given; one space per total degree n.

    Mehler's formula: lam = (1 - B)^d B^n, multiplicity C(d + n - 1, n), with c = sqrt(1/16 + 1/(4 h2)), A = 1/4 + 1/(2 h2) + c,
    B = 1/(2 h2 A); eigenfunctions are products of (4c)^{1/4} e^{-(c - 1/4) x^2} He_k(2 sqrt(c) x)/sqrt(k!). V_n convolves over
    coordinates the powers of sigma (once) and of the constant 1 (d - 1 times). The last space, of eigenvalue 0, is the rest.
    """
    require_dimension(d)
    h2 = _squared_bandwidth(h2, d)
    c = np.sqrt(1 / 16 + 1 / (4 * h2))
    ratio = 1 / (2 * h2 * (1 / 4 + 1 / (2 * h2) + c))
    # The trace by degree is a negative binomial law.
    top = max(int(nbinom.isf(NEGLIGIBLE_MASS, d, 1 - ratio)) + 1, 2 * link.degree)
    degrees = np.arange(top + 1)
    log_count = gammaln(d + degrees) - gammaln(d) - gammaln(degrees + 1)
    _require_range(log_count[-1], h2)
    lam = np.exp(d * np.log1p(-ratio) + degrees * np.log(ratio))
    power = _gaussian_power(link, d, c, top)
    rest = max(link.variance - power.sum(), 0.0)
    return Spectrum(np.append(lam, 0.0), np.append(np.exp(log_count), 1.0), np.append(power, rest))


def _gaussian_power(link: Link, d: int, c: float, top: int) -> Float[np.ndarray, " degrees"]:
    """Power of sigma(x_1) by total degree 0..top, its projections I_lk = E[He_l(x) eigenfunction_k(x)]/sqrt(l!) by recurrence.

    With x = a z, z ~ N(0, 1) after the Gaussian factors are merged: Stein's lemma gives I_lk = a g sqrt(k/l) I_{l-1,k-1} -
    (1 - a^2) sqrt((l-1)/l) I_{l-2,k}, g = 2 sqrt(c) a, and I_{0,2j} = sqrt((2j-1)!!/(2j)!!) (g^2 - 1)^j times a norm.
    """
    a = 1 / np.sqrt(2 * c + 1 / 2)
    g = 2 * np.sqrt(c) * a
    P, k = link.degree, np.arange(top + 1)
    projections = np.zeros((P + 1, top + 1))
    j = np.arange(1, top // 2 + 1)
    even = np.cumprod(np.concatenate([[1.0], np.sqrt((2 * j - 1) / (2 * j)) * (g**2 - 1)]))
    projections[0, ::2] = a * (4 * c) ** 0.25 * even
    for order in range(1, P + 1):
        lower = np.concatenate([[0.0], projections[order - 1, :-1]])
        projections[order] = a * g * np.sqrt(k / order) * lower
        if order >= 2:
            projections[order] -= (1 - a**2) * np.sqrt((order - 1) / order) * projections[order - 2]
    total = np.einsum("kn,kl,ln->n", projections, link.normalised_moments[: P + 1, : P + 1], projections)
    one, exponent = projections[0] ** 2, d - 1
    while exponent:  # one to the power d - 1 by squaring: all terms are positive
        if exponent % 2:
            total = np.convolve(total, one)[: top + 1]
        one, exponent = np.convolve(one, one)[: top + 1], exponent // 2
    return total


def prior_spectrum(link: Link, r: int) -> Spectrum:
    """The prior kernel itself on N(0, I_r): the linear optimum, with ridge tau^2. Targets are drawn from it: V_i = mu_i lam_i."""
    require_dimension(r)
    found = [(np.linalg.eigvalsh(block.factor.T @ block.factor), block.multiplicity) for block in blocks(link, r)]
    lam = np.concatenate([values for values, _ in found])
    mu = np.concatenate([np.full(len(values), float(count)) for values, count in found])
    return Spectrum(lam, mu, lam * mu)


# --------------------------------------------------------------------------------------------------------------------
# The staircase d -> infinity
# --------------------------------------------------------------------------------------------------------------------


def plateau_risk(link: Link, degree: int) -> float:
    """sum_{k > l} C_kk/k!, at n = d^{l + x}, 0 < x < 1, d -> infinity (Ghorbani, Mei, Misiakiewicz, Montanari, 2021)."""
    require(degree >= 0, f"degree l of a plateau must be >= 0, got {degree}")
    return float(np.diag(link.normalised_moments)[degree + 1 :].sum())


def step_risk(alpha: Real, link: Link, degree: int, ridge: float, tau: float, sharpness: float = 1.0) -> Value:
    """The limit d -> infinity of the risk on the sphere at n = alpha n_l(d), h2 = d/sharpness.

    alpha = L + (delta_eff/mu_l) L/(1 - L), mu_l = e^{-z} z^l/l!, delta_eff = delta + sum_{j > l} e^{-z} z^j/j!: higher degrees
    act as a ridge and as noise, lower ones are learned. risk = [(1 - L)^2 v_l + sum_{k > l} v_k + tau^2]/(1 - L^2/alpha) - tau^2.
    """
    alpha = float64(alpha)
    require_each("alpha = n/n_l(d)", alpha, alpha > 0, "positive")
    require(degree >= 1, f"degree l of a step must be at least 1, got {degree}")
    require(ridge >= 0, f"ridge must be >= 0, got {ridge}")
    require(0 < sharpness < np.inf, f"sharpness d/h2 must be positive and finite, got {sharpness}")
    require_noise(tau)
    step = np.exp(-sharpness) * sharpness**degree / factorial(degree)
    x = (ridge + gammainc(degree + 1, sharpness)) / step
    learned = 2 * alpha / (1 + alpha + x + np.sqrt((1 + alpha + x) ** 2 - 4 * alpha))
    powers = np.diag(link.normalised_moments)
    power = powers[degree] if degree < len(powers) else 0.0
    missing = (1 - learned) ** 2 * power + plateau_risk(link, degree) + tau**2
    return missing / (1 - learned**2 / alpha) - tau**2


def _squared_bandwidth(h2: float | None, d: int) -> float:
    value = float(d) if h2 is None else h2
    require(0 < value < np.inf, f"squared bandwidth h2 must be positive and finite, got {value}")
    return value


def _require_range(log_multiplicity: float, h2: float) -> None:
    require(log_multiplicity < 690, f"squared bandwidth h2 must be larger: multiplicities exceed 1e300, got {h2:.6g}")
