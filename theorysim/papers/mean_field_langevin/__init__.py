"""Propagation of chaos for mean-field Langevin dynamics (Nitanda, Lee, Tan, Sakaguchi, Suzuki, ICML 2025, arXiv 2502.05784)."""
