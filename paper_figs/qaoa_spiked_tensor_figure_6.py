"""Table 1 of QAOA for the spiked tensor model: enhancement factors."""

import sys

from theorysim.cli.script import main

QUESTION = "Table 1: which constant factor does QAOA gain over power iteration?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["qaoa-spiked-tensor.figure-6"]))
