"""Figure 2 of propagation of chaos for mean-field Langevin dynamics: the gap of the objective."""

import sys

from theorysim.cli.script import main

QUESTION = "What is the gap of the objective of N neurons, times N, and what does it tend to?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["mean-field-langevin.figure-2"]))
