"""Figure 1 of large-stepsize gradient descent: XOR."""

import sys

from theorysim.cli.script import main

QUESTION = "XOR: do risk and margin reach the limits given by the allocation of the neurons, at every stepsize?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["large-stepsize-gd.figure-1"]))
