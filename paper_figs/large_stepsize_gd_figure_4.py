"""Figure 4 of large-stepsize gradient descent: phase portrait."""

import sys

from theorysim.cli.script import main

QUESTION = "Two points: how does the risk oscillate and then fall for good, once under the threshold of its stepsize?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["large-stepsize-gd.figure-4"]))
