"""Plant mistakes in layers of every kind, in a backprop written by hand, and count whether they are named.

A network has a dense layer or a convolution `first`, the layer `mid` with the mistake, and a dense layer
`last`. The gradients come from `layers_by_hand` and similar modules, which share nothing with gradcheck's
steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import layers_by_hand as by_hand
import numpy as np
import sequences_by_hand as sequences
import tokens_by_hand as tokens
from layers_by_hand import Hand
from mistakes import VISIBLE

from gradcheck_cli import Spec, Verdict
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.steps import VARIANTS
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.steps.dropout import Dropout
from gradcheck_cli.numerical.looks import Remembered
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.subject.network import NetworkSubject, network_subject

Gradients = dict[str, np.ndarray]
Rng = np.random.Generator


@dataclass(frozen=True)
class Subject:
    """A network with one layer of a kind.

    layer: `mid` in a spec.  hand: the class written by hand.  options: the options that this class needs.
    """

    inputs: Sequence[int]
    layer: Any
    hand: type[Hand]
    options: Mapping[str, Any] = field(default_factory=dict)


def _rows(rng: Rng) -> list[int]:
    return [int(rng.integers(3, 6)), int(rng.choice([4, 6]))]


def _images(rng: Rng) -> list[int]:
    return [int(rng.choice([2, 4])), 5, 5]


def _conv2d(rng: Rng) -> Subject:
    stride, padding = int(rng.integers(1, 3)), int(rng.integers(1, 2))
    layer = {"conv2d": int(rng.integers(2, 6)), "kernel": 3, "stride": stride, "padding": padding}
    return Subject(_images(rng), layer, by_hand.Conv2d, {"stride": stride, "padding": padding})


def _pool(kind: str, hand: type[Hand]) -> Callable[[Rng], Subject]:
    def drawn(rng: Rng) -> Subject:
        kernel = int(rng.integers(2, 4))
        stride = int(rng.integers(1, kernel + 1))
        layer = {kind: kernel, "stride": stride}
        return Subject(_images(rng), layer, hand, {"kernel": kernel, "stride": stride})

    return drawn


def _norm(key: str, hand: type[Hand]) -> Callable[[Rng], Subject]:
    def drawn(rng: Rng) -> Subject:
        eps = float(10 ** rng.uniform(-3, -1))
        return Subject(_rows(rng), {key: True, "eps": eps}, hand, {"eps": eps})

    return drawn


def _group_norm(rng: Rng) -> Subject:
    eps = float(10 ** rng.uniform(-3, -1))
    return Subject([4, 4, 3], {"group_norm": 2, "eps": eps}, by_hand.GroupNorm, {"groups": 2, "eps": eps})


def _batch_norm(rng: Rng) -> Subject:
    eps = float(10 ** rng.uniform(-3, -1))
    layer = {"units": 4, "batch_norm": {"eps": eps}, "activation": "tanh"}
    inputs = [5] if rng.random() < 0.5 else _rows(rng)
    return Subject(inputs, layer, by_hand.BatchNormed, {"eps": eps})


def _in_rows(layer: Any, hand: type[Hand], **options: Any) -> Callable[[Rng], Subject]:
    return lambda rng: Subject(_rows(rng), layer, hand, options)


def _tokens(rng: Rng) -> Subject:
    return Subject([5], {"embedding": 4, "embedding_dim": 3, "padding_idx": 0}, tokens.Embedding)


SUBJECTS: Mapping[str, Callable[[Rng], Subject]] = {
    "conv2d": _conv2d,
    "max_pool2d": _pool("max_pool2d", by_hand.MaxPool),
    "avg_pool2d": _pool("avg_pool2d", by_hand.AvgPool),
    "layer_norm": _norm("layer_norm", by_hand.LayerNorm),
    "rms_norm": _norm("rms_norm", by_hand.RmsNorm),
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "embedding": _tokens,
    "positional_embedding": _in_rows({"positional_embedding": True}, tokens.Positions),
    "prelu": _in_rows({"prelu": True}, tokens.PRelu),
    "dropout": _in_rows({"dropout": 0.4, "seed": 3}, tokens.Dropout),
    "rnn": _in_rows({"rnn": 3}, sequences.Rnn),
    "lstm": _in_rows({"lstm": 3}, sequences.Lstm),
    "gru": _in_rows({"gru": 3}, sequences.Gru),
    "attention": _in_rows({"attention": 2, "causal": True}, sequences.Attention, heads=2),
    "swiglu": _in_rows({"swiglu": 4}, sequences.Swiglu),
}


@dataclass(frozen=True)
class Network:
    """A network of the benchmark with its spec and its right gradients."""

    subject: Subject
    spec: Spec
    problem: Problem

    @classmethod
    def drawn(cls, kind: str, seed: int) -> Network:
        subject = SUBJECTS[kind](np.random.default_rng([seed, list(SUBJECTS).index(kind)]))
        spec = Spec.model_validate(_spec(subject, seed))
        return cls(subject, spec, build_problem(spec))

    @property
    def _mask(self) -> dict[str, np.ndarray]:
        """The mask of dropout, drawn from the seed in the spec."""
        steps = (node.step for node in self.problem.network.graph.nodes)
        masks = [step.mask for step in steps if isinstance(step, Dropout)]
        return {"mask": masks[0]} if masks else {}

    def by_hand(self, mistake: str = "") -> Gradients:
        """Return the gradients of the backprop written by hand, with or without a mistake in `mid`."""
        p, problem = self.problem.parameters, self.problem
        mid = self.subject.hand("mid", p, mistake, **self.subject.options, **self._mask)
        layers = [mid, by_hand.Flatten("flat", p), by_hand.Dense("last", p)]
        if not problem.network.tokens:
            first = by_hand.Conv2d if len(self.subject.inputs) == 3 else by_hand.Dense
            layers = [first("first", p, tanh=True), *layers]
        values = problem.x
        for layer in layers:
            values = layer.forward(values)
        d = 2.0 * (values - problem.target) / len(values)
        for layer in reversed(layers):
            d = layer.backward(d)
        return {name: g for layer in layers for name, g in layer.gradients.items()}


def _spec(subject: Subject, seed: int) -> dict[str, Any]:
    inputs = list(subject.inputs)
    below: list[Any] = [{"units": inputs[-1], "activation": "tanh", "name": "first"}]
    if len(inputs) == 3:
        below = [{"conv2d": inputs[0], "kernel": 1, "activation": "tanh", "name": "first"}]
    if isinstance(subject.layer, dict) and "embedding" in subject.layer:
        below = []
    layers = [*below, {**subject.layer, "name": "mid"}, {"flatten": True}, {"units": 3, "name": "last"}]
    return {
        "network": {"inputs": inputs, "layers": layers, "loss": {"name": "mse", "reduction": "batchmean"}},
        "parameters": {"init": "normal", "scale": 0.6, "seed": seed, "bias": "same"},
        "data": {"synthetic": "normal", "samples": 5, "seed": seed},
    }


FAMILIES: Mapping[str, str] = {variant.wrong.kind: variant.wrong.family.name for variant in VARIANTS}


def examine(kind: str, seed: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Return counts of (kind of layer, outcome) over all mistakes in one network, and a list of misses."""
    network = Network.drawn(kind, seed)
    counts: Counter[tuple[str, str]] = Counter()
    remarks: list[str] = []
    right = network.by_hand()
    ours = gradients(
        network.problem.network, network.problem.parameters, network.problem.x, network.problem.target
    )
    if _differ(right, ours, 1e-9):
        return Counter({(kind, "another gradient"): 1}), [f"{kind} {seed}: the two right gradients differ"]
    checked, looks = network_subject(network.spec, network.problem), Remembered()
    for mistake, kinds in network.subject.hand.MISTAKES.items():
        wrong = network.by_hand(mistake)
        if not _differ(wrong, right, VISIBLE):
            counts[kind, "invisible"] += 1
            continue
        report = _checked(checked, network.spec, wrong, looks)
        if report.verdict is not Verdict.WRONG or report.diagnosis is None:
            counts[kind, "passed"] += 1
            remarks.append(f"{kind} {seed}: '{mistake}' {report.verdict}")
            continue
        outcomes = set(_outcomes(report.diagnosis, kinds, wrong, right))
        counts.update((kind, each) for each in ("planted", *outcomes))
        if "tied" not in outcomes or "right layer blamed" in outcomes:
            remarks.append(f"{kind} {seed}: '{mistake}': {_said(report.diagnosis)}")
    return counts, remarks


