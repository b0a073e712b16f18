"""`gradcheck dump` writes a problem to files, for code in any language."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from build import right_gradients, spec_of

from gradcheck_cli import cli
from gradcheck_cli import dump as module
from gradcheck_cli.dump import dump, write
from gradcheck_cli.errors import InputError
from gradcheck_cli.files.output import Output
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.file import load_spec
from gradcheck_cli.spec.gradients import GradientFile

SPEC = spec_of((3, "tanh"), (2, "sigmoid"), samples=5)
NAMES = {"fc1.weight": "hidden1.weight", "W2": "output.weight"}

TEXT = """\
network:
  inputs: 4
  layers:
    - {units: 3, activation: tanh}
    - {units: 2, activation: sigmoid}
  loss: mse
data: {synthetic: normal, samples: 5}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "net.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gradcheck(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    return left.value.code


def with_gradients(**options):
    return SPEC.model_copy(update={"gradients": GradientFile(file="no_such.npz", **options)})


# --- what is dumped --------------------------------------------------------------------------------------


def test_everything_that_the_loss_depends_on_is_written():
    problem, arrays = build_problem(SPEC), dump(SPEC)
    for name, value in problem.parameters.items():
        np.testing.assert_array_equal(arrays.pop(name), value)
    np.testing.assert_array_equal(arrays.pop("x"), problem.x)
    np.testing.assert_array_equal(arrays.pop("target"), problem.target)
    assert arrays.pop("loss") == problem.objective.total
    assert arrays.pop("y").dtype == np.int64
    assert set(arrays) == {f"{kind}.{name}" for kind in ("numerical", "error") for name in problem.parameters}


@pytest.mark.parametrize("penalty", [{}, {"l2": 0.1}])
def test_the_numerical_gradients_are_those_of_the_whole_loss_with_their_error(penalty):
    spec = spec_of((3, "tanh"), (2, "sigmoid"), samples=5, penalty=penalty)
    arrays, right = dump(spec), right_gradients(build_problem(spec))
    for name, value in right.items():
        numerical, error = arrays[f"numerical.{name}"], arrays[f"error.{name}"]
        assert numerical.shape == error.shape == value.shape
        assert (np.abs(numerical - value) <= error + 1e-13).all()
        assert (error < 1e-8).all()


def test_only_what_is_checked_is_differenced():
    spec = spec_of((3, "tanh"), (2, "sigmoid"), check={"parameters": "*.bias"})
    numerical = [name for name in dump(spec) if name.startswith("numerical.")]
    assert numerical == ["numerical.output.bias", "numerical.hidden1.bias"]


def test_on_a_kink_there_is_no_numerical_gradient():
    spec = spec_of((3, "relu"), (2, "identity"))
    zeros = spec.parameters.model_copy(update={"init": "zeros"})
    arrays = dump(spec.model_copy(update={"parameters": zeros}))
    assert np.isnan(arrays["numerical.hidden1.bias"]).all()
    assert np.isinf(arrays["error.hidden1.bias"]).all()


def test_targets_are_those_that_the_loss_compares_with():
    loss = {"name": "cross_entropy", "label_smoothing": 0.5, "weight": [1.0, 3.0]}
    spec = spec_of((2, "identity"), loss=loss, data={"x": [[1, 2, 3, 4], [0, 0, 0, 1]], "y": [0, 1]})
    arrays = dump(spec)
    np.testing.assert_array_equal(arrays["y"], [0, 1])
    np.testing.assert_array_equal(arrays["target"], [[0.75, 0.75], [0.25, 2.25]])


def test_targets_that_are_not_labels_are_written_unchanged():
    data = {"x": [[1, 2, 3, 4], [0, 0, 0, 1]], "y": [0.5, 1]}
    arrays = dump(spec_of((1, "identity"), data=data))
    np.testing.assert_array_equal(arrays["y"], [0.5, 1.0])
    np.testing.assert_array_equal(arrays["target"], [[0.5], [1.0]])
    assert arrays["y"].dtype == np.float64


