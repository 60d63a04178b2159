"""Convergence figure of the appendix of QAOA for the spiked tensor model: approach to the limit."""

import sys

from theorysim.cli.script import main

QUESTION = "p steps: at which rate does the second moment of the overlap approach its limit?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["qaoa-spiked-tensor.figure-5"]))
