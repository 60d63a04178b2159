"""Figure 3 of propagation of chaos for mean-field Langevin dynamics: no log-Sobolev constant."""

import sys

from theorysim.cli.script import main

QUESTION = "Does the price of finite N rise as the log-Sobolev constant collapses?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["mean-field-langevin.figure-3"]))
