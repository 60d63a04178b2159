"""Gap of the objective of N neurons at stationarity, times N, against its limit and the bounds."""

import sys

from theorysim.cli.script import main

QUESTION = "What is the gap of the objective of N neurons, times N, and what does it tend to?"
CLAIMS = (
    "mean-field-langevin.poc-gap-constant",
    "mean-field-langevin.poc-gap-bound",
)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=CLAIMS, figures=["mean-field-langevin.figure-2"]))
