"""The memory of a check is free as soon as nobody needs the check any more."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import subject_of

CONV = {"conv2d": 2, "kernel": 3, "activation": "relu", "batch_norm": True}
NETWORKS = {
    "dense": {"inputs": 4, "layers": [{"units": 3, "activation": "tanh"}, {"units": 2}]},
    "on kinks": {"inputs": 4, "layers": [{"units": 3, "activation": "relu"}, {"units": 2}]},
    "convolution": {"inputs": [1, 4, 4], "layers": [CONV, {"max_pool2d": 2}, "flatten", {"units": 2}]},
    "recurrent": {"inputs": [3, 2], "layers": [{"rnn": 3}, {"select": -1}, {"units": 2}]},
    "attention": {"inputs": [3, 4], "layers": [{"attention": 2}, "layer_norm", "flatten", {"units": 2}]},
}


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("differences", ["units", "literal"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_checked_network_needs_no_garbage_collector_to_be_freed(kind, differences):
    spec = Spec.model_validate(
        {
            "network": {**NETWORKS[kind], "loss": "mse"},
            "parameters": {"init": "zeros" if kind == "on kinks" else "normal", "seed": 5},
            "data": {"synthetic": "normal", "samples": 3, "seed": 6},
            "check": {"inputs": True, "differences": differences},
        }
    )
    subject = subject_of(spec)
    subject.check(spec.check)
    freed = [weakref.ref(subject.objective), weakref.ref(subject.problem.objective)]
    del subject
    assert [each() for each in freed] == [None, None]
