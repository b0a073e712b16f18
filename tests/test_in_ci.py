"""The action, the hook and the docs page on CI, tested as far as is possible on one machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec

import pytest
from documents import DOCS, blocks
from paths import ROOT
from ruamel.yaml import YAML

PAGE = (DOCS / "how-to" / "ci.md").read_text(encoding="utf-8")


SCRIPTS = sysconfig.get_path("scripts")


def parsed(text):
    return YAML(typ="safe", pure=True).load(text)


ACTION = parsed((ROOT / "action.yml").read_text(encoding="utf-8"))
(HOOK,) = parsed((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
GITHUB, GITLAB, PRE_COMMIT = (parsed(block.body) for block in blocks(PAGE) if block.language == "yml")
*_, USES = GITHUB["jobs"]["gradients"]["steps"]

needs_pre_commit = pytest.mark.skipif(
    find_spec("pre_commit") is None or shutil.which("git") is None,
    reason="pre-commit or git is not installed; .ci/run installs what a fresh installation needs",
)


@pytest.fixture
def project(tmp_path, configs):
    """Create a user's repository with specs that are right."""
    folder = tmp_path / "project"
    shutil.copytree(configs / "data", folder / "configs" / "data")
    shutil.copy(configs / "output_layer.yaml", folder / "configs")
    shutil.copy(configs / "output_layer.yaml", folder / "net.gradcheck.yaml")
    return folder


@pytest.fixture
def break_it(project, configs):
    """Add a spec whose gradient is wrong."""
    return lambda: shutil.copy(configs / "wrong_gradient.yaml", project / "configs")


def shell(script, folder, scripts=SCRIPTS, **environment):
    """Run a line of a script as CI does, with the commands installed in the folder `scripts`."""
    path = os.pathsep.join([str(scripts), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONUTF8": "1", "PATH": path, **environment},
    )


# --- GitHub ----------------------------------------------------------------------------------------------


def step_of_the_action(name):
    (step,) = (step for step in ACTION["runs"]["steps"] if step.get("name") == name)
    return step


def environment_of(step, given):
    """Return the environment that GitHub derives from the step's env, for these inputs."""
    values = {name: given.get(name, of.get("default")) for name, of in ACTION["inputs"].items()}
    return {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: values[found[1]], value)
        for name, value in step["env"].items()
    }


def test_the_snippet_gives_the_action_inputs_that_it_has():
    required = {name for name, of in ACTION["inputs"].items() if of.get("required")}
    assert required <= set(USES["with"]) <= set(ACTION["inputs"])


def test_no_input_is_pasted_into_a_script():
    assert [step["run"] for step in ACTION["runs"]["steps"] if "${{" in step.get("run", "")] == []


def test_every_input_is_in_the_readme():
    assert [name for name in ACTION["inputs"] if f"`{name}`" not in PAGE] == []


def test_the_action_fails_with_an_annotation_where_a_gradient_is_wrong(project, break_it):
    step = step_of_the_action("Check the gradients")
    summary = project / "summary.md"
    environment = environment_of(step, USES["with"]) | {"GITHUB_STEP_SUMMARY": str(summary)}
    assert shell(step["run"], project, **environment).returncode == 0
    break_it()
    done = shell(step["run"], project, **environment)
    assert done.returncode == 1
    assert "2 specs: 1 agree, 1 wrong." in summary.read_text(encoding="utf-8")
    assert re.search(r"^::error .*wrong_gradient.yaml.*output.weight", done.stdout, re.MULTILINE)


@needs_pre_commit
def test_the_action_installs_gradcheck_and_what_the_code_needs(project, tmp_path):
    venv.create(tmp_path / "python")
    scripts = tmp_path / "python" / "bin"
    (tmp_path / "pip").mkdir()
    ours = find_spec("pip").submodule_search_locations[0]
    (tmp_path / "pip" / "pip").symlink_to(ours)  # to install pip would take seconds
    step = step_of_the_action("Install gradcheck")
    environment = environment_of(step, {"install": "pytest --no-compile"})
    environment |= {"GITHUB_ACTION_PATH": str(ROOT), "PYTHONPATH": str(tmp_path / "pip")}
    done = shell(step["run"], project, scripts, **environment)
    assert done.returncode == 0, done.stderr
    check = "gradcheck check configs --report html=report.html && pytest configs"
    assert shell(check, project, scripts).returncode == 0


# --- GitLab ----------------------------------------------------------------------------------------------


def test_the_job_on_gitlab_leaves_a_report(project, break_it):
    job = GITLAB["gradients"]
    install, *script = job["script"]
    assert install.startswith("pip install ")
    assert shell("\n".join(script), project).returncode == 0
    break_it()
    assert shell("\n".join(script), project).returncode == 1
    report = project / job["artifacts"]["reports"]["junit"]
    assert "output.weight[3, " in report.read_text(encoding="utf-8")


# --- pre-commit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("net.gradcheck.yaml", True),
        ("nets/a.gradcheck.yml", True),
        ("net.yaml", False),
        ("gradcheck.yaml.txt", False),
        ("net.gradcheck.yaml.py", False),
    ],
)
def test_the_hook_is_for_files_that_are_specs_by_name(name, is_one):
    assert (re.search(HOOK["files"], name) is not None) == is_one


@pytest.mark.parametrize("settings", PRE_COMMIT["repos"][0]["hooks"], ids=lambda settings: settings["name"])
def test_what_the_hook_runs_passes_and_fails_as_the_command_does(settings, project, break_it):
    hook = HOOK | settings
    files = [] if hook.get("pass_filenames") is False else ["net.gradcheck.yaml"]
    command = shlex.join([*shlex.split(hook["entry"]), *hook.get("args", []), *files])
    assert shell(command, project).returncode == 0
    break_it()
    assert shell(f"{command} configs/wrong_gradient.yaml", project).returncode == 1


@needs_pre_commit
def test_pre_commit_installs_and_runs_the_hook(project, break_it, tmp_path):
    checkout = tmp_path / "checkout"
    shutil.copytree(
        ROOT / "gradcheck_cli", checkout / "gradcheck_cli", ignore=shutil.ignore_patterns("*.pyc")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, checkout)
    PRE_COMMIT["repos"][0] |= {"repo": str(checkout), "rev": committed(checkout)}
    YAML().dump(PRE_COMMIT, project / ".pre-commit-config.yaml")
    committed(project)
    run, home = f"{shlex.quote(sys.executable)} -m pre_commit run --all-files", str(tmp_path / "home")

    done = shell(run, project, PRE_COMMIT_HOME=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Passed") == len(PRE_COMMIT["repos"][0]["hooks"])
    break_it()
    committed(project)
    done = shell(run, project, PRE_COMMIT_HOME=home)
    assert done.returncode == 1
    assert "the worst, output.weight[3, " in " ".join(
        done.stdout.split()
    )  # whatever the width of the terminal


def committed(folder):
    """Commit everything in the folder to a new repository, and return the commit."""
    author = "-c user.name=tester -c user.email=tester@localhost -c core.hooksPath=/dev/null"
    done = shell(f"git init -q && git add -A && git {author} commit -qm all && git rev-parse HEAD", folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
