"""Figure 5 of large-stepsize gradient descent: acceleration."""

import sys

from theorysim.cli.script import main

QUESTION = "Acceleration: what does a stepsize proportional to the budget T gain over one that keeps the risk monotone?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["large-stepsize-gd.figure-5"]))
