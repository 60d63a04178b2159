"""Figure 2 of in-context learning of single-index targets: dimension d against dimension r."""

import sys

from theorysim.cli.script import main

QUESTION = "Does the risk of a pretrained model depend on r and not on d?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["single-index-icl.figure-2"]))
