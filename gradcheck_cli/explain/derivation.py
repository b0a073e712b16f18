"""The parts of a derivation: definitions, lines of the chain rule, and factors with their comparisons."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.report import EXIT_CODES
from gradcheck_cli.types import Shape
from gradcheck_cli.verdict import Verdict, overall


@dataclass(frozen=True)
class Factor:
    """One factor of the derivation: its symbol, its formula, and its comparison with finite differences.

    origin: the origin of the checked array, in a few words.
    given: whether that array comes from the user rather than from gradcheck's own backprop.
    parts: the symbols of the factors in the formula.
    is_gradient: whether the factor is the gradient of a parameter or of an input of the layer.
    can_be_given: whether a gradient file can contain the factor.
    """

    symbol: str
    formula: str
    comparison: Comparison
    origin: str
    given: bool
    parts: tuple[str, ...]
    is_gradient: bool
    can_be_given: bool

    @property
    def verdict(self) -> Verdict:
        return self.comparison.verdict


@dataclass(frozen=True)
class Definition:
    """A value of the layer: its symbol and its formula.

    where: a remark that follows the formula and starts with the word "with"; empty if no remark is needed.
    """

    symbol: str
    formula: str
    where: str


@dataclass(frozen=True)
class Link:
    """A line of the chain rule: ∂L/∂w as a product of factors and as a formula, with the reason.

    through: the factors, such as ∂L/∂a · ∂a/∂z · ∂z/∂w.
    because: the last factor as a formula, such as ∂z/∂w = a⁽ʰ⁾.
    """

    symbol: str
    through: str
    formula: str
    because: str


@dataclass(frozen=True)
class Worked:
    """One entry of a gradient in numbers: a sum of products ∂L/∂out · ∂out/∂entry.

    terms: the largest products, from gradcheck's own backprop.
    count: the number of all products.
    penalty: the derivative of the penalties.
    total: the sum of all products, plus the derivative of the penalties.
    analytic: the entry of the gradient that is checked.
    origin, given: the origin of that gradient, as in `Factor`.
    """

    symbol: str
    index: tuple[int, ...]
    through: str
    terms: tuple[tuple[float, float], ...]
    count: int
    penalty: float
    total: float
    numerical: float
    analytic: float
    origin: str
    given: bool


@dataclass(frozen=True)
class Derivation:
    """The derivation of one layer's gradients, from ∂L/∂output down to the parameters and the inputs.

    layer: the layer's name.
    kind: the spec's key for this kind of layer.
    activation: the name of the layer's activation; empty if the layer has no activation.
    above: the name of the next layer above, which passes ∂L/∂output down; empty for the output layer.
    normalised: whether a batch normalisation lies between z and the activation.
    takes, gives: the shapes of the layer's input and output, including the batch axis.
    """

    layer: str
    kind: str
    activation: str
    above: str
    normalised: bool
    takes: Shape
    gives: Shape
    definitions: tuple[Definition, ...]
    chain: tuple[Link, ...]
    factors: tuple[Factor, ...]
    worked: tuple[Worked, ...]

    @property
    def verdict(self) -> Verdict:
        return overall([factor.verdict for factor in self.factors])

    def unseen(self, factor: Factor) -> tuple[Factor, ...]:
        """Return the factors that `factor` is computed from and that the user's file leaves out.

        Factors that no file can contain are not included. Neither are factors that affect `factor` only
        through a factor in the file.
        """
        reached = self._reached(factor)
        return tuple(f for f in self.factors if f.symbol in reached and not f.given and f.can_be_given)

    def rests_on_others(self, factor: Factor) -> bool:
        """Return whether `factor` is computed from a factor that the user's file leaves out."""
        reached = self._reached(factor)
        return any(f.symbol in reached and not f.given for f in self.factors)

    def _reached(self, factor: Factor) -> set[str]:
        """Return the symbols of all factors that `factor` is computed from, directly or indirectly.

        The search stops at a factor that the user gives.
        """
        reached: set[str] = set()
        for part in (f for f in self.factors if f.symbol in factor.parts and f.symbol not in reached):
            reached |= {part.symbol} | (set() if part.given else self._reached(part))
        return reached


@dataclass(frozen=True)
class Explanation:
    """The derivation of the gradients of one spec, with the output layer first.

    network: a description of the network.
    loss: the name of the network's loss.
    has_weights: whether the loss of sample n is multiplied by a weight wₙ.
    coefficient: the loss's coefficient c, such as 1/N for a mean over N samples.
    notes: one line each about smoothed targets, weighted targets and penalties.
    unusual: warnings about settings that are allowed but rarely intended, and a warning if the gradient file
        holds a loss that differs from the network's.
    whole: the name of the layer to show step by step; empty if all layers are shown in brief.
    """

    network: str
    loss: str
    has_weights: bool
    coefficient: float
    notes: tuple[str, ...]
    unusual: tuple[str, ...]
    layers: tuple[Derivation, ...]
    whole: str

    @property
    def factors(self) -> tuple[Factor, ...]:
        return tuple(factor for derivation in self.layers for factor in derivation.factors)

    @property
    def verdict(self) -> Verdict:
        return overall([factor.verdict for factor in self.factors])

    @property
    def exit_code(self) -> ExitCode:
        return EXIT_CODES[self.verdict]
