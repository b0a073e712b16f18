"""A famous trap: the loss that a book prints, and the gradients that it trains with.

The network is `NeuralNetMLP` of Raschka, Liu and Mirjalili, Machine Learning with PyTorch and Scikit-Learn
(2022), ch. 11, as a function of its parameters. The loss is a mean over samples and outputs, but the
gradients are those of a mean over samples only. So every gradient is too large by a factor of 10, the number
of outputs. Nobody notices this in training, because it only amounts to a different learning rate.
"""

import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def int_to_onehot(y, num_labels):
    onehot = np.zeros((y.shape[0], num_labels))
    onehot[np.arange(y.shape[0]), y.astype(int)] = 1.0
    return onehot


def forward(p, x):
    a_h = sigmoid(x @ p["hidden1.weight"].T + p["hidden1.bias"])
    a_out = sigmoid(a_h @ p["output.weight"].T + p["output.bias"])
    return a_h, a_out


def backward(p, x, a_h, a_out, y_onehot):
    d_loss__d_a_out = 2.0 * (a_out - y_onehot) / y_onehot.shape[0]  # the mean is over the samples only
    d_a_out__d_z_out = a_out * (1.0 - a_out)
    delta_out = d_loss__d_a_out * d_a_out__d_z_out

    d_loss__d_a_h = delta_out @ p["output.weight"]
    d_a_h__d_z_h = a_h * (1.0 - a_h)
    delta_h = d_loss__d_a_h * d_a_h__d_z_h

    return {
        "hidden1.weight": delta_h.T @ x,
        "hidden1.bias": delta_h.sum(axis=0),
        "output.weight": delta_out.T @ a_h,
        "output.bias": delta_out.sum(axis=0),
    }


def loss_and_gradients(parameters, x, y):
    a_h, a_out = forward(parameters, x)
    y_onehot = int_to_onehot(y, a_out.shape[1])
    squared = (y_onehot - a_out) ** 2
    loss = squared.sum(axis=1) / squared.size  # adds up to np.mean(squared), as the book prints it
    return loss, backward(parameters, x, a_h, a_out, y_onehot)
