"""QAOA for the spiked tensor model (Zhou, Basso, Mei, NeurIPS 2024, arXiv 2402.19456)."""
