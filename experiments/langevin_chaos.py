"""Bias and fluctuations of N neurons at every step, against the chain of infinitely many neurons."""

import sys

from theorysim.cli.script import main

QUESTION = "Do bias and fluctuations of N neurons stay of order 1/N at all times, with which constants?"
CLAIMS = ("mean-field-langevin.time-uniform-poc",)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=CLAIMS, figures=["mean-field-langevin.figure-4"]))
