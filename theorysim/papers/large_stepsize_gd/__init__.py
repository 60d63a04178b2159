"""Large-stepsize gradient descent on the logistic loss (Cai, Wu, Mei, Lindsey, Bartlett, NeurIPS 2024, arXiv 2406.08654)."""
