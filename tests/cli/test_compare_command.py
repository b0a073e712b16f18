"""`gradcheck compare` compares two sources of the same gradients with each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

RNG = np.random.default_rng(17)
GRADIENTS = {"w": RNG.normal(size=(5, 4)), "b": RNG.normal(size=5)}

NETWORK = """
network: {inputs: 4, layers: [{units: 3, activation: tanh}, {units: 2}], loss: mse}
parameters: {init: normal, scale: 0.5, seed: 1}
data: {x: [[0.5, -1.0, 0.3, 0.8], [-0.2, 0.4, 0.9, -0.6]], y: [[1.0, 0.0], [0.0, 1.0]]}
"""


@pytest.fixture
def files(folder):
    def write(**sources):
        for name, arrays in sources.items():
            np.savez(f"{name}.npz", **arrays)

    write(a=GRADIENTS)
    return write


def changed(**arrays):
    return {**GRADIENTS, **arrays}


@pytest.mark.parametrize(
    "other",
    [
        GRADIENTS,
        {name: array.astype(np.float32) for name, array in GRADIENTS.items()},
        {name: array * (1.0 + 1e-9) for name, array in GRADIENTS.items()},
        {name: array + 1e-15 for name, array in GRADIENTS.items()},
        changed(loss=np.array(3.0)),
    ],
    ids=["the same", "float32", "nearly", "another order of sums", "with its loss"],
)
def test_the_same_gradients_agree(other, files, gradcheck):
    files(b=other)
    for pair in (("a.npz", "b.npz"), ("b.npz", "a.npz")):
        assert gradcheck("compare", *pair).code == 0


def off(array, index, by):
    array = array.copy()
    array[index] *= by
    return array


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {name: array / 4 for name, array in GRADIENTS.items()},
            "In every tensor, a.npz is 4 times b.npz: perhaps a.npz adds up 4 ranks",
        ),
        (
            {name: array * 8 for name, array in GRADIENTS.items()},
            "In every tensor, b.npz is 8 times a.npz: perhaps b.npz adds up 8 ranks",
        ),
        (changed(w=np.float32(GRADIENTS["w"] / 2)), "In w, a.npz is 2 times b.npz"),
        (changed(w=-3 * GRADIENTS["w"]), "In w, b.npz is 3 times a.npz with the opposite sign"),
        (changed(w=GRADIENTS["w"][::-1]), "The rows of w's gradient are in the wrong order"),
        (changed(b=off(GRADIENTS["b"], 2, 1.001)), "in b; the worst, b[2]"),
        (changed(b=off(GRADIENTS["b"], 2, np.nan)), "b[2], is nan"),
        (changed(w=0 * GRADIENTS["w"]), "The gradient of w is 0"),
    ],
)
def test_a_difference_is_wrong_and_its_form_is_named(other, said, files, gradcheck):
    files(b=other)
    done = gradcheck("compare", "b.npz", "a.npz")
    assert done.code == 1
    assert said in " ".join(done.out.split())


RANKS = {"w": RNG.normal(size=(4, 5, 3)), "b": RNG.normal(size=(4, 5)), "unused": np.zeros((4, 2))}
"""The gradients that each of 4 ranks computes."""


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_ranks_that_are_added_up_instead_of_averaged_are_named(dtype, suffix, folder, gradcheck):
    save = pytest.importorskip("safetensors.numpy").save_file if suffix == "safetensors" else None
    for name, reduced in (("sum", np.sum), ("mean", np.mean)):
        arrays = {key: reduced(np.asarray(a, dtype=dtype), axis=0) for key, a in RANKS.items()}
        if save:
            save(arrays, f"{name}.safetensors")
        else:
            np.savez(f"{name}.npz", **arrays)
    done = gradcheck("compare", f"sum.{suffix}", f"mean.{suffix}")
    assert done.code == 1
    assert f"In every tensor, sum.{suffix} is 4 times mean.{suffix}" in " ".join(done.out.split())
    assert f"perhaps sum.{suffix} adds up 4 ranks" in " ".join(done.out.split())


def test_ranks_are_named_from_specs_as_well(files, gradcheck):
    gradients = right(gradcheck)
    files(added={name: 2.0 * array for name, array in gradients.items()})
    Path("added.yaml").write_text(f"{NETWORK}gradients: {{file: added.npz}}\n")
    done = gradcheck("compare", "added.yaml", "net.yaml")
    said = " ".join(done.out.split())
    assert "In every tensor, added.yaml is 2 times net.yaml: perhaps added.yaml adds up 2 ranks" in said
    assert "finite differences of the loss in added.yaml disagree with the gradients in added.yaml" in said


def test_a_ratio_that_is_no_whole_number_is_not_one_of_ranks(files, gradcheck):
    files(b={name: 2.5 * array for name, array in GRADIENTS.items()})
    done = gradcheck("compare", "b.npz", "a.npz")
    assert done.code == 1
    assert "ranks" not in done.out


def test_what_is_not_a_number_in_the_reference_cannot_be_decided(files, gradcheck):
    files(b=changed(b=off(GRADIENTS["b"], 2, np.nan)))
    assert gradcheck("compare", "a.npz", "b.npz").code in (1, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.npz", "gone.npz"), "there is no file 'gone.npz'"),
        (("a.npz", "other.npz"), "other.npz has no w, which a.npz has"),
        (("a.npz", "long.npz"), "'b' has shape [5] in a.npz, but [6] in long.npz"),
        (("a.npz", "turned.npz"), "in turned.npz: turned.npz has the transpose, with the same values"),
        (("a.npz", "turned.npz"), "save the array's .T in turned.npz instead"),
        (
            ("a.npz", "other_turned.npz"),
            "if one of them is transposed, save the array's .T in other_turned.npz",
        ),
        (("a.npz", "text.npz"), "array 'b' of text.npz has dtype <U1; real numbers are needed"),
        (("a.npz", "a.npz", "--only", "v"), "'v' matches no parameter"),
        (("a.npz", "a.npz", "--name", "w"), "--name must be THIS=THAT, not 'w'"),
        (("a.npz", "a.npz", "--name", "v=w"), "a.npz has no 'v'"),
    ],
)
def test_sources_that_do_not_fit_are_refused(arguments, said, files, gradcheck):
    files(
        other={"W": GRADIENTS["w"], "b": GRADIENTS["b"]},
        long=changed(b=np.ones(6)),
        turned=changed(w=GRADIENTS["w"].T),
        other_turned=changed(w=2.5 + GRADIENTS["w"].T),
        text=changed(b=np.array(["x"])),
    )
    done = gradcheck("compare", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_names_are_paired_and_selected(files, gradcheck):
    files(other={"W": GRADIENTS["w"], "b": GRADIENTS["b"] + 1.0})
    assert gradcheck("compare", "a.npz", "other.npz", "--name", "w=W").code == 1
    assert gradcheck("compare", "a.npz", "other.npz", "--name", "w=W", "--only", "W").code == 0


def right(gradcheck):
    Path("net.yaml").write_text(NETWORK)
    gradcheck("dump", "net.yaml", "-o", "case")
    return {
        file.stem.removeprefix("numerical."): np.load(file) for file in Path("case").glob("numerical.*.npy")
    }


def test_finite_differences_say_which_one_is_wrong(files, gradcheck):
    gradients = right(gradcheck)
    files(good=gradients, bad={**gradients, "output.bias": 2.0 * gradients["output.bias"]})
    assert gradcheck("compare", "good.npz", "net.yaml").code == 0
    done = gradcheck("compare", "bad.npz", "net.yaml")
    assert done.code == 1
    assert "finite differences of the loss in net.yaml agree with the gradients in net.yaml" in done.out
    Path("bad.yaml").write_text(f"{NETWORK}gradients: {{file: bad.npz}}\n")
    done = gradcheck("compare", "good.npz", "bad.yaml")
    assert done.code == 1
    assert "finite differences of the loss in bad.yaml disagree with the gradients in bad.yaml" in done.out


def test_the_formats_are_those_of_check(files, gradcheck):
    files(b=changed(w=2.0 * GRADIENTS["w"]))
    (report,) = json.loads(gradcheck("compare", "b.npz", "a.npz", "--format", "json").out)["specs"]
    assert (report["against"], report["differences"], report["verdict"]) == ("a.npz", "compared", "wrong")
    for format in ("junit", "github", "markdown", "html"):
        done = gradcheck("compare", "b.npz", "a.npz", "--format", format)
        assert done.code == 1
        assert "a.npz" in done.out
        assert "finite differences give" not in done.out


def test_code_is_refused_if_it_is_not_allowed(files, gradcheck):
    Path("net.py").write_text(
        "def f(p): return (p['b']**2).sum(), {'b': 2 * p['b']}\nparameters = {'b': [1.0]}\n"
    )
    Path("code.yaml").write_text("gradients: {python: net.py:f}\n")
    files(b={"b": np.array([2.0])})
    assert gradcheck("compare", "code.yaml", "b.npz").code == 0
    done = gradcheck("compare", "code.yaml", "b.npz", "--no-code")
    assert done.code == 2
    assert "--no-code forbids it" in done.err
