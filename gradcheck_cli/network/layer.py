"""A layer as the spec describes it: a step, then optional batch normalisation, then an activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gradcheck_cli.network.activations import Activation
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Shape


@dataclass(frozen=True)
class Layer:
    """A layer with parameters `<name>.weight` and `.bias`, and `.gamma` and `.beta` if it is normalised.

    step: computes z from an input whose samples have the shape `features`.
    activation: a row of `ACTIVATIONS`; identity if the spec names none.
    batch_norm: the eps of the layer's batch normalisation; None if the layer is not normalised.
    unbiased: whether batch normalisation of N samples divides their variance by N − 1 instead of N.
    before: steps without parameters between the layer below and this one, such as flatten.
    """

    name: str
    step: Step
    features: Shape
    activation: Activation
    batch_norm: float | None = None
    before: tuple[Step, ...] = ()
    unbiased: bool = False

    @property
    def out(self) -> Shape:
        """The shape of one sample of the layer's output."""
        return self.step.out(self.features)

    @property
    def units(self) -> int:
        """The number of the layer's units or, for images, of its output channels."""
        return self.out[self.step.channel]

    @property
    def inputs(self) -> int:
        """The number of the layer's inputs or, for images, of its input channels."""
        return self.features[self.step.channel]

    @property
    def weight(self) -> str:
        return f"{self.name}.weight"

    @property
    def bias(self) -> str:
        return f"{self.name}.bias"

    @property
    def gamma(self) -> str:
        return f"{self.name}.gamma"

    @property
    def beta(self) -> str:
        return f"{self.name}.beta"

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of each of the layer's parameters, by name in the network."""
        return {f"{self.name}.{own}": shape for step in self.steps for own, shape in step.shapes.items()}

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps of the layer, from its input up."""
        return (*self.before, *self.own_steps)

    @property
    def own_steps(self) -> tuple[Step, ...]:
        """The steps of the layer, starting with the step that computes z.

        The steps in `before` are left out.
        """
        return (self.step, *self._normalisation(), Pointwise(self.activation))

    def _normalisation(self) -> Iterator[Step]:
        if self.batch_norm is not None:
            channel = self.step.channel
            norm = Normalise.over_batch(self.batch_norm, len(self.out), channel)
            yield replace(norm, unbiased=self.unbiased)
            yield Scale.of_channels(self.out, channel)
