"""Figure 1 of propagation of chaos for mean-field Langevin dynamics: merged networks on two circles."""

import sys

from theorysim.cli.script import main

QUESTION = "How far are merged networks from the mean-field optimum, and is the error as predicted?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["mean-field-langevin.figure-1"]))
