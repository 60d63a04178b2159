"""The theorems on the TAP free energy and approximate message passing as executable claims, by what they need to be measured.

Statements: Celentano, Fan, Lin, Mei (2023, arXiv 2311.08442).
"""

from __future__ import annotations

from theorysim.papers.tap_amp import identities, inference, landscape, secondary

CLAIMS = (*identities.CLAIMS, *inference.CLAIMS, *landscape.CLAIMS, *secondary.CLAIMS)
