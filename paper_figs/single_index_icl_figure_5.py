"""Figure 5 of in-context learning of single-index targets: rates."""

import sys

from theorysim.cli.script import main

QUESTION = "How do prompt length and number of tasks grow with the dimensions r and d?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["single-index-icl.figure-5"]))
