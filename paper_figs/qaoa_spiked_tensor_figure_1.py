"""Figure 1 of QAOA for the spiked tensor model: signal-to-noise ratios."""

import sys

from theorysim.cli.script import main

QUESTION = "Which signal-to-noise ratios do p steps of QAOA and of power iteration need, and what else is known?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["qaoa-spiked-tensor.figure-1"]))
