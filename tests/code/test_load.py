"""User code is found, is loaded again each time, and can end only its own check."""

from __future__ import annotations

import os
import sys
from textwrap import dedent

import pytest

from gradcheck_cli.code.load import guard, load
from gradcheck_cli.errors import InputError
from gradcheck_cli.spec.gradients import Code

WHERE = ("gradients", "python")


@pytest.fixture
def written(tmp_path):
    """Write a Python file and name something in it."""

    def write(text, name="f", file="net.py"):
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text))
        return Code(path, name)

    return write


def refused(code):
    with pytest.raises(InputError) as caught:
        load(code, WHERE)
    (complaint,) = caught.value.complaints
    assert complaint.where == WHERE
    return complaint


def test_a_function_is_found_by_its_name(written):
    code = load(written("def f(a): return a + 1"), WHERE)
    assert code.value(1) == 2
    assert str(code) == "f of net.py"


def test_a_dotted_name_leads_into_a_class(written):
    code = load(written("class Net:\n    @staticmethod\n    def f(): return 3", "Net.f"), WHERE)
    assert code.value() == 3


def test_a_missing_file_is_refused_and_a_close_one_suggested(written, tmp_path):
    written("def f(): ...")
    complaint = refused(Code(tmp_path / "nett.py", "f"))
    assert complaint.message == f"there is no file '{tmp_path / 'nett.py'}'"
    assert complaint.help == f"did you mean '{tmp_path / 'net.py'}'?"


def test_a_name_that_is_too_long_for_a_file_is_refused_like_any_missing_one(tmp_path):
    file = tmp_path / f"{'x' * 5000}.py"
    assert refused(Code(file, "f")).message == f"there is no file '{file}'"


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "net.py").mkdir()
    assert "is a folder" in refused(Code(tmp_path / "net.py", "f")).message


def test_a_missing_name_is_refused_and_a_close_one_suggested(written):
    text = "import os\n_hidden = 1\ndef loss_and_gradients(): ...\ndef main(): ..."
    complaint = refused(written(text, "loss_and_gradient"))
    assert complaint.message == ("net.py has no 'loss_and_gradient'; it defines loss_and_gradients, main")
    assert complaint.help == "did you mean 'loss_and_gradients'?"


