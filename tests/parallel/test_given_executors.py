"""A function, a layer and mistakes are shared out by an executor that was passed in."""

from __future__ import annotations

from functools import partial
from threading import Lock

import numpy as np
import pytest
from here import Here

from gradcheck_cli import InputError, check, check_gradients, check_layer

X = np.linspace(-1.0, 1.0, 5)


def waves(w):
    return np.sin(w * X), np.cos(w * X) * X


def test_a_function_is_checked_by_a_given_executor(long_work):
    executor = Here()
    assert check_gradients(waves, X + 2, executor=executor).passed
    assert executor.calls > 0


def test_a_function_that_cannot_be_sent_is_refused(long_work):
    with pytest.raises(InputError, match="cannot be sent to other processes"):
        check_gradients(partial(waves_of, Lock()), X + 2, executor=Here())


def waves_of(lock, w):
    return waves(w)


def forward(x, w):
    return x @ w, (x, w)


def backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout


def test_a_layer_is_checked_by_a_given_executor(long_work):
    executor = Here()
    assert check_layer(
        forward, backward, {"x": np.ones((2, 3)), "w": np.ones((3, 2))}, executor=executor
    ).passed
    assert executor.calls > 0


def test_a_network_is_checked_on_this_machine(configs):
    executor = Here()
    assert check(configs / "output_layer.yaml", executor=executor).passed
    assert executor.calls == 0


def test_mistakes_are_shared_out_by_an_executor(configs):
    from gradcheck_cli import load_spec
    from gradcheck_cli.mutate.mutate import mutate

    spec, executor = load_spec(configs / "output_layer.yaml"), Here()
    assert mutate(spec, sample=3, executor=executor) == mutate(spec, sample=3)
    assert executor.calls > 0
