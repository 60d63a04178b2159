"""The theorems on single-index tasks learned in context as executable claims: pretraining, attention, learners of one prompt.

Statements: Oko, Song, Suzuki, Wu (NeurIPS 2024, arXiv 2411.02544); most constants are derived here.
"""

from __future__ import annotations

from theorysim.papers.single_index_icl import floor, pretraining, regression, trained

CLAIMS = (
    floor.ZONAL_EXPANSION,
    *pretraining.CLAIMS,
    floor.ATTENTION_FLOOR,
    floor.FLOOR_ATTAINED,
    floor.PROMPT_LENGTH_RATE,
    trained.DUAL,
    trained.INDEPENDENCE,
    regression.CHAIN,
    regression.PROMPT_ONLY,
    trained.BEATS,
    regression.KRR_SPHERE,
    regression.KRR_GAUSS,
    regression.KRR_PLATEAU,
    floor.CSQ,
    floor.ABS_RISK,
    trained.GPT2,
)
