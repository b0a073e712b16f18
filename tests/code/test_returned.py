from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck_cli.code.returned import plain


class OnDevice:
    """Behaves as a torch tensor on a GPU: numpy cannot read it before `cpu()`."""

    dtype = "torch.float32"

    def __init__(self, numbers: list[float], device: str = "cuda:0") -> None:
        self.numbers = numbers
        self.device = device

    def detach(self) -> OnDevice:
        return self

    resolve_conj = resolve_neg = detach

    def cpu(self) -> OnDevice:
        return OnDevice(self.numbers, "cpu")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self.device != "cpu":
            raise TypeError(f"can't convert {self.device} device type tensor to numpy")
        return np.array(self.numbers, dtype)


def test_a_tensor_on_a_device_is_read():
    assert plain(OnDevice([1.0, 2.0])).tolist() == [1.0, 2.0]


def test_a_tensor_that_requires_a_gradient_is_read():
    torch = pytest.importorskip("torch")
    assert plain(torch.ones(2, requires_grad=True)).tolist() == [1.0, 1.0]
    assert plain(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
