"""A model pretrained in two stages against kernel ridge regression, the optimum without the subspace, and trained networks."""

import sys

from theorysim.cli.script import main

QUESTION = "Does a pretrained model beat what learns from the prompt alone, and up to which prompt length?"
CLAIMS = (
    "single-index-icl.d-independence",
    "single-index-icl.icl-beats-prompt-only",
    "single-index-icl.prompt-only-bound",
)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=CLAIMS, figures=["single-index-icl.figure-4"]))
