"""In-context learning of single-index targets (Oko, Song, Suzuki, Wu, NeurIPS 2024, arXiv 2411.02544)."""
