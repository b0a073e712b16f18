"""Parameters in nested containers are named by their paths."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from gradcheck_cli import InputError, WrongGradientError, check, check_gradients, load_spec
from gradcheck_cli.code.nested import ALONE, Nested


class Layer(NamedTuple):
    w: Any
    b: Any


@dataclass(frozen=True)
class Net:
    layers: list
    scale: Any
    activation: str = "tanh"


RNG = np.random.default_rng(4)
NET = Net(
    [Layer(RNG.normal(size=(3, 2)), RNG.normal(size=3)), Layer(RNG.normal(size=(1, 3)), RNG.normal(size=1))],
    np.float64(1.5),
)
X = RNG.normal(size=(4, 2))
PATHS = ["layers.0.w", "layers.0.b", "layers.1.w", "layers.1.b", "scale"]


def loss_and_gradients(net, x, y, factor=1.0):
    assert net.activation == "tanh"
    first, second = net.layers
    h = np.tanh(x @ first.w.T + first.b)
    z = h @ second.w.T + second.b
    out = z * net.scale
    dz = out * net.scale
    dh = dz @ second.w * (1.0 - h**2)
    layers = [Layer(dh.T @ x, dh.sum(axis=0)), Layer(dz.T @ h, factor * dz.sum(axis=0))]
    return 0.5 * (out**2).sum(axis=1), Net(layers, (out * z).sum())


def test_dataclasses_lists_and_named_tuples_are_checked_by_path():
    report = check_gradients(loss_and_gradients, NET, X)
    assert report.passed
    assert [c.name for c in report.comparisons] == PATHS


def test_a_wrong_entry_is_named_by_its_path():
    with pytest.raises(WrongGradientError, match=r"in layers\.1\.b; the worst, layers\.1\.b\[0\]"):
        check_gradients(lambda net, x, y: loss_and_gradients(net, x, y, 1.01), NET, X)


@pytest.mark.parametrize(
    ("example", "names"),
    [
        (np.ones(3), [ALONE]),
        ([1.0, 2.0], [ALONE]),
        ([np.ones(3), np.ones(2)], ["0", "1"]),
        ([[1.0, 2.0], [3.0]], ["0", "1"]),
        ({"a": [1.0, 2.0], "b": {"c": 3.0}}, ["a", "b.c"]),
        ({"a": np.ones(2), "b": None}, ["a"]),
        (OrderedDict(b=(np.ones(1), {"x": 1.0})), ["b.0", "b.1.x"]),
        (NET, PATHS),
    ],
    ids=str,
)
def test_names_are_paths_and_the_nesting_is_restored(example, names):
    nested = Nested(example)
    assert list(nested.arrays) == names
    again = nested.filled(nested.arrays)
    assert type(again) is type(example)
    assert list(Nested(again).arrays) == names
    assert list(nested.by_path(again)) == names


def squares(p):
    return (p["a"] ** 2).sum(), {"a": 2.0 * p["a"], "b": None}


def test_a_name_may_contain_a_dot():
    example = {"layer.w": np.ones(2), "rest": {"b": np.ones(3)}}
    assert list(Nested(example).by_path(example)) == ["layer.w", "rest.b"]


def test_none_is_a_gradient_of_zero():
    report = check_gradients(squares, {"a": np.ones(2), "b": {"c": np.ones(3)}}, allow_undecided=True)
    assert report.wrong == 0
    with pytest.raises(WrongGradientError):
        check_gradients(
            lambda p: (squares(p)[0] + p["b"]["c"].sum(), squares(p)[1]), {"a": np.ones(2), "b": {"c": [3.0]}}
        )


def test_gradients_may_be_named_by_path():
    def function(p):
        return (p["a"]["w"] ** 2).sum(), {"a.w": 2.0 * p["a"]["w"]}

    assert check_gradients(function, {"a": {"w": np.ones(2)}}).passed


@pytest.mark.parametrize(
    ("gradients", "said"),
    [
        ({"a": np.ones(2)}, "there is no gradient for 'b.c', whose shape is [3]"),
        ({"a": np.ones(2), "b": {"c": np.ones(3)}, "d": 1.0}, "'d' is not a parameter"),
        (None, "returns None as its gradients"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(gradients, said):
    with pytest.raises(InputError) as caught:
        check_gradients(lambda p: (p["a"].sum(), gradients), {"a": np.ones(2), "b": {"c": np.ones(3)}})
    assert said in str(caught.value)


def test_the_file_of_a_spec_may_nest_its_parameters(tmp_path):
    (tmp_path / "net.py").write_text(
        "import numpy as np\n"
        "parameters = {'hidden': {'w': np.array([0.5, -1.0])}, 'out': [np.array([2.0]), 1.0]}\n"
        "def f(p):\n"
        "    w, (v, c) = p['hidden']['w'], p['out']\n"
        "    dw = {'w': 2 * w * v}\n"
        "    return (w**2).sum() * v[0] + c**2, {'hidden': dw, 'out': [[(w**2).sum()], 2 * c]}\n"
    )
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}\n")
    report = check(load_spec(tmp_path / "net.yaml"))
    assert report.passed
    assert [c.name for c in report.comparisons] == ["hidden.w", "out.0", "out.1"]


def test_a_class_that_is_registered_with_jax_is_taken_apart():
    jax = pytest.importorskip("jax")

    @jax.tree_util.register_pytree_node_class
    class Pair:
        def __init__(self, a, b):
            self.a, self.b = a, b

        def tree_flatten(self):
            return (self.a, self.b), None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls(*children)

    report = check_gradients(
        lambda p: ((p["pair"].a * p["pair"].b).sum(), {"pair": Pair(p["pair"].b, p["pair"].a)}),
        {"pair": Pair(np.ones(3), np.arange(1.0, 4.0))},
    )
    assert [c.name for c in report.comparisons] == ["pair.0", "pair.1"]
