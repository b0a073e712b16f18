"""Write a Python function to a file, and return the complaints about it."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.python_source import read
from gradcheck_cli.errors import InputError

WHERE = ("gradients", "python")

W = np.array([[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]])
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]])
POINT = Inputs({"w": W, "b": np.array([0.5, -0.5])}, X, np.array([1, 0]))

RIGHT = """
    import numpy as np

    def f(p, x, y):
        z = x @ p["w"].T + p["b"]
        delta = z - np.eye(2)[y]
        return 0.5 * (delta**2).sum(axis=1), {"w": delta.T @ x, "b": delta.sum(axis=0)}
    """


def complaints_about(source, inputs=POINT):
    with pytest.raises(InputError) as caught:
        read(source, inputs)
    assert {complaint.where for complaint in caught.value.complaints} == {WHERE}
    return caught.value.complaints


def refused(source, inputs=POINT):
    (complaint,) = complaints_about(source, inputs)
    return complaint.message
