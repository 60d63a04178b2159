"""Figure 6 of large-stepsize gradient descent: bound tightness."""

import sys

from theorysim.cli.script import main

QUESTION = "Edge of stability: how far are the bounds on the average risk from the average risk?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["large-stepsize-gd.figure-6"]))
