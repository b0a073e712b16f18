"""The command, variables and projects may name an engine; a spec may not."""

from __future__ import annotations


def test_no_code_refuses_a_factory_but_not_a_scheduler(gradcheck):
    done = gradcheck("check", "good.yaml", "--no-code", "--jobs", "pools:pool")
    assert done.code == 2
    assert "good.yaml: --jobs: pools:pool runs code, and --no-code forbids it" in done.err
    assert gradcheck("check", "good.yaml", "--no-code", "--jobs", "dask").code == 0
    assert gradcheck("mutate", "good.yaml", "--no-code", "--jobs", "pools:pool").code == 2


def test_a_variable_may_name_an_engine(gradcheck, monkeypatch):
    monkeypatch.setenv("GRADCHECK_JOBS", "dask:tcp://host:8786")
    assert gradcheck("check", "good.yaml").code == 0
    monkeypatch.setenv("GRADCHECK_JOBS", "dask:")
    message = "'dask:' is not a number, auto, dask, dask:ADDRESS or module:factory"
    assert message in gradcheck("check", "good.yaml").err


def test_a_project_may_name_an_engine_and_a_spec_overrides_it(gradcheck, folder, monkeypatch):
    monkeypatch.setattr("gradcheck_cli.directions.plan.SMALL", 0.0)
    (folder / "pyproject.toml").write_text('[tool.gradcheck]\njobs = "no_cluster:make"\n')
    (folder / "no_cluster.py").write_text("def make(): raise OSError('no cluster')\n")
    code = "parameters = {'w': [1.0, 2.0]}\ndef f(w, *_): return (w['w'] ** 2).sum(), {'w': 2 * w['w']}\n"
    (folder / "net.py").write_text(code)
    text = "gradients: {python: net.py:f}\n"
    (folder / "net.yaml").write_text(text)
    assert "no_cluster:make raises OSError: no cluster" in gradcheck("check", "net.yaml").err
    (folder / "net.yaml").write_text(text + "check: {jobs: 1}\n")
    assert gradcheck("check", "net.yaml").code == 0


def test_a_spec_may_not_name_an_engine(gradcheck, folder):
    (folder / "jobs.yaml").write_text((folder / "good.yaml").read_text() + "\ncheck: {jobs: dask}\n")
    assert gradcheck("check", "jobs.yaml").code == 2
