"""The specs named on the command line, and the options that override their settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gradcheck_cli.cli.defaults import is_projects, said_by
from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.spec.code_sources import CODE_SOURCES

if TYPE_CHECKING:
    from gradcheck_cli.spec.file import SpecFile
    from gradcheck_cli.spec.gradients import Code, FromCode, GradientFile, Gradients
    from gradcheck_cli.spec.spec import Spec


T = TypeVar("T")

_GRADIENTS = {
    "gradients": ("gradients", "file"),
    **{source.key: ("gradients", source.key) for source in CODE_SOURCES},
}
"""Maps each option that names gradients to the place in the spec that the option overrides."""

_OVERRIDES = {"only": ("check", "parameters"), "jobs": ("check", "jobs"), **_GRADIENTS}
"""Maps each option whose value may not fit a spec to the place in the spec that the option overrides."""


@contextmanager
def located(read: SpecFile, changes: dict[str, Any]) -> Iterator[None]:
    """Add the origin to each complaint raised inside the context.

    The origin is a position in the spec's file or, if an option overrides that part of the spec, the option.
    """
    try:
        yield
    except InputError as error:
        from gradcheck_cli.spec.file import in_reading_order

        blamed = (_blame(complaint, read, changes) for complaint in error.complaints)
        raise InputError(*in_reading_order(blamed)) from None
    except MemoryError as error:
        raise InputError(Complaint(f"{read.path}: out of memory; {error}".rstrip("; "))) from None
    except (SystemExit, EOFError, BrokenPipeError) as error:  # click would end the command on these
        raise RuntimeError(f"{type(error).__name__} during a check") from error


def _blame(complaint: Complaint, read: SpecFile, changes: dict[str, Any]) -> Complaint:
    for option, place in _OVERRIDES.items():
        overridden = changes.get(option) not in (None, ()) and not _says_otherwise(read.spec, option)
        if overridden and complaint.where[: len(place)] == place:
            return replace(
                complaint, where=(), message=f"{read.path}: {said_by(option)}: {complaint.message}"
            )
    return read.located(InputError(complaint)).complaints[0]


def _says_otherwise(spec: Spec, option: str) -> bool:
    """Return whether an option has only the project's default, while the spec sets a value of its own."""
    key = "parameters" if option == "only" else option
    return is_projects(option) and key in spec.check.model_fields_set


def changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    """Return the spec with the options of the command line applied. click has already validated them."""
    given = {
        key: value
        for key, value in changes.items()
        if value not in (None, ()) and not _says_otherwise(spec, key)
    }
    if is_engine(given.get("jobs")):
        del given["jobs"]
    if "only" in given:
        given["parameters"] = given.pop("only")
    gradients = _gradients(spec, {key: given.pop(key) for key in _GRADIENTS if key in given})
    return spec.model_copy(update={"gradients": gradients, "check": spec.check.model_copy(update=given)})


def is_engine(jobs: object) -> bool:
    """Return whether a value of `--jobs` names an engine, which a spec cannot."""
    return isinstance(jobs, str) and jobs != "auto"


def executor_of(spec: Spec, changes: Mapping[str, Any], no_code: bool) -> str | None:
    """Return the engine that `--jobs` names; None if it names none, or if the spec overrides it.

    Raises an `InputError` if the engine is code to run and `--no-code` forbids that.
    """
    jobs = str(changes.get("jobs"))
    if not is_engine(changes.get("jobs")) or _says_otherwise(spec, "jobs"):
        return None
    from gradcheck_cli.parallel.executors import PLACE, Factory, named

    if no_code and isinstance(named(jobs), Factory):
        raise InputError(Complaint(f"{jobs} runs code, and --no-code forbids it", PLACE))
    return jobs


def _gradients(spec: Spec, sources: Mapping[str, str]) -> Gradients:
    """Return the source of gradients that an option names or, without such an option, the spec's own.

    Raises an `InputError` if several options name a source.
    """
    if len(sources) > 1:
        first, second, *_ = sources
        raise InputError(Complaint(f"--{first} and --{second} cannot be used together; choose one of them"))
    for option, name in sources.items():
        return _of_file(spec, Path(name)) if option == "gradients" else _of_code(spec, option, name)
    return spec.gradients


def _of_file(spec: Spec, file: Path) -> GradientFile:
    """Return the file as a source of gradients.

    If the file replaces a file that the spec names, the names and the layout in the spec still apply.
    """
    from gradcheck_cli.spec.gradients import GradientFile

    theirs = spec.gradients if isinstance(spec.gradients, GradientFile) else GradientFile(file=file)
    return theirs.model_copy(update={"file": file})


def _of_code(spec: Spec, key: str, name: str) -> FromCode:
    """Return the code as a source of gradients.

    If the code replaces code of the same kind that the spec names, the settings in the spec still apply.
    """
    from gradcheck_cli.spec.gradients import CODE_MODELS

    code, model = _code(key, name), CODE_MODELS[key]
    theirs = spec.gradients if isinstance(spec.gradients, model) else model.model_validate({key: code})
    return theirs.model_copy(update={"code": code})


def _code(option: str, name: str) -> Code:
    from gradcheck_cli.spec.gradients import code_of

    code = code_of(name, Path())
    if code is None:
        raise InputError(Complaint(f"--{option} must be FILE.py:NAME, not '{name}'"))
    return code


def refuse_code(spec: Spec) -> None:
    """Raise an `InputError` if the spec names code to run, because `--no-code` forbids it."""
    if spec.names_code:
        message = f"this spec runs {spec.names_code}, and --no-code forbids it"
        raise InputError(Complaint(message, ("gradients",)))


def run_apart(spec: Spec, timeout: float | None, work: Callable[..., T], *arguments: Any) -> T:
    """Return `work(*arguments)`.

    The call runs in another process if the spec names code or if time is limited.
    """
    if timeout is None and not spec.names_code:
        return work(*arguments)
    from gradcheck_cli.code.own_process import in_own_process

    return in_own_process(spec.names_code, timeout, work, *arguments)


def expand(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the path of every spec: each file itself and, for each folder, the .yaml and .yml files below it.

    Hidden files are left out. For a folder without specs, the path of the folder is yielded.
    """
    for argument in arguments:
        found = _specs_in(Path(argument)) if os.path.isdir(argument) else []
        yield from found or [argument]


def _specs_in(folder: Path) -> list[str]:
    return sorted(
        str(path)
        for path in folder.rglob("*")
        if path.suffix in (".yaml", ".yml")
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
