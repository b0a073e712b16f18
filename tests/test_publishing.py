"""Everything that a public repository needs is there, well-formed and up to date."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec

import pytest
from paths import ROOT
from ruamel.yaml import YAML

import gradcheck_cli

GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))

FORMS = [path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]

SCHEMAS = [
    ("vendor.github-workflows", WORKFLOWS),
    ("vendor.github-actions", [ROOT / "action.yml"]),
    ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
    ("vendor.github-issue-forms", sorted(FORMS)),
    ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
    ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
]


def parsed(path):
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def steps_of(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def workflows():
    return [pytest.param(parsed(path), id=path.name) for path in WORKFLOWS]


@pytest.mark.skipif(find_spec("check_jsonschema") is None, reason="check-jsonschema is not installed")
@pytest.mark.parametrize(
    ("schema", "files"), SCHEMAS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_file_follows_the_schema_of_its_kind(schema, files):
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", workflows())
def test_no_workflow_may_do_more_than_read_unless_a_job_says_so(workflow):
    assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("workflow", workflows())
def test_no_expression_is_pasted_into_a_script(workflow):
    assert [step["run"] for step in steps_of(workflow) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("workflow", workflows())
def test_what_a_workflow_runs_from_the_checkout_is_there(workflow):
    named = {path for step in steps_of(workflow) for path in re.findall(r"\.ci/\w+", step.get("run", ""))}
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("tag", "passes"), [(f"v{gradcheck_cli.__version__}", True), ("v9.9.9", False)])
def test_a_release_refuses_a_tag_that_is_not_the_version(tag, passes):
    release = parsed(GITHUB / "workflows" / "release.yml")
    (script,) = (step["run"] for step in steps_of(release) if "TAG" in step.get("env", {}))
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env={**os.environ, "TAG": tag}, check=False)
    assert (done.returncode == 0) == passes


def test_only_what_publishes_may_prove_who_it_is():
    jobs = [(path.name, name, job) for path in WORKFLOWS for name, job in parsed(path)["jobs"].items()]
    trusted = [(file, name) for file, name, job in jobs if "id-token" in job.get("permissions", {})]
    assert trusted == [("docs.yml", "deploy"), ("release.yml", "publish")]


def test_the_gate_runs_on_every_python_that_the_metadata_names():
    named = {c.split(" :: ")[-1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)}
    gate = parsed(GITHUB / "workflows" / "test.yml")["jobs"]["gate"]
    assert set(gate["strategy"]["matrix"]["python"]) == named
    assert f">={min(named, key=lambda version: int(version.split('.')[1]))}" == PROJECT["requires-python"]


def test_every_address_of_the_project_begins_alike():
    (home, *_) = urls = list(PROJECT["urls"].values())
    assert all(url.startswith(home) for url in urls)


def test_the_newest_version_of_the_changelog_is_this_one():
    unreleased, newest, *_ = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", CHANGELOG, re.MULTILINE)
    assert unreleased == ("Unreleased", "")
    assert newest[0] == gradcheck_cli.__version__
    assert datetime.date.fromisoformat(newest[1])


def test_the_citation_is_of_the_newest_version():
    citation = parsed(ROOT / "CITATION.cff")
    dated = re.search(rf"^## \[{re.escape(citation['version'])}\] - (\S+)$", CHANGELOG, re.MULTILINE)
    assert citation["version"] == gradcheck_cli.__version__
    assert dated[1] == str(citation["date-released"])