def test_arrays_have_the_dtype_of_the_spec_and_differences_float64():
    spec = spec_of((3, "tanh"), (2, "sigmoid"), dtype="float32")
    problem, arrays = build_problem(spec), dump(spec)
    single = {name for name, array in arrays.items() if array.dtype == np.float32}
    assert single == {*problem.parameters, "x", "target"}
    np.testing.assert_array_equal(arrays["x"].astype(float), problem.x)
    assert arrays["numerical.output.bias"].dtype == arrays["loss"].dtype == np.float64


def test_a_gradient_file_lends_its_names_and_layout_and_need_not_exist():
    arrays, ours = dump(with_gradients(names=NAMES, layout="in_out")), dump(SPEC)
    for prefix in ("", "numerical.", "error."):
        np.testing.assert_array_equal(arrays[f"{prefix}fc1.weight"], ours[f"{prefix}hidden1.weight"].T)
        np.testing.assert_array_equal(arrays[f"{prefix}W2"], ours[f"{prefix}output.weight"].T)
        np.testing.assert_array_equal(arrays[f"{prefix}output.bias"], ours[f"{prefix}output.bias"])
    assert all(array.flags.c_contiguous for array in arrays.values())
    assert len(arrays) == len(ours)


@pytest.mark.parametrize("taken", ["x", "loss", "numerical.W2"])
def test_a_name_that_the_dump_needs_itself_is_refused(taken):
    with pytest.raises(InputError) as caught:
        dump(with_gradients(names={taken: "hidden1.bias", "W2": "output.weight"}))
    (complaint,) = caught.value.complaints
    assert complaint.message.endswith("the dump uses that name")
    assert complaint.where == ("gradients", "names", taken)


def test_names_that_the_network_lacks_are_refused():
    with pytest.raises(InputError, match="is not a parameter"):
        dump(with_gradients(names={"W3": "hidden3.weight"}))


def test_without_a_network_there_is_nothing_to_dump(folder, capsys):
    (folder / "code.yaml").write_text("gradients: {python: code.py:f}\n")
    assert gradcheck("dump", "code.yaml", "-o", "case") == 2
    assert "this needs a network" in capsys.readouterr().err
    assert not Path("case").exists()


# --- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["case", "case.npz"])
def test_arrays_are_written_as_they_are(folder, capsys, out):
    assert gradcheck("dump", "net.yaml", "-o", out) == 0
    written, said = dump(load_spec("net.yaml")), capsys.readouterr()
    if out == "case":
        read = {path.name.removesuffix(".npy"): np.load(path) for path in Path(out).iterdir()}
    else:
        read = dict(np.load(out))
    assert (said.out, said.err) == ("", f"net.yaml: {len(written)} arrays written to {out}\n")
    assert set(read) == set(written)
    for name, array in written.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(read[name], array)
    assert set(os.listdir(folder)) == {"net.yaml", out}


@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("out", ["case", "case.npz"])
def test_gradients_go_round_in_the_authors_names_and_layout(folder, layout, out):
    named = f"gradients: {{file: mine.npz, names: {{W1: hidden1.weight}}, layout: {layout}}}\n"
    (folder / "theirs.yaml").write_text(TEXT + named)
    assert gradcheck("dump", "theirs.yaml", "-o", out) == 0
    prefix = "numerical."
    arrays = dict(np.load(out)) if out.endswith(".npz") else {p.stem: np.load(p) for p in Path(out).iterdir()}
    mine = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    np.savez("mine.npz", **mine)
    assert gradcheck("check", "theirs.yaml", "-q") == 0
    np.savez("mine.npz", **{**mine, "W1": 1.001 * mine["W1"]})
    assert gradcheck("check", "theirs.yaml", "-q") == 1


