"""Write a torch module to a file, and return the complaint about it."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.torch_module import read
from gradcheck_cli.errors import InputError

WHERE = ("gradients", "torch")

X = np.random.RandomState(0).randn(5, 3)
Y = np.array([0, 1, 1, 0, 1])
DATA = Inputs(None, X, Y)
HEAD = """
import sys; import torch
from torch import nn

torch.manual_seed(0)
cross_entropy = nn.CrossEntropyLoss()

"""
LINEAR = "def build(): return nn.Linear(3, 2), cross_entropy"
FUNCTION = """
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, order=None):
            ctx.save_for_backward(x, w)
            return x @ w

        @staticmethod
        def backward(ctx, grad):
            x, w = ctx.saved_tensors
            return grad @ w.T, FACTOR * x.T @ grad, None
    """


def refused(source, inputs=DATA):
    with pytest.raises(InputError) as caught:
        read(source, inputs)
    (complaint,) = caught.value.complaints
    assert complaint.where == WHERE
    return complaint.message
