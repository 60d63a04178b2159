"""Predictions where mu* cannot be computed: its neurons' moments are those of wide networks.

Neurons of a network of N are independent draws from mu* up to O(1/N), so that K and K_z of the theory are covariances over them; h*
is the mean output of these networks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from theorysim.papers.mean_field_langevin.measurements import Training
from theorysim.verify.claim import Results


class Reference(NamedTuple):
    """At T inputs: value, outputs of the wide networks together, shape (T,); variance, lim N Var h_rho(z) under P*, with the
    wide networks' neurons for mu*, shape (T,); iid_variance: of independent neurons, shape (T,)."""

    value: Float[np.ndarray, " T"]
    variance: Float[np.ndarray, " T"]
    iid_variance: Float[np.ndarray, " T"]


def reference(setting: Training, results: Results) -> Reference:
    """From the `measurements.POOLED` results of a setting, all seeds together: v = K_zz - K_z (lam n D^{-1} + K)^{-1} K_z^T."""
    T, n = len(setting.points), len(setting.problem.y)
    C = results["covariance"].astype(float).mean(axis=0)
    root = np.sqrt(results["curvature"].astype(float).mean(axis=0))
    cross, iid = C[:T, T:] * root, np.diag(C)[:T]
    inner = setting.problem.lam * n * np.eye(n) + root[:, None] * C[T:, T:] * root
    variance = iid - np.einsum("tj,jt->t", cross, np.linalg.solve(inner, cross.T))
    return Reference(results["mean"].astype(float).mean(axis=0)[:T], variance, iid)
