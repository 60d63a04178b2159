"""Figure 4 of propagation of chaos for mean-field Langevin dynamics: chaos at every step."""

import sys

from theorysim.cli.script import main

QUESTION = "Do bias and fluctuations of N neurons stay of order 1/N at all times, with which constants?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["mean-field-langevin.figure-4"]))
