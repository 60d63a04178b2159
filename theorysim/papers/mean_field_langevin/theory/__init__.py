"""Predictions for mean-field Langevin dynamics, in float64 NumPy and SciPy.

mean_field: models, the mean-field optimum with its certificate, 1/N constants, bounds. finite_n: the exact law of N neurons.
dynamics: the chain of noisy gradient descent with its fluctuations, the Fokker-Planck flow, relaxation (d = 1). gauss: closed forms
of the linear-Gaussian model.
"""
