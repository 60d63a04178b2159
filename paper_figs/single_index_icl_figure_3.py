"""Figure 3 of in-context learning of single-index targets: alignment in Stage I."""

import sys

from theorysim.cli.script import main

QUESTION = "How many tasks does one gradient step need to find the subspace, and do all dimensions follow one curve?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["single-index-icl.figure-3"]))
