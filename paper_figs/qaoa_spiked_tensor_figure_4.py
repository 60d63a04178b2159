"""Figure 3 of QAOA for the spiked tensor model: histograms after p steps."""

import sys

from theorysim.cli.script import main

QUESTION = "p steps: how far is the law of the overlap from its limit at sizes that can be simulated?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["qaoa-spiked-tensor.figure-4"]))
