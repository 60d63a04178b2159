"""Figure 3 of large-stepsize gradient descent: five points."""

import sys

from theorysim.cli.script import main

QUESTION = "Five points: does the network separate the data with a margin while neither of its neurons does?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["large-stepsize-gd.figure-3"]))
