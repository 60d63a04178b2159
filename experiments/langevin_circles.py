"""Merged networks on two circles: the error of an ensemble over its size and the networks' width."""

import sys

from theorysim.cli.script import main

QUESTION = "How far are M merged networks of N neurons from the mean-field optimum, and is the error as predicted?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["mean-field-langevin.figure-1"]))
