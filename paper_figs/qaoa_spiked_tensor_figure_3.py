"""Figure 2 (b) of QAOA for the spiked tensor model: second moment after one step."""

import sys

from theorysim.cli.script import main

QUESTION = "One step: how does the second moment of the overlap approach its limit?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["qaoa-spiked-tensor.figure-3"]))
