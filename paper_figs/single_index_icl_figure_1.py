"""Figure 1 of in-context learning of single-index targets: prompt lengths, pretrained or trained on the prompt."""

import sys

from theorysim.cli.script import main

QUESTION = "Do pretrained models need longer prompts in larger dimensions, as other learners do?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["single-index-icl.figure-1"]))
