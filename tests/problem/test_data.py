"""Sources of batches, and batches that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from build import units_for

from gradcheck_cli.errors import InputError
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.problem.data import Batch, one_target_per_output, read_batch
from gradcheck_cli.problem.synthetic import Needed
from gradcheck_cli.spec.data import DataFile, InlineData, Rescale, SyntheticData

MSE, CROSS_ENTROPY, HINGE = LOSSES["mse"], LOSSES["cross_entropy"], LOSSES["hinge"]
RNG = np.random.RandomState(0)
X, LABELS = RNG.randn(10, 3), RNG.randint(4, size=10)
TARGET = ("data", "y")


def inline(x, y, rescale=None) -> InlineData:
    return InlineData.model_validate({"x": x, "y": y, "rescale": rescale})


def read(data, inputs=3, outputs=4, loss=CROSS_ENTROPY) -> Batch:
    return read_batch(data, Needed((inputs,), (outputs,), loss))


def refused(data, **how):
    with pytest.raises(InputError) as caught:
        read(data, **how)
    return [(complaint.message, complaint.where) for complaint in caught.value.complaints]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=X, y=LABELS)
    return path


def saved(file, **arrays) -> DataFile:
    np.savez(file, **arrays)
    return DataFile(file=file)


# --- inline ----------------------------------------------------------------------------------------------


def test_inline_rows_are_the_batch():
    batch = read(inline([[1, 2, 3], [4, 5, 6.5]], [0, 3]))
    np.testing.assert_array_equal(batch.x, [[1, 2, 3], [4, 5, 6.5]])
    np.testing.assert_array_equal(batch.y, [0, 3])
    assert (batch.x.dtype, batch.first) == (np.float64, 0)


def test_ragged_rows_are_all_named_where_they_stand():
    assert refused(inline([[1, 2, 3], [1, 2], [1, 2, 3, 4]], [[1], [1, 2], [1]])) == [
        ("row 1 of x has 2 numbers, but row 0 has 3", ("data", "x", 1)),
        ("row 2 of x has 4 numbers, but row 0 has 3", ("data", "x", 2)),
        ("row 1 of y has 2 numbers, but row 0 has 1", ("data", "y", 1)),
    ]


def test_rows_of_another_width_than_the_network_are_refused():
    assert refused(inline([[1, 2], [3, 4]], [0, 0])) == [
        ("x has shape [2, 2]; 3 inputs need [samples, 3]", ("data", "x"))
    ]


def test_as_many_targets_as_samples_are_needed():
    assert refused(inline([[1, 2, 3]], [0, 1])) == [("x has 1 samples, but y has 2", ("data", "x"))]


# --- from a file -----------------------------------------------------------------------------------------


def test_a_file_is_read_whole(file):
    batch = read(DataFile(file=file))
    np.testing.assert_array_equal(batch.x, X)
    np.testing.assert_array_equal(batch.y, LABELS)


@pytest.mark.parametrize(
    ("start", "batch", "which"),
    [
        (0, 4, slice(0, 4)),
        (3, 4, slice(3, 7)),
        (6, None, slice(6, 10)),
        (9, 1, slice(9, 10)),
        (0, 10, slice(None)),
    ],
)
def test_a_slice_of_a_file_is_read(file, start, batch, which):
    read_slice = read(DataFile(file=file, start=start, batch=batch))
    np.testing.assert_array_equal(read_slice.x, X[which])
    np.testing.assert_array_equal(read_slice.y, LABELS[which])


@pytest.mark.parametrize(
    ("start", "batch", "message", "key"),
    [
        (0, 11, "d.npz has 10 samples; samples 0 to 10 were requested", "batch"),
        (8, 3, "d.npz has 10 samples; samples 8 to 10 were requested", "batch"),
        (10, None, "d.npz has 10 samples, so start is at most 9", "start"),
        (2**62, 1, "d.npz has 10 samples, so start is at most 9", "start"),
    ],
)
def test_a_missing_slice_is_refused(file, start, batch, message, key):
    assert refused(DataFile(file=file, start=start, batch=batch)) == [(message, ("data", key))]


def test_arrays_may_have_other_names(file):
    np.savez(file, images=X, labels=LABELS)
    np.testing.assert_array_equal(read(DataFile(file=file, x="images", y="labels")).x, X)


def test_a_missing_array_is_reported_where_it_is_named(file):
    np.savez(file, images=X, labels=LABELS)
    assert refused(DataFile(file=file, x="image")) == [
        ("d.npz has no array 'image'; it holds images, labels", ("data", "x")),
        ("d.npz has no array 'y'; it holds images, labels", ("data", "file")),
    ]


def test_images_are_flattened(file):
    images = RNG.randint(256, size=(5, 2, 3, 1)).astype(np.uint8)
    batch = read(saved(file, x=images, y=LABELS[:5]), inputs=6)
    np.testing.assert_array_equal(batch.x, images.reshape(5, 6))
    assert batch.x.dtype == np.float64


def test_a_list_of_numbers_is_one_input_per_sample(file):
    assert read(saved(file, x=np.arange(10), y=LABELS), inputs=1).x.shape == (10, 1)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "g", "u1", ">i2", "?"])
def test_x_of_any_type_becomes_float64(file, dtype):
    x = (X > 0).astype(dtype)
    batch = read(saved(file, x=x, y=LABELS))
    assert batch.x.dtype == np.float64
    assert batch.x.dtype.isnative
    np.testing.assert_array_equal(batch.x, X > 0)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 5)), LABELS[:3], "x has shape [3, 5]; 3 inputs need [samples, 3]"),
        (np.zeros((3, 8, 8)), LABELS[:3], "x has shape [3, 64]; 3 inputs need [samples, 3]"),
        (np.zeros((3, 0)), LABELS[:3], "x has shape [3, 0]; 3 inputs need [samples, 3]"),
        (X, LABELS[:9], "'x' has 10 samples, but 'y' has 9"),
        (np.zeros((0, 3)), LABELS[:0], "there are no samples in d.npz"),
        (np.float64(3), LABELS, "array 'x' of d.npz is a single number, not a batch"),
        (X, np.int64(3), "array 'y' of d.npz is a single number, not a batch"),
    ],
)
def test_arrays_that_are_not_a_batch_are_refused(file, x, y, message):
    assert refused(saved(file, x=x, y=y)) == [(message, ("data", "file"))]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named_by_its_place_in_the_file(file, number):
    x, y = X.copy(), LABELS.astype(float)
    x[7, 2] = number
    assert refused(saved(file, x=x, y=y).model_copy(update={"start": 4})) == [
        (f"x[7, 2] is {number}; finite numbers are needed", ("data", "file"))
    ]
    y[5] = number
    assert refused(saved(file, x=X, y=y).model_copy(update={"start": 4})) == [
        (f"y[5] is {number}; finite numbers are needed", ("data", "file"))
    ]


def test_numbers_outside_the_batch_are_not_looked_at(file):
    x = X.copy()
    x[7, 2] = np.nan
    assert len(read(saved(file, x=x, y=LABELS).model_copy(update={"batch": 7})).x) == 7


@pytest.mark.skipif(np.finfo("g").max == np.finfo("d").max, reason="long double is double here")
def test_an_extended_number_beyond_float64_is_not_finite(file):
    huge = np.full((10, 3), np.longdouble("1e300")) ** 2
    assert refused(saved(file, x=huge, y=LABELS))[0][0] == "x[0, 0] is inf; finite numbers are needed"
    assert refused(saved(file, x=X, y=huge[:, 0]))[0][0] == "y[0] is inf; finite numbers are needed"


def test_a_batch_beyond_the_limit_is_refused_before_it_is_widened(file, monkeypatch):
    monkeypatch.setattr("gradcheck_cli.problem.data.MAX_NUMBERS", 29)
    assert refused(DataFile(file=file)) == [
        ("a batch of 30 numbers is over the limit of 29", ("data", "batch"))
    ]
    assert len(read(DataFile(file=file, batch=9)).x) == 9


# --- rescaled --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((0, 255), (-1, 1), [-1.0, 0.0, 1.0]),
        ((0, 255), (0, 1), [0.0, 0.5, 1.0]),
        ((255, 0), (0, 1), [1.0, 0.5, 0.0]),
        ((0, 1), (0, 2), [0.0, 255.0, 510.0]),
    ],
)
def test_rescaling_takes_one_interval_to_the_other(file, source, target, expected):
    rescale = Rescale(**{"from": source, "to": target})
    pixels = np.array([[0, 127.5, 255]])
    of_file = read(saved(file, x=pixels, y=LABELS[:1]).model_copy(update={"rescale": rescale}))
    np.testing.assert_allclose(of_file.x, [expected], rtol=1e-15, atol=1e-15)
    np.testing.assert_array_equal(read(inline(pixels.tolist(), [0], rescale)).x, of_file.x)


@pytest.mark.parametrize(
    ("source", "target"), [((0, 1), (0, 1e308)), ((-1e308, 1e308), (0, 1e308)), ((0, 5e-324), (0, 1))]
)
def test_rescaling_beyond_float64_is_refused(source, target):
    rescale = {"from": source, "to": target}
    assert refused(inline([[1e3, 1, 1]], [0], rescale)) == [
        ("x is not finite after rescaling", ("data", "rescale"))
    ]


# --- synthetic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("synthetic", ["normal", "uniform"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outputs", [1, 4])
def test_synthetic_data_suits_every_loss_and_its_seed_is_all_it_depends_on(synthetic, loss, outputs):
    outputs = units_for(loss, outputs)

    def batch(seed):
        data = SyntheticData(synthetic=synthetic, samples=200, scale=3.0, seed=seed)
        return read(data, outputs=outputs, loss=LOSSES[loss])

    first, again, other = batch(1), batch(1), batch(2)
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.y, again.y)
    assert (first.x != other.x).all()
    target, _ = one_target_per_output(first, (outputs,), LOSSES[loss], TARGET)
    assert target.shape == (200, outputs)
    # Every output has a target, or every sample a label, unless y is ignored.
    assert np.count_nonzero(target.any(axis=0)) == (0 if LOSSES[loss].target == "nothing" else outputs)


def test_synthetic_samples_are_spread_as_they_say():
    uniform = read(SyntheticData(synthetic="uniform", samples=2000, scale=3.0)).x
    normal = read(SyntheticData(synthetic="normal", samples=2000, scale=3.0)).x
    assert 2.9 < np.abs(uniform).max() <= 3.0
    assert uniform.std() == pytest.approx(3 / np.sqrt(3), rel=0.05)
    assert normal.std() == pytest.approx(3, rel=0.05)


def test_synthetic_samples_never_change():
    """RandomState's stream is frozen, and so are the specs that rely on it."""
    batch = read(SyntheticData(synthetic="normal", samples=2, seed=123))
    np.testing.assert_allclose(batch.x[0], [-1.0856306, 0.99734545, 0.2829785], rtol=1e-7)


def test_an_absurd_number_of_samples_is_refused_before_they_are_drawn():
    assert refused(SyntheticData(synthetic="normal", samples=1_000_000), inputs=1_000_000) == [
        ("1,000,000 samples of 1,000,000 numbers are too many", ("data", "samples"))
    ]


def test_samples_scaled_beyond_float64_are_refused():
    ((message, where),) = refused(SyntheticData(synthetic="normal", scale=1.7e308, seed=1))
    assert message.endswith("inf; finite numbers are needed")
    assert where == ("data", "scale")
