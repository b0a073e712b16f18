"""The network section of a spec: layers, loss and penalties."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.spec.layers import AnyLayer, ParametricLayer, in_order
from gradcheck_cli.spec.layers.fixed import FixedArray
from gradcheck_cli.spec.model import (
    Kinds,
    Model,
    NotNegative,
    Positive,
    Size,
    named,
    names_in_schema,
    one_of,
    own_options_in_schema,
    refuse_foreign_options,
)

_LossName = Annotated[str, one_of(LOSSES, "loss"), names_in_schema(LOSSES)]


def _options_of_loss(name: str) -> tuple[str, ...]:
    return LOSSES[name].settings


_Weights = Annotated[tuple[NotNegative, ...], Field(strict=False, min_length=1)]


def _is_list(value: object) -> str:
    return "list of numbers" if isinstance(value, (list, tuple)) else "number"


_PosWeight = Annotated[
    NotNegative | _Weights, Kinds({"number": NotNegative, "list of numbers": _Weights}, _is_list)
]


class LossSpec(Model):
    """A loss, its reduction and its options, with PyTorch's names.

    name: The loss. Losses that take logits in PyTorch take logits here too: leave the activation of the
        output layer at identity. kl_div and nll take log-probabilities. dot is Σ y · a, where y is an
        upstream gradient. triplet splits the outputs into anchor, positive and negative; contrastive splits
        them into two embeddings (y is 1 for a similar pair); kl_gaussian splits them into mu and logvar, and
        gaussian_nll into mean and var (y has a number for each mean).
    reduction: `batchmean` averages over samples, `mean` averages over samples and outputs, and `sum` adds
        everything up. For a loss with one term per sample, such as cross_entropy or cosine, `batchmean` and
        `mean` are the same.
    scale: A factor that multiplies the loss, such as 0.5.
    delta: The error at which huber changes from quadratic to linear.
    beta: The error at which smooth_l1 changes from quadratic to linear.
    alpha: The weight of positive targets in focal; negative targets get 1 − alpha. A value below 0 turns the
        weights off.
    gamma: The exponent of focal. A larger exponent makes outputs that are already right count less.
    smooth: The number that dice adds to its numerator and denominator.
    p: The exponent of multi_margin.
    margin: The margin of triplet, contrastive and multi_margin. For the first two, it is a distance.
    eps: The smallest vector length that cosine divides by; for gaussian_nll, the smallest variance; for
        triplet, the number added to each difference, which may be 0.
    label_smoothing: The share of the target that cross_entropy spreads evenly over all classes.
    pos_weight: The weight of positive targets in bce_with_logits, as one number or one for each output.
    weight: The weights of the classes in cross_entropy, nll and multi_margin.
    sample_weight: The weight of each sample's loss, [samples]. A mean still divides by the number of samples.
    ignore_index: The label of samples that cross_entropy and nll leave out of the loss and of its mean.
    """

    model_config = ConfigDict(json_schema_extra=own_options_in_schema(LOSSES, _options_of_loss))

    name: _LossName
    reduction: Literal["batchmean", "mean", "sum"] = "batchmean"
    scale: Positive = 1.0
    delta: Positive = 1.0
    beta: Positive = 1.0
    alpha: Annotated[float, Field(ge=-1, le=1)] = 0.25
    gamma: NotNegative = 2.0
    smooth: NotNegative = 1.0
    p: Literal[1, 2] = 1
    margin: Positive = 1.0
    eps: NotNegative = 1e-8
    label_smoothing: Annotated[float, Field(ge=0, le=1)] = 0.0
    pos_weight: _PosWeight = 1.0
    weight: Annotated[tuple[NotNegative, ...], Field(strict=False, min_length=1)] | None = None
    sample_weight: FixedArray | None = None
    ignore_index: Annotated[int, Field(ge=-(2**53), le=2**53)] = -100

    @model_validator(mode="after")
    def _own_options_only(self) -> LossSpec:
        refuse_foreign_options(self, _options_of_loss(self.name), self.name)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options of the loss's formula. An option that is not set has the default of this loss."""
        defaults = LOSSES[self.name].options
        return {**defaults, **self.model_dump(include=set(defaults), exclude_unset=True)}

    @property
    def ignored(self) -> tuple[int, ...]:
        """The labels whose samples the loss leaves out."""
        return (self.ignore_index,) if "ignore_index" in LOSSES[self.name].of_target else ()


class PenaltySpec(Model):
    """The penalty ½ · l2 · Σ w² + l1 · Σ |w| over the weights and, optionally, the biases.

    l2: The factor of ½ Σ w², also known as weight decay.
    l1: The factor of Σ |w|.
    biases: Whether to penalise the biases, too.
    """

    l2: NotNegative = 0.0
    l1: NotNegative = 0.0
    biases: bool = False

    @property
    def strengths(self) -> dict[str, float]:
        return {
            name: factor for name, factor in self.model_dump(include=set(PENALTIES)).items() if factor > 0
        }


def _is_shape(value: object) -> str:
    return "shape" if isinstance(value, (list, tuple)) else "number of inputs"


_Shape = Annotated[tuple[Size, ...], Field(strict=False, min_length=1, max_length=4)]

NetworkInputs = Annotated[Size | _Shape, Kinds({"number of inputs": Size, "shape": _Shape}, _is_shape)]


class NetworkSpec(Model):
    """A network: its layers, its loss and its penalties.

    inputs: The number of inputs, or the shape of one sample: [channels, height, width] for images,
        [steps, features] for sequences.
    layers: The layers from input to output. The last one is the output layer.
    loss: A name, or a mapping with the name, reduction, scale and options.
    penalty: A penalty on large weights, added to the loss.
    """

    inputs: NetworkInputs
    layers: Annotated[tuple[AnyLayer, ...], Field(strict=False, min_length=1, max_length=1000)]
    loss: Annotated[LossSpec, BeforeValidator(named, json_schema_input_type=_LossName | LossSpec)]
    penalty: PenaltySpec = PenaltySpec.model_construct()

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one sample of x."""
        return self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)

    @property
    def names(self) -> dict[tuple[str | int, ...], str]:
        """The name of every layer, by its place in the spec.

        A layer without a name of its own gets its kind and a number, such as lstm1. Dense layers and
        convolutions are called hidden1, hidden2, …; if the last layer is one of these, it is called output.
        """
        counts: Counter[str] = Counter()
        names: dict[tuple[str | int, ...], str] = {}
        for place, layer in in_order(self.layers):
            counts[layer.default_name] += 1
            names[place] = layer.name or f"{layer.default_name}{counts[layer.default_name]}"
        last = self.layers[-1]
        if isinstance(last, ParametricLayer):
            names[len(self.layers) - 1,] = last.name or "output"
        return names