def test_options_of_the_command_line_count(folder):
    assert (
        gradcheck(
            "dump", "net.yaml", "-o", "a", "--only", "output.bias", "--scheme", "central", "--step", "0.1"
        )
        == 0
    )
    assert [p.stem for p in Path("a").glob("numerical.*")] == ["numerical.output.bias"]
    assert np.load("a/error.output.bias.npy").max() > 1e-8  # a single long step, without a ladder


def test_options_that_do_not_fit_are_named(folder, capsys):
    assert gradcheck("dump", "net.yaml", "-o", "a", "--only", "outptu.*") == 2
    assert "--only: 'outptu.*' matches no parameter" in capsys.readouterr().err
    assert gradcheck("dump", "net.yaml") == 2
    assert "Missing option '-o'" in capsys.readouterr().err


def test_existing_files_are_not_overwritten_unless_forced(folder, capsys):
    for out in ("case", "case.npz"):
        assert gradcheck("dump", "net.yaml", "-o", out) == 0
        (folder / "net.yaml").write_text(TEXT.replace("samples: 5", "samples: 6"))
        before = (folder / out).stat().st_mtime_ns
        assert gradcheck("dump", "net.yaml", "-o", out) == 2
        what = "is not an empty folder" if out == "case" else "already exists; not overwritten"
        assert f"--output: '{out}' {what}" in capsys.readouterr().err
        assert (folder / out).stat().st_mtime_ns == before
        assert gradcheck("dump", "net.yaml", "-o", out, "--force") == 0
    assert len(np.load("case/x.npy")) == len(np.load("case.npz")["x"]) == 6


def test_force_keeps_what_has_another_name(folder):
    Path("case").mkdir()
    Path("case/mine.txt").write_text("kept")
    Path("case/x.npy").write_text("replaced")
    assert gradcheck("dump", "net.yaml", "-o", "case") == 2
    assert gradcheck("dump", "net.yaml", "-o", "case", "--force") == 0
    assert Path("case/mine.txt").read_text() == "kept"
    assert np.load("case/x.npy").shape == (5, 4)


def test_an_empty_folder_is_filled_even_the_one_we_are_in(folder, monkeypatch):
    Path("case").mkdir()
    monkeypatch.chdir("case")
    assert gradcheck("dump", "../net.yaml", "-o", ".") == 0
    assert Path("x.npy").exists()
    assert not list(Path().glob(".*"))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("net.yaml", "'net.yaml' is a file; a folder or an .npz file is needed"),
        ("dir.npz", "'dir.npz' is a folder; an .npz file is needed"),
        ("no/such/case", "no/such' does not exist"),
        ("no/such.npz", "no' does not exist"),
        ("net.yaml/case", "net.yaml' does not exist"),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_nothing_is_written_where_nothing_can_be(folder, capsys, out, message):
    Path("dir.npz").mkdir()
    assert gradcheck("dump", "net.yaml", "-o", out, "--force") == 2
    assert message in capsys.readouterr().err
    assert set(os.listdir(folder)) == {"net.yaml", "dir.npz"}
    assert Path("net.yaml").read_text() == TEXT


@pytest.fixture
def full(monkeypatch):
    """Return a disk with room for three arrays."""
    write_array, room = np.lib.format.write_array, iter(range(3))

    def until_full(*arguments, **options):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_array(*arguments, **options)

    monkeypatch.setattr(np.lib.format, "write_array", until_full)

    def save(file, array, **options):
        with file.open("wb") as stream:
            until_full(stream, array, **options)

    monkeypatch.setattr(np, "save", save)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("out", ["case", "case.npz", "old", "old.npz"])
def test_on_a_full_disk_nothing_is_left_half_written(folder, capsys, out):
    Path("old").mkdir()
    for name in ("old/x.npy", "old.npz"):
        Path(name).write_text("before")
    assert gradcheck("dump", "net.yaml", "-o", out, "--force") == 2
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert set(os.listdir(folder)) == {"net.yaml", "old", "old.npz"}
    assert os.listdir("old") == ["x.npy"]
    assert Path("old/x.npy").read_text() == Path("old.npz").read_text() == "before"


