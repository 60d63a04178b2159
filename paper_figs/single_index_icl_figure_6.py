"""Figure 6 of in-context learning of single-index targets: the staircase of kernel regression."""

import sys

from theorysim.cli.script import main

QUESTION = "Does kernel ridge regression on one prompt learn degree k only at n = d^k examples?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["single-index-icl.figure-6"]))