def _differ(some: Gradients, others: Gradients, share: float) -> list[str]:
    """Return the tensors that differ by more than a share of their largest entry.

    A tensor far smaller than the largest, such as the bias below a batch normalisation, counts as 0.
    """
    largest = max(float(np.abs(value).max()) for value in others.values())
    return [
        name
        for name, value in others.items()
        if np.abs(some[name] - value).max() > share * max(float(np.abs(value).max()), 1e-6 * largest)
    ]


def _checked(subject: NetworkSubject, spec: Spec, wrong: Gradients, looks: Remembered) -> Any:
    values = {name: np.array(wrong[name]) for name in subject.analytic.values}
    analytic = Analytic(values, subject.analytic.dtypes, "by hand")
    with np.errstate(all="ignore"):
        return replace(subject, analytic=analytic).check(spec.check, looks=looks)


def _outcomes(
    diagnosis: Diagnosis, kinds: Sequence[str], wrong: Gradients, right: Gradients
) -> Iterator[str]:
    answers = [answer.causes for answer in diagnosis.answers]
    named = [len(causes) == 1 and causes[0].kind in kinds for causes in answers]
    if not answers:
        yield "unknown"
    elif named[0]:
        yield "top"
    if any(named):
        yield "tied"
    elif answers and not {cause.family for cause in answers[0]} & {
        FAMILIES.get(kind, kind) for kind in kinds
    }:
        yield "another family"
    off = {name.split(".")[0] for name in _differ(wrong, right, VISIBLE)}
    blamed = {where.split(".")[0] for cause in answers[0] for where in cause.where} if answers else set()
    if (blamed or set(diagnosis.layers)) - off - {"mid"}:
        yield "right layer blamed"