def test_if_a_file_cannot_be_put_in_place_all_are_taken_back(folder):
    Path("case").mkdir()
    Path("case/a.npy").write_text("before")
    Path("case/b.npy").mkdir()
    with pytest.raises(InputError, match=r"it holds a folder named 'b.npy'"):
        write({"a": np.ones(1), "b": np.ones(1)}, Output("--output", "case"), force=True)
    assert Path("case/a.npy").read_text() == "before"
    assert sorted(os.listdir("case")) == ["a.npy", "b.npy"]


def test_the_help_lists_no_exit_code_of_a_verdict():
    codes = cli.cli.commands["dump"].epilog
    assert "the arrays are written" in codes
    assert "wrong" not in codes


def test_names_that_no_file_can_have_are_refused(tmp_path):
    arrays = {"a/b": np.ones(2), "../../c": np.ones(1), "file": np.zeros(1)}
    with pytest.raises(InputError) as caught:
        write(arrays, Output("--output", str(tmp_path / "case")))
    assert [complaint.message for complaint in caught.value.complaints] == [
        "--output: 'a/b' is not a valid file name",
        "--output: '../../c' is not a valid file name",
    ]
    assert not os.listdir(tmp_path)
    write(arrays, Output("--output", str(tmp_path / "case.npz")))
    assert set(np.load(tmp_path / "case.npz").files) == set(arrays)


def test_a_folder_that_may_not_be_read_is_not_written_to(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module.os, "listdir", refuse)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        write({}, Output("--output", str(tmp_path)))


def test_a_link_is_written_through(folder):
    Path("real").mkdir()
    Path("case").symlink_to("real")
    assert gradcheck("dump", "net.yaml", "-o", "case") == 0
    assert Path("case").is_symlink()
    assert Path("real/x.npy").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_is_not_replaced_by_a_file_even_if_forced(folder, capsys):
    os.mkfifo("case.npz")
    assert gradcheck("dump", "net.yaml", "-o", "case.npz", "--force") == 2
    assert "'case.npz' is a pipe or device; an .npz file is needed" in capsys.readouterr().err
    assert Path("case.npz").is_fifo()


@pytest.mark.parametrize("out", ["net.yaml", "no/such.npz", "no/such", "x" * 300])
def test_nothing_is_differenced_if_it_could_not_be_written(folder, monkeypatch, out):
    def fail(*_):
        raise AssertionError("differencing")

    monkeypatch.setattr(module, "dump", fail)
    assert gradcheck("dump", "net.yaml", "-o", out) == 2


@pytest.mark.parametrize("name", ["case.safetensors", "case.npy", "case.pt"])
def test_a_folder_is_not_given_the_name_of_a_file(tmp_path, name):
    with pytest.raises(InputError) as caught:
        write({"x": np.zeros(1)}, Output("--output", str(tmp_path / name)))
    assert "would become a folder of that name" in str(caught.value)
    assert not (tmp_path / name).exists()


def test_masks_are_written_as_the_layers_use_them():
    layers = [
        {
            "attention": 2,
            "causal": True,
            "attn_mask": [[0.0, 1.0], [0.5, False]],
            "key_padding_mask": [[0, 1]],
        },
        {"dropout": 0.5, "mask": [[1, 0], [1, 1]]},
        "flatten",
        {"units": 1},
    ]
    written = dump(spec_of(*layers, inputs=[2, 2], samples=1))
    np.testing.assert_array_equal(written["attention1.attn_mask"], [[0.0, -np.inf], [0.5, 0.0]])
    np.testing.assert_array_equal(written["attention1.key_padding_mask"], [[0.0, 1.0]])
    np.testing.assert_array_equal(written["dropout1.mask"], [[2.0, 0.0], [2.0, 2.0]])
