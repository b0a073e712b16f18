"""Labels and targets, for every kind of loss, and those that are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.problem.data import Batch, one_target_per_output, read_arrays
from gradcheck_cli.spec.data import DataFile

MSE, CROSS_ENTROPY, HINGE = LOSSES["mse"], LOSSES["cross_entropy"], LOSSES["hinge"]
RNG = np.random.RandomState(0)
TARGET = ("data", "y")


def targets(y, outputs=4, loss=CROSS_ENTROPY, where=TARGET, first=0):
    y = np.asarray(y)
    return one_target_per_output(Batch(np.zeros((len(y), 1)), y, first), (outputs,), loss, where)


OF_CLASSES = [name for name, row in LOSSES.items() if row.target not in ("pairs", "nothing", "first vector")]


@pytest.mark.parametrize("dtype", ["i8", "u1", ">i4", "f8", "f2"])
@pytest.mark.parametrize("loss", OF_CLASSES)
def test_labels_become_one_hot_whatever_their_type(loss, dtype):
    target, labels = targets(np.array([2, 0, 3], dtype), loss=LOSSES[loss])
    np.testing.assert_array_equal(target, np.eye(4)[[2, 0, 3]])
    np.testing.assert_array_equal(labels, [2, 0, 3])


def test_true_and_false_are_labels():
    np.testing.assert_array_equal(targets(np.array([True, False]), outputs=2)[0], [[0, 1], [1, 0]])


@pytest.mark.parametrize("loss", [name for name in OF_CLASSES if LOSSES[name].target != "labels"])
def test_a_target_for_each_output_is_kept_unchanged(loss):
    y = RNG.rand(5, 4)
    target, labels = targets(y, loss=LOSSES[loss])
    np.testing.assert_array_equal(target, y)
    assert labels is None


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_a_single_output_takes_one_number_per_sample(shape):
    y = RNG.randn(*shape)
    target, labels = targets(y, outputs=1, loss=MSE)
    np.testing.assert_array_equal(target, y.reshape(5, 1))
    assert labels is None


@pytest.mark.parametrize("where", [("data", "y"), ("data", "file")])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 4, -1], "y[1] is 4, but there are 4 outputs: labels are 0 to 3"),
        ([0, -1, 4], "y[1] is -1, but there are 4 outputs: labels are 0 to 3"),
        (np.array([0, -128], "i1"), "y[1] is -128, but there are 4 outputs: labels are 0 to 3"),
        (np.array([0, -(2**63)]), "y[1] is -9223372036854775808, but there are 4 outputs: labels are 0 to 3"),
        (
            np.array([0, 2**64 - 1], "u8"),
            "y[1] is 18446744073709551615, but there are 4 outputs: labels are 0 to 3",
        ),
        ([0, 1e300], "y[1] is 1e+300, but there are 4 outputs: labels are 0 to 3"),
        (
            [0, 0.5],
            "y[1] is 0.5, not a label; labels [N], one whole number per sample, or targets [N, 4] are needed",
        ),
    ],
)
def test_an_invalid_label_is_refused_at_its_item(y, message, where):
    with pytest.raises(InputError) as caught:
        targets(y, where=where)
    (complaint,) = caught.value.complaints
    assert complaint.message == message
    assert complaint.where == ((*where, 1) if where == TARGET else where)


def test_a_wrong_label_of_a_slice_is_counted_from_the_beginning_of_the_file():
    with pytest.raises(InputError, match=r"y\[102\] is 9, but"):
        targets([0, 1, 9], first=100)


@pytest.mark.parametrize("shape", [(5, 1), (5, 3), (5, 0), (5, 4, 1), (5, 2, 2)])
@pytest.mark.parametrize("loss", OF_CLASSES)
def test_targets_of_another_shape_are_refused(loss, shape):
    needed = "labels [N], one whole number per sample,"
    if LOSSES[loss].target != "labels":
        needed += " or targets [N, 4]"
    with pytest.raises(InputError) as caught:
        targets(np.zeros(shape), loss=LOSSES[loss])
    assert caught.value.complaints[0].message == f"y has shape {list(shape)}; {needed} are needed"


@pytest.mark.parametrize("outputs", [1, 4])
def test_a_loss_over_labels_takes_no_targets(outputs):
    with pytest.raises(
        InputError, match=r"y has shape \[5, \d\]; labels \[N\], one whole number per sample, are"
    ):
        targets(np.zeros((5, outputs)), outputs=outputs, loss=HINGE)


def test_a_distribution_is_nowhere_negative():
    with pytest.raises(InputError, match="y holds negative numbers; this loss takes labels or probabilities"):
        targets([[0.5, 0.5, 0.5, -0.5]])
    assert targets([[0.5, 0.5, 0.5, -0.5]], loss=MSE)[0].min() == -0.5


@pytest.mark.parametrize(
    ("held", "said"),
    [(("X", "Y"), ("X", "Y")), (("images", "labels"), ("images", "labels")), ("ab", ("NAME", "NAME"))],
)
def test_help_for_other_array_names_is_the_key_to_set(held, said, tmp_path):
    np.savez(tmp_path / "b.npz", **{held[0]: np.zeros((3, 2)), held[1]: np.zeros(3)})
    with pytest.raises(InputError) as caught:
        read_arrays(DataFile(file=tmp_path / "b.npz"))
    assert [complaint.help for complaint in caught.value.complaints] == [
        f"under 'data', give its name: x: {said[0]}",
        f"under 'data', give its name: y: {said[1]}",
    ]


@pytest.mark.parametrize("y", [np.zeros(5), np.zeros((1, 5))])
def test_transposed_data_are_recognised(y, tmp_path):
    np.savez(tmp_path / "b.npz", x=np.zeros((2, 5)), y=y)
    with pytest.raises(InputError) as caught:
        read_arrays(DataFile(file=tmp_path / "b.npz"))
    (complaint,) = caught.value.complaints
    assert complaint.help == "'x' seems to be [features, samples]; store its .T, with one row per sample"


CONTRASTIVE, TRIPLET = LOSSES["contrastive"], LOSSES["triplet"]


@pytest.mark.parametrize("y", [[1, 0, 1], [True, False, True], [1.0, 0.0, 1.0]])
def test_pairs_are_alike_or_apart_for_all_outputs(y):
    target, labels = targets(y, loss=CONTRASTIVE)
    np.testing.assert_array_equal(target, np.outer([1, 0, 1], np.ones(4)))
    assert labels is None


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 2], "y[1] is 2, but pair labels are 1 (similar) or 0 (dissimilar)"),
        ([-1, 1], "y[0] is -1, but pair labels are 1 (similar) or 0 (dissimilar)"),
        (
            [0.5, 1],
            (
                "y[0] is 0.5, not a label; "
                "pair labels [N], 1 (similar) or 0 (dissimilar) for each sample, are needed"
            ),
        ),
        (
            [[1], [0]],
            "y has shape [2, 1]; pair labels [N], 1 (similar) or 0 (dissimilar) for each sample, are needed",
        ),
    ],
)
def test_other_pairs_are_refused(y, message):
    with pytest.raises(InputError) as caught:
        targets(y, loss=CONTRASTIVE)
    assert caught.value.complaints[0].message == message


GAUSSIAN = LOSSES["gaussian_nll"]


@pytest.mark.parametrize(("y", "outputs"), [([[1, 2], [3, 4]], 4), ([5, 6], 2), ([[5], [6]], 2)])
def test_targets_of_the_first_vector_are_repeated_for_each(y, outputs):
    target, labels = targets(y, outputs=outputs, loss=GAUSSIAN)
    np.testing.assert_array_equal(target, np.tile(np.reshape(y, (2, -1)), 2))
    assert labels is None


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 4), (5, 2, 2)])
def test_targets_of_another_shape_than_the_first_vector_are_refused(shape):
    with pytest.raises(InputError) as caught:
        targets(np.zeros(shape), loss=GAUSSIAN)
    needed = "targets [N, 2], one for each entry of 'mean', are needed"
    assert caught.value.complaints[0].message == f"y has shape {list(shape)}; {needed}"


@pytest.mark.parametrize("y", [[0, 7], [0.5, -3.0], [[1, 2], [3, 4]]])
@pytest.mark.parametrize("loss", ["triplet", "kl_gaussian"])
def test_losses_without_a_target_take_any_y(loss, y):
    target, labels = targets(y, loss=LOSSES[loss])
    assert not target.any()
    assert target.shape == (2, 4)
    assert labels is None


@pytest.mark.parametrize("ignored", [-100, -1, 2, 255])
@pytest.mark.parametrize("loss", ["cross_entropy", "nll"])
def test_ignored_labels_have_no_target(loss, ignored):
    target, labels = targets([0, ignored, 3], loss=replace(LOSSES[loss], ignored=(ignored,)))
    np.testing.assert_array_equal(target, np.eye(4)[[0, 1, 3]] * [[1], [0], [1]])
    np.testing.assert_array_equal(labels, [0, ignored, 3])


@pytest.mark.parametrize("loss", ["hinge", "mse", "kl_div"])
def test_other_losses_ignore_no_label(loss):
    with pytest.raises(InputError, match=r"y\[1\] is -100, but there are 4 outputs"):
        targets([0, -100], loss=LOSSES[loss])
