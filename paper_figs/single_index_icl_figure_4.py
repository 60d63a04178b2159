"""Figure 4 of in-context learning of single-index targets: what is possible with and without the subspace."""

import sys

from theorysim.cli.script import main

QUESTION = "How far is a pretrained model from what is possible with, and without, the subspace?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["single-index-icl.figure-4"]))
