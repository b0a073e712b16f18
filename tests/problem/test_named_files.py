"""All missing files are reported at once, in the order of the spec."""

from __future__ import annotations

import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.problem.named_files import refuse_absent_files
from gradcheck_cli.spec.spec import Spec

NETWORK = {"inputs": 2, "layers": [{"units": 1}], "loss": "mse"}


@pytest.mark.parametrize(
    ("gradients", "place", "file"),
    [
        ({"file": "g.npz"}, ("gradients", "file"), "g.npz"),
        ({"python": "my_net.py:f"}, ("gradients", "python"), "my_net.py"),
        ({"torch": "my_net.py:build"}, ("gradients", "torch"), "my_net.py"),
    ],
)
def test_each_file_is_named_at_its_place(gradients, place, file, tmp_path):
    sections = {"data": {"file": "b.npz"}, "parameters": {"file": "w.npz"}, "gradients": gradients}
    spec = Spec.model_validate({"network": NETWORK, **sections}, context={"folder": tmp_path})
    with pytest.raises(InputError) as raised:
        refuse_absent_files(spec)
    assert {(c.where, c.message) for c in raised.value.complaints} == {
        (("parameters", "file"), f"there is no file '{tmp_path / 'w.npz'}'"),
        (("data", "file"), f"there is no file '{tmp_path / 'b.npz'}'"),
        (place, f"there is no file '{tmp_path / file}'"),
    }
    for name in ("w.npz", "b.npz"):
        (tmp_path / name).touch()
    (tmp_path / file).mkdir()  # it may be a folder of .npy files; its reader decides
    refuse_absent_files(spec)


def test_specs_without_files_need_none():
    refuse_absent_files(Spec.model_validate({"network": NETWORK, "data": {"synthetic": "normal"}}))
