"""Figure 6 of propagation of chaos for mean-field Langevin dynamics: what merging is worth."""

import sys

from theorysim.cli.script import main

QUESTION = "Up to how many networks does merging pay, and what is the best width for a budget?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["mean-field-langevin.figure-6"]))
