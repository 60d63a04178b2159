"""Figure 2 (a) of QAOA for the spiked tensor model: histogram after one step."""

import sys

from theorysim.cli.script import main

QUESTION = "One step: does the overlap of single instances follow the sine-Gaussian law?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["qaoa-spiked-tensor.figure-2"]))
