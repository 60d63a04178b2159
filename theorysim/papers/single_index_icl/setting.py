"""The tasks: dimension, subspace, link, noise. A setting here describes them for both sides: `law()` is that of the algorithms.

y = sigma(<beta, x>) + s, beta uniform on the unit sphere of an r-dimensional subspace of R^d, sigma = sum_k (c_k/k!) He_k.
"""

from __future__ import annotations

from math import factorial
from typing import Literal

import numpy as np
from jaxtyping import Float

from theorysim.errors import require
from theorysim.kernels import prompts
from theorysim.sweep import setting


@setting
class Coefficients:
    """A fixed link, by its Hermite coefficients c_0 = 0, c_1, ..., c_P."""

    values: Float[np.ndarray, " degrees"]

    def validate(self) -> None:
        prompts.hermite(self.values.tolist())
        require(self.values[0] == 0, f"E sigma must be 0: subtract the mean c_0 = {self.values[0]:.6g}")
        require(bool(self.values[1:].any()), "link must not be constant: no coefficient of degree 1 or more")

    def kernel(self) -> prompts.Link:
        """The link of the algorithms."""
        return prompts.Hermite(self.values)


@setting
class Band:
    """Random links: (c_k/sqrt k!), k = Q..P, uniform on the unit sphere of R^{P-Q+1}, anew in each prompt."""

    lowest: int
    highest: int

    def validate(self) -> None:
        allowed = 1 <= self.lowest <= self.highest
        require(allowed, f"information exponent Q must lie in [1, P = {self.highest}], got {self.lowest}")

    def kernel(self) -> prompts.Link:
        """The link of the algorithms."""
        degrees = range(self.lowest, self.highest + 1)
        return prompts.random_hermite(np.diag([factorial(k) / len(degrees) for k in degrees]), self.lowest)


Link = Coefficients | Band


def monomial(degree: int) -> Coefficients:
    """He_k/sqrt(k!), of unit variance."""
    return Coefficients(np.array([0.0] * degree + [factorial(degree) ** 0.5]))


HE2, HE3, HE4, MIX = monomial(2), monomial(3), monomial(4), Band(2, 4)
"""The standard links; MIX is the family of the paper's Figure 2."""


@setting
class Tasks:
    """d: dimension. r: dimension of the subspace. link: sigma. tau: standard deviation of the labels' noise.

    noise: +-tau with equal probability, or Gaussian. inputs: N(0, I_d), or uniform on the sphere of radius sqrt(d).
    """

    d: int
    r: int
    link: Link
    tau: float
    noise: Literal["sign", "gaussian"] = "sign"
    inputs: Literal["gaussian", "sphere"] = "gaussian"

    def validate(self) -> None:
        self.law()

    def law(self) -> prompts.PromptLaw:
        """The law of a prompt, for the algorithms; its numbers may be traced."""
        return prompts.PromptLaw(self.d, self.r, self.link.kernel(), self.tau, noise=self.noise, inputs=self.inputs)