def test_an_object_that_is_not_a_function_is_refused(written):
    assert refused(written("f = 1.5")).message == "f of net.py is a float, not a function"
    assert refused(written("f = None")).message == "f of net.py is None, not a function"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef f(:\n", "net.py raises SyntaxError at net.py:2: invalid syntax"),
        ("\n\n1 / 0", "net.py raises ZeroDivisionError at net.py:3: division by zero"),
        ("raise KeyError", "net.py raises KeyError at net.py:1"),
        ("raise ValueError('one\\ntwo')", "net.py raises ValueError at net.py:1: one"),
        ("import sys\nsys.exit(0)", "net.py calls sys.exit(0) at net.py:2"),
        ("import sys\nsys.exit()", "net.py calls sys.exit() at net.py:2"),
        ("import os\nos._exit(0)", "net.py calls sys.exit(0) at net.py:2"),
        ("raise SystemExit('bye')", "net.py calls sys.exit('bye') at net.py:1"),
        ("class Own(BaseException): ...\nraise Own('x')", "net.py raises Own at net.py:2: x"),
        (
            "class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute",
            "net.py raises Mute at net.py:3",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_with_its_line(written, text, message):
    before = set(sys.modules)
    assert refused(written(text)).message == message
    assert set(sys.modules) == before


def test_a_missing_package_is_named_with_help(written):
    complaint = refused(written("import no_such_package"))
    assert "raises ModuleNotFoundError at net.py:1" in complaint.message
    assert complaint.help == "install 'no_such_package' for the Python that runs gradcheck"


def test_a_mistake_in_a_neighbour_is_placed_there(written):
    written("x = (", file="broken.py")
    assert "raises SyntaxError at broken.py:1" in refused(written("import broken")).message
    written("def g():\n    return 1 / 0", file="layers.py")
    assert "at layers.py:2" in refused(written("import layers\nlayers.g()")).message


def test_an_error_from_a_library_is_placed_where_the_user_called_it(written):
    assert "raises TypeError at net.py:2" in refused(written("import json\njson.loads(1)")).message


def test_ctrl_c_passes(written):
    with pytest.raises(KeyboardInterrupt):
        load(written("raise KeyboardInterrupt"), WHERE)
    with pytest.raises(KeyboardInterrupt), load(written("def f(): ..."), WHERE).running():
        raise KeyboardInterrupt


def test_an_error_names_the_circumstances_of_the_call(written):
    code = load(written("def f(): raise ValueError('no')"), WHERE)
    with (
        pytest.raises(InputError, match=r"in the rain, f of net\.py raises ValueError at net\.py:1: no"),
        code.running("in the rain"),
    ):
        code.value()


def test_what_the_code_prints_goes_to_stderr(written, capsys):
    code = load(written("print('importing')\ndef f(): print('running')"), WHERE)
    with code.running():
        code.value()
    out, err = capsys.readouterr()
    assert (out, err) == ("", "importing\nrunning\n")


def test_neighbours_can_be_imported_at_once_and_later(written):
    written("VALUE = 1", file="early.py")
    written("VALUE = 2", file="later.py")
    code = load(
        written("import early\ndef f():\n    import later\n    return early.VALUE, later.VALUE"), WHERE
    )
    path = list(sys.path)
    with code.running():
        assert code.value() == (1, 2)
    assert sys.path == path


def test_each_folder_has_its_own_neighbours(written):
    for folder in ("one", "two"):
        written(f"NAME = {folder!r}", file=f"{folder}/layers.py")
        code = load(written("import layers\ndef f(): return layers.NAME", file=f"{folder}/net.py"), WHERE)
        assert code.value() == folder


def test_a_file_is_read_again_every_time(written):
    assert load(written("def f(): return 1"), WHERE).value() == 1
    assert load(written("def f(): return 2"), WHERE).value() == 2


def test_two_files_of_the_same_name_are_two_modules(written):
    one, two = (load(written(f"def f(): return {i}", file=f"{i}/net.py"), WHERE) for i in (1, 2))
    assert (one.value(), two.value()) == (1, 2)
    assert one.module.__name__ != two.module.__name__


def test_dataclasses_and_main_guards_work_as_in_any_module(written):
    text = """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: float

        def f():
            return Point(1.0).x

        if __name__ == "__main__":
            raise SystemExit(1)
        """
    assert load(written(text), WHERE).value() == 1.0


def test_code_may_empty_the_import_path(written):
    with guard(written("").file, WHERE, "it"):
        saved, sys.path[:] = sys.path[:], []
    sys.path[:] = saved[1:]


def test_definitions_of_the_module_can_be_requested(written):
    code = load(written("def f(): ...\ndata = 1\ndef parameters(): return 2\ndef bad(): 1 / 0"), WHERE)
    assert (code.own("data"), code.own("parameters"), code.own("nothing")) == (1, 2, None)
    with pytest.raises(InputError, match=r"bad of net\.py raises ZeroDivisionError at net\.py:4"):
        code.own("bad")


ENDS = ["os._exit(0)", "os.execv('/bin/true', ['true'])", "os.execlp('true', 'true')", "posix._exit(0)"]


@pytest.mark.skipif(os.name != "posix", reason="needs posix")
@pytest.mark.parametrize("ends", ENDS)
def test_ending_the_process_is_refused_and_reported_with_its_line(written, ends):
    code = load(written(f"import os, posix\ndef f():\n    {ends}"), WHERE)
    before = os._exit, os.execv
    with (
        pytest.raises(InputError, match=r"(calls sys\.exit\(0\)|raises PermissionError) at net\.py:3"),
        code.running(),
    ):
        code.value()
    assert (os._exit, os.execv) == before


@pytest.mark.parametrize(
    "spoils",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout.buffer.close()",
        "sys.stdout = sys.stderr = None",
        "sys.stdout.detach().close()",
    ],
)
def test_code_cannot_damage_gradchecks_streams(written, spoils):
    code = load(written(f"import sys\ndef f():\n    {spoils}"), WHERE)
    ours = sys.stdout, sys.stderr
    with code.running():
        code.value()
    assert (sys.stdout, sys.stderr) == ours
    assert not any(stream.closed for stream in ours)


@pytest.mark.parametrize(
    "when", ["import os; os.chdir('sub')", "def go():\n    import os; os.chdir('sub')\ngo()"]
)
def test_the_folder_that_the_code_goes_to_is_its_own(written, when, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    code = load(written(f"import os\n{when}\ndef f(): return os.getcwd()"), WHERE)
    assert os.getcwd() == str(tmp_path)
    for _ in range(2):
        with code.running():
            assert code.value() == str(tmp_path / "sub")
        assert os.getcwd() == str(tmp_path)
    with load(written("import os\ndef f(): return os.getcwd()"), WHERE).running():
        assert os.getcwd() == str(tmp_path)


def test_code_may_delete_its_folder(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = load(
        written("import os\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\ndef f(): return 1"),
        WHERE,
    )
    with code.running():
        assert code.value() == 1
    assert os.getcwd() == str(tmp_path)


def test_an_input_error_raised_by_the_code_is_reported_like_any_other(written):
    text = "from gradcheck_cli.errors import InputError\nraise InputError()"
    assert refused(written(text)).message == "net.py raises InputError at net.py:2"