def _said(diagnosis: Diagnosis) -> str:
    answers = [
        " + ".join(f"{c.kind} {list(c.where)}" for c in answer.causes) for answer in diagnosis.answers[:4]
    ]
    return "; ".join(answers) or f"unknown, layers {list(diagnosis.layers)}"


# --- the table ---------------------------------------------------------------------------------------------

COLUMNS = ("planted", "top", "tied", "unknown", "another family", "right layer blamed", "passed", "invisible")


def run(count: int, seed: int, jobs: int) -> bool:
    """Plant every mistake in `count` networks of each kind; return whether a target is missed."""
    each = [(kind, seed + i) for i in range(count) for kind in SUBJECTS]
    print(f"{len(each)} networks of {len(SUBJECTS)} kinds of layer, from seed {seed}")
    total: Counter[tuple[str, str]] = Counter()
    with ProcessPoolExecutor(jobs) as pool:
        for counts, remarks in pool.map(examine, *zip(*each, strict=True)):
            total += counts
            print(*(f"  {remark}" for remark in remarks), sep="\n", end="\n" * bool(remarks), flush=True)
    print(f"\n{'':>20}  " + "  ".join(COLUMNS))
    for kind in [*SUBJECTS, "all"]:
        of = list(SUBJECTS) if kind == "all" else [kind]
        numbers = [sum(total[one, column] for one in of) for column in COLUMNS]
        print(f"{kind:>20}  " + "  ".join(f"{n:>{len(c)}}" for n, c in zip(numbers, COLUMNS, strict=True)))
    return _missed({column: sum(total[one, column] for one in SUBJECTS) for column in COLUMNS})


def _missed(counts: Mapping[str, int]) -> bool:
    planted = max(counts["planted"], 1)
    named, other = counts["tied"] / planted, counts["another family"] / planted
    print(f"\nnamed, ties included: {named:.1%} (at least 95 %); another family: {other:.1%} (at most 1 %)")
    return named < 0.95 or other > 0.01 or counts["right layer blamed"] > 0 or counts["passed"] > 0
