"""Predictions for in-context learning of single-index functions by one layer of linear attention.

Oko, Song, Suzuki, Wu, NeurIPS 2024, arXiv 2411.02544. The paper's statements are bounds with unspecified constants; the
closed forms here, constants included, are derived here unless a docstring names a source.

Data: x ~ N(0, I_d), y = f(x) + s, f(x) = sigma(<beta, x>), E s = 0, E s^2 = tau^2. Every prompt draws beta uniformly from
the unit sphere of a fixed r-dimensional subspace S, and the link sigma = sum_k (c_k/k!) He_k from its own law; its
C_kl = E c_k c_l are all that a predictor linear in the labels depends on. Pi is the projection on S, a unit neuron w has
rho = |Pi w|. Model: f_hat = <Gamma psi, phi(x)>, psi = (1/N) sum_i y_i phi(x_i), phi(x) = relu(W x + b).

    hermite            Hermite coefficients of ReLU and of any function
    links              the law of the link
    zonal              angular decomposition of He_k(<beta, x>), prior kernel, label second moment
    stage_one          one gradient step on the MLP: mean, second moment, alignment, number of tasks
    attention_floor    least risk of every one-layer linear attention
    kernel_regression  learning curves of kernel ridge regression and of the linear optimum
    prompt_only        what can be learned from one prompt: linear optimum, Bayes, correlational queries

Risks are excess risks E(f_hat - f)^2, against the noiseless f. The model has no intercept: without examples its risk is
v = E f^2.
"""
