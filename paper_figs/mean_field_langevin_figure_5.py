"""Figure 5 of propagation of chaos for mean-field Langevin dynamics: the objective of Gaussian networks."""

import sys

from theorysim.cli.script import main

QUESTION = "How does the objective of N neurons fall to its floor, and what does the step size add?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["mean-field-langevin.figure-5"]))
