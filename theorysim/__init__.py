"""theorysim: a wind tunnel for learning theory.

Theorems are executable claims: a prediction (closed form, quadrature) and a measurement (a jitted simulation) that share no
code meet in a judge with stated error rates. Importing this package changes no global JAX setting.
"""

__version__ = "0.1.0"
