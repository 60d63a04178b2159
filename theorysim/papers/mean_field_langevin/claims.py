"""The theorems on mean-field Langevin dynamics as executable claims, by what they need to be measured.

Statements: Nitanda, Lee, Tan Xing Kai, Sakaguchi, Suzuki (ICML 2025, arXiv 2502.05784); Nitanda (NeurIPS 2024, arXiv 2405.15767);
Chen, Ren, Wang (arXiv 2212.03050).
"""

from __future__ import annotations

from theorysim.papers.mean_field_langevin import dynamics, gibbs, identities

CLAIMS = (*identities.CLAIMS, *gibbs.CLAIMS, *dynamics.CLAIMS)
