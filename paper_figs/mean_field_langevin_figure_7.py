"""Figure 7 of propagation of chaos for mean-field Langevin dynamics: decay of the mean-field flow."""

import sys

from theorysim.cli.script import main

QUESTION = "At which rate does the mean-field flow approach the optimum?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["mean-field-langevin.figure-7"]))
