"""Mean-field variational inference with the TAP free energy (Celentano, Fan, Lin, Mei, 2023, arXiv 2311.08442)."""
