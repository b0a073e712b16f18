"""The base of all right backward passes in plain numpy, in which the pages on mistakes replace a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.mutate.mutated import Mutated
from gradcheck_cli.numerical.looks import Looks, Remembered
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.network import network_subject

Arrays = Mapping[str, np.ndarray]

ARRAYS, GRADIENTS = "arrays.npz", "gradients.npz"
"""The files that a script reads and writes."""


@dataclass(frozen=True)
class OneMistake(Mutated):
    """The gradients of an example, diagnosed as the command does it, but never as two mistakes at once.

    A page needs an example in which its mistake is named alone. A search for pairs takes ten times longer.
    """

    def why(self, comparisons: Sequence[Comparison]) -> Diagnosis:
        return diagnose(comparisons, self.problem, samples=len(self.problem.x), memory=self.memory, most=1)


class Program:
    """A network as a spec and, statement by statement, as a program.

    words: a description with its article.
    functions, constants: the statements that the others need.
    sizes_read: the statement that reads the sizes off the data.
    notation: a sentence on the program's names.
    """

    words: str
    functions: str = ""
    constants: str = ""
    sizes_read: str = "N = len(x)"
    notation: ClassVar[str] = (
        "`delta` is δ = ∂L/∂z, `dL_dw` is ∂L/∂w, and so on. "
        "`_h` marks the hidden layer, and `_k` the layer above it."
    )

    @property
    def given(self) -> Mapping[str, Any]:
        """The spec as an author writes it, without gradients."""
        raise NotImplementedError

    @property
    def names(self) -> Mapping[str, str]:
        """The program's name for each tensor; the name of its gradient has `dL_d` in front."""
        raise NotImplementedError

    @property
    def forward(self) -> Sequence[str]:
        """The statements that compute the output and the loss from x."""
        raise NotImplementedError

    @property
    def backward(self) -> Sequence[str]:
        """The statements that compute every gradient."""
        raise NotImplementedError

    @property
    def target(self) -> str:
        """An expression that turns `given["y"]` into the program's y."""
        return 'given["y"]'

    @cached_property
    def spec(self) -> Spec:
        return Spec.model_validate(self.given)

    @cached_property
    def subject(self) -> OneMistake:
        return OneMistake.of(network_subject(self.spec, build_problem(self.spec)))

    @cached_property
    def looks(self) -> Looks:
        """The finite differences, each taken only once, since they do not depend on the gradient."""
        return Remembered()

    @property
    def problem(self) -> Problem:
        return self.subject.problem

    @cached_property
    def arrays(self) -> Arrays:
        """The data and parameters by the program's names."""
        problem = self.problem
        own = {self.names[name]: value for name, value in problem.parameters.items()}
        return {"x": problem.x, "y": problem.plain_target, **own}

    @cached_property
    def program(self) -> str:
        """The right program."""
        statements = [
            self.sizes_read,
            *filter(None, [self.constants]),
            "",
            "# forward",
            *self.forward,
            "",
            "# backward",
            *self.backward,
        ]
        return f"import numpy as np\n{self.functions}\n" + "\n".join(statements) + "\n"

    @property
    def script(self) -> str:
        """The right program, with statements that first read its arrays and finally save its gradients."""
        start = f"import numpy as np\n{self.functions}\n"
        return f"{start}{self._reading}{self.program.removeprefix(start)}{self._saving}"

    @property
    def _reading(self) -> str:
        lines = [
            f'with np.load("{ARRAYS}") as file:',
            "    given = dict(file)",
            f'x, y = given["x"], {self.target}',
        ]
        own = [(name, own) for name, own in self.names.items() if own != "x"]
        return "\n".join([*lines, *(f'{own} = given["{name}"]' for name, own in own)]) + "\n"

    @property
    def _saving(self) -> str:
        lines = [f'    "{name}": dL_d{own},' for name, own in self.names.items()]
        return "\n".join(["", "gradients = {", *lines, "}", f'np.savez("{GRADIENTS}", **gradients)']) + "\n"
