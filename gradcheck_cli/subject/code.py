"""A subject for gradients from the user's code.

The gradients are checked by finite differences of the code's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck_cli.code.drifting import refuse_drifting
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.findings import Finding
from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.given_inputs import read_inputs
from gradcheck_cli.code.load import load
from gradcheck_cli.code.objective import ForeignObjective
from gradcheck_cli.code.own_inputs import completed
from gradcheck_cli.code.precision import measured_noise
from gradcheck_cli.code.sources import read_code
from gradcheck_cli.code.unwritten import refuse_erratic
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.directions.plan import Plan, plan
from gradcheck_cli.entries.check import check_literally
from gradcheck_cli.entries.claim import Claim, claim_of, largest_of
from gradcheck_cli.errors import bad_input
from gradcheck_cli.gradients.analytic import Analytic, dtype_of
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.reference import LiteralDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.parallel.clock import Clock, now
from gradcheck_cli.parallel.executors import Engine, engine_of
from gradcheck_cli.problem.problem import matching
from gradcheck_cli.report import Checked, Report, has_no_estimate
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.gradients import FromCode
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.both_modes import of_both_modes
from gradcheck_cli.subject.by_sites import checked_through_sites, joined
from gradcheck_cli.subject.said import Said
from gradcheck_cli.subject.said_of_code import said_of
from gradcheck_cli.subject.sharing import Sharing, alone, by_workers
from gradcheck_cli.subject.subject import report_of
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import Verdict

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from gradcheck_cli.code.pool import Source
    from gradcheck_cli.diagnose.diagnosis import Diagnosis  # only wrong gradients need its package
    from gradcheck_cli.diagnose.state import Made


@dataclass(frozen=True)
class CodeSubject:
    """The gradients that the user's code computes.

    objective: the code's loss, as a function that can be perturbed.
    rounding: for each gradient, a bound on the rounding error of a correct gradient.
    inputs: the inputs that the code is called with.
    findings: the mistakes that were found by rerunning the code in other ways.
    before: functions that return a subject whose gradients must be right for this check to mean anything.
    other_modes: maps the name of a further mode to a function that returns a subject with the mode's
        gradients.
    others: functions that return a subject with the loss weighted in another way. If nothing is wrong, the
        subjects that they return are checked, too.
    shared: a function that shares the evaluations among processes. By default, there is only one process,
        because other processes cannot load the code without a spec.
    """

    analytic: Analytic
    objective: ForeignObjective
    rounding: Mapping[str, Array]
    said: Said
    inputs: Inputs
    findings: tuple[Finding, ...]
    before: Sequence[Callable[[], CodeSubject]]
    other_modes: Mapping[str, Callable[[], CodeSubject]]
    others: Sequence[Callable[[], CodeSubject]]
    shared: Sharing = alone

    @np.errstate(all="ignore")  # numbers that are not finite get a verdict or an error, not a warning
    def check(self, how: CheckSpec, progress: Progress | None = None, clock: Clock = now) -> Report:
        """Check every entry, or random directions if the clock shows that the code is slow.

        If nothing is wrong, the code is checked again with its loss weighted in other ways (`others`). If
        something is wrong in a subject that must be right first (`before`), the report is about that subject.
        """
        for earlier in self.before:
            found = earlier()._check(how, progress, clock)
            if found.verdict is Verdict.WRONG:
                return found
        report = self._check(how, progress, clock)
        for other in self.others:
            if report.verdict is Verdict.WRONG:
                break
            found = other()._check(how, progress, clock)
            report = found if found.verdict is Verdict.WRONG else report
        for mode, other in self.other_modes.items():
            found = other()._check(how, progress, clock)
            report = of_both_modes(report, found, mode)
            if report.source == found.source:
                break
        return report

    def _check(self, how: CheckSpec, progress: Progress | None, clock: Clock) -> Report:
        claim = self._claim(how)
        through, left = checked_through_sites(self.objective, claim, how, progress, clock)
        if left:
            rest = self._without_sites(claim.only(left), how, progress, clock)
            through = joined(claim.names, through, rest)
        return self._explained(report_of(self, self._at_jumps(claim, through), how.strict))

    def _at_jumps(self, claim: Claim, checked: Checked) -> Checked:
        """Return the findings, in which wrong entries are undecided if jumps of the gradient explain them."""
        if not any(c.wrong.any() and c.projected is None for c in checked.comparisons):
            return checked
        from gradcheck_cli.subject.jumping_gradients import with_jumps_undecided  # only wrong entries need it

        return with_jumps_undecided(self.objective.function, claim, checked)

    def _explained(self, report: Report) -> Report:
        """Return the report with reasons why entries could not be decided.

        Raises `InputError` if the code keeps state between calls, so that the differences mean nothing.
        """
        if report.verdict is not Verdict.AGREES:
            refuse_drifting(self.objective)
        unknown = [c for c in report.comparisons if has_no_estimate(c)]
        if unknown:
            from gradcheck_cli.subject.not_estimated import UNSETTLED, why_not_estimated  # few need it

            why = why_not_estimated(self.objective, unknown) or ("" if report.kinks else UNSETTLED)
            report = replace(report, not_estimated=why or report.not_estimated)
        return self._with_notes(report)

    def _with_notes(self, report: Report) -> Report:
        """Return an unresolved report with notes on gradients that agree in float64, or on jumps."""
        unresolved = [c for c in report.comparisons if report.verdict_of(c) is Verdict.UNRESOLVED]
        if report.verdict is not Verdict.UNRESOLVED or not unresolved:
            return report
        from gradcheck_cli.subject.in_float64 import notes_on_float64  # few reports need these
        from gradcheck_cli.subject.jumps import notes_on_jumps

        narrow = tuple(notes_on_float64(self.objective.function, unresolved))
        jumps = () if narrow else notes_on_jumps(self.objective, unresolved)
        return replace(report, unusual=(*report.unusual, *narrow, *jumps))

    def _without_sites(
        self, claim: Claim, how: CheckSpec, progress: Progress | None, clock: Clock
    ) -> Checked:
        way = plan(self.objective, claim.names, how, clock)
        with self.shared(self.objective, way, progress) as code:
            checked = _checked(code, claim, how, progress, way)
            if code.evaluator and any(c.verdict is not Verdict.AGREES for c in checked.comparisons):
                refuse_drifting(code)  # while the workers are still there
        return checked

    def _claim(self, how: CheckSpec) -> Claim:
        largest = np.array(largest_of(self.analytic.values.values()))
        kernels = self.objective.function.kernels
        rtol = how.rtol or next((kernel.rtol for kernel in kernels), None)
        return claim_of(self.analytic, self.rounding, rtol, dict.fromkeys(self.rounding, largest), how.atol)

    def kinks(self, at: Mapping[str, Array]) -> tuple[str, ...]:
        """Return a short note for each tensor with entries on a kink."""
        return tuple(
            f"{name}{[int(i) for i in np.argwhere(mask)[0]]}{f', and {more:,} more' if more else ''}: the "
            "slopes to the left and to the right differ at every step size"
            for name, mask in at.items()
            for more in [int(np.count_nonzero(mask)) - 1]
        )

    def why(self, comparisons: Sequence[Comparison]) -> Diagnosis:
        """Return the mistakes that were found by rerunning the code in other ways.

        If no such mistakes were found, return the mistakes that fit the wrong gradients.
        """
        from gradcheck_cli.diagnose import diagnosis_of_trials  # load it only if needed

        wrong = {c.name for c in comparisons if c.verdict is Verdict.WRONG}
        right = {c.name for c in comparisons if c.verdict is Verdict.AGREES and not c.by_atol.any()}
        function = self.objective.function
        shown = [finding.sentence for finding in self.findings if wrong & set(finding.tensors)]
        if shown:
            return self._located(diagnosis_of_trials(shown), wrong, right)
        found = self._recognised(comparisons, wrong)
        basis = "a layer" if function.stands_alone and found.basis == "arrays" else found.basis
        return self._located(replace(found, basis=basis, may_tap=function.takes_taps), wrong, right)

    def _located(self, found: Diagnosis, wrong: Collection[str], right: Collection[str]) -> Diagnosis:
        """Return the diagnosis with the places of the faults, or with the reason why none can be found."""
        try:
            with may_fail(Exception):
                return replace(found, places=tuple(self.objective.function.places(wrong, right)))
        except RefusedError as refused:
            return replace(found, observations=(*found.observations, _NO_PLACE.format(refused)))

    def _recognised(self, comparisons: Sequence[Comparison], wrong: Collection[str]) -> Diagnosis:
        """Return the mistakes that fit the wrong gradients, judged by the arrays or by rerunning the code."""
        from gradcheck_cli.subject.known import diagnosis_by_network  # only wrong gradients need it

        function, inputs = self.objective.function, self.inputs
        of_network = diagnosis_by_network(function, inputs, self.analytic.loss, comparisons)
        if of_network and of_network.answers:
            return of_network
        return self._in_patterns(comparisons, wrong, of_network)

    def _in_patterns(
        self, comparisons: Sequence[Comparison], wrong: Collection[str], of_network: Diagnosis | None
    ) -> Diagnosis:
        """Return the patterns that fit the wrong gradients, and what is known about the other gradients.

        of_network: a diagnosis without an answer if the spec describes a network; else None.
        """
        from gradcheck_cli.diagnose import diagnosis_of_trials  # load these only if needed
        from gradcheck_cli.diagnose.arrays import diagnose_arrays
        from gradcheck_cli.subject.constant_loss import sentence_on_constant_loss
        from gradcheck_cli.subject.patterns import diagnosis_of_patterns, patterns, sentences_of_patterns
        from gradcheck_cli.subject.products import conjugated, wrong_products

        function = self.objective.function
        if constant := sentence_on_constant_loss(function, comparisons):
            return diagnosis_of_trials([constant])
        wrong_ones = [c for c in comparisons if c.name in wrong]
        known = (
            *patterns(self.objective, wrong_ones, function.attached),
            *conjugated(function.parameters, comparisons),
        )
        left = _without(comparisons, known)
        found = of_network or diagnose_arrays(left, function.samples, are_all=not known)
        if not found.answers and (more := tuple(wrong_products(function.parameters, comparisons, left))):
            known = (*known, *more)
            left = _without(left, more)
            found = of_network or diagnose_arrays(left, function.samples, are_all=False)
        if known and not set(wrong) & {c.name for c in left}:
            return diagnosis_of_patterns(known)
        return replace(found, observations=(*sentences_of_patterns(known), *found.observations))


_NO_PLACE = "gradcheck could not find the place of the mistake: {}"


def _without(comparisons: Sequence[Comparison], made: Sequence[Made]) -> list[Comparison]:
    """Return the comparisons of the tensors that no pattern explains."""
    explained = {each.tensor for each in made}
    return [c for c in comparisons if c.name not in explained]


def _checked(
    code: ForeignObjective, claim: Claim, how: CheckSpec, progress: Progress | None, way: Plan
) -> Checked:
    """Check every entry, or along random directions, as planned."""
    if way.way == "directions":
        from gradcheck_cli.directions.check import check_along_directions  # only slow code needs it

        return check_along_directions(claim, code, how, progress, way.told)
    literal = LiteralDifferences(code, SCHEMES[how.scheme], how.step, progress)
    if progress:
        progress.doing("checking every entry")
    return check_literally(claim, literal, how, progress)


# --- loading -----------------------------------------------------------------------------------------------


def code_subject(spec: Spec, source: FromCode, executor: Executor | str | None) -> CodeSubject:
    """Return a subject for the gradients of the code that the spec names in `source`.

    Raises an `InputError` if the code cannot be loaded or used, or if `executor` names no engine.

    executor: shares out the evaluations, if they take long; None for as many processes as the spec says.
    """
    how = spec.check
    engine = engine_of(how.jobs if executor is None else executor)
    function, inputs = read_function(spec, source)
    subject = subject_of_function(function, inputs, how)
    if engine is None:
        return subject
    from gradcheck_cli.code.pool import InFile  # only several processes need it

    return shared_out(subject, InFile.of(source, inputs), engine)


def shared_out(subject: CodeSubject, source: Source, engine: Engine) -> CodeSubject:
    """Return the subject with its evaluations shared out by `engine`, if they take long.

    source: the code, in a form that workers can load.
    """
    return replace(subject, shared=partial(by_workers, source, engine))


def read_function(spec: Spec, source: FromCode) -> tuple[Function, Inputs]:
    """Return the code that the spec names in `source` as a function, and the inputs to call it with.

    Raises an `InputError` if the code cannot be loaded or used.
    """
    _refuse_complex(spec.check)  # before running any of the code
    load_once = cache(load)
    inputs = read_inputs(*completed(spec, load_once))
    return read_code(source, inputs, load_once), inputs


def checked_tensors(function: Function, inputs: Inputs, how: CheckSpec) -> tuple[str, ...]:
    """Return the names of the tensors to check, in order."""
    parameters = {**(inputs.problem.network.shapes if inputs.problem else {}), **function.parameters}
    names = [name for name in parameters if not (inputs.checks_inputs and name == INPUTS)]
    return (*matching(names, how.parameters), *((INPUTS,) if inputs.checks_inputs else ()))


def _refuse_complex(how: CheckSpec) -> None:
    if SCHEMES[how.scheme].offsets[0].imag:
        help = "use the default scheme; your code may not accept complex numbers"
        raise bad_input(
            "the 'complex' scheme cannot be used with your own code", "check", "scheme", help=help
        )


def subject_of_function(function: Function, inputs: Inputs, how: CheckSpec) -> CodeSubject:
    """Return a subject for the gradients of a function, to be checked against the function's own loss.

    Raises an `InputError` if the function's results cannot be checked.

    inputs: the inputs that the function is called with.
    """
    _refuse_complex(how)
    gradients = function.gradients(function.parameters)
    checked = checked_tensors(function, inputs, how)
    analytic = analytic_of(function, gradients, checked)
    noise, rounding = measured_noise(function, analytic)
    for _ in range(_REPEATS if _is_noisy(analytic, rounding) else 1):
        refuse_erratic(gradients, function.gradients(function.parameters), function.origin)
    objective = ForeignObjective(function, noise)
    return CodeSubject(
        analytic=analytic,
        objective=objective,
        rounding=rounding,
        said=said_of(function, inputs, checked, len(objective.losses)),
        inputs=inputs,
        findings=function.findings,
        before=[partial(subject_of_function, earlier, inputs, how) for earlier in function.before],
        other_modes={
            mode: partial(subject_of_function, other, inputs, how)
            for mode, other in function.other_modes.items()
        },
        others=[partial(subject_of_function, other, inputs, how) for other in function.others],
    )


_REPEATS = 16
"""How often a noisy gradient is computed again, since a race condition shows only now and then."""

_NOISY = 1e-2
"""A gradient is noisy if its rounding error may exceed this share of the tensor's largest entry."""


def _is_noisy(analytic: Analytic, rounding: Mapping[str, Array]) -> bool:
    return any(
        rounding[name].max(initial=0.0) > _NOISY * np.abs(value).max(initial=0.0)
        for name, value in analytic.values.items()
    )


def analytic_of(function: Function, gradients: Mapping[str, Array], checked: Sequence[str]) -> Analytic:
    """Return the code's gradients of the tensors in `checked`, with the loss that the code computed."""
    return Analytic(
        {name: gradients[name] for name in checked},
        {name: _type_of(function, name, gradients[name]) for name in checked},
        function.origin,
        loss=function.loss,
    )


def _type_of(function: Function, name: str, gradient: Array) -> np.dtype[Any]:
    """Return the type in which a gradient was computed: that of the kernel, or that of the array."""
    return next((kernel.type_of(name) for kernel in function.kernels), dtype_of(gradient))
