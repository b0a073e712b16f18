"""The pages on patterns of functions: each is shown in a small function instead of a network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent

from gradcheck_cli import check, load_spec
from gradcheck_cli.diagnose.diagnosis import Cause
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.wrong_functions import PATTERNS
from gradcheck_cli.formats import render
from gradcheck_cli.formats.view import View
from gradcheck_cli.report import Outcome, Report, Run
from mistake_pages.edit import Edit

SPEC, CODE = "function.yaml", "function.py"
COMMAND = f"gradcheck check {SPEC}"

_IN_NUMPY = """\
import numpy as np

{data}
parameters = {{"w": {w}}}


def loss_and_gradients(parameters):
    w = parameters["w"]
{body}
    return loss, {{"w": dL_dw}}
"""

_IN_TORCH = """\
import torch

{data}


def function(w):
{body}
    return gate * h


def build():
    return function, {{"w": {w}}}
"""

_OF_TWO = """\
import numpy as np

{data}
parameters = {{"x": np.cos(np.arange(6)).reshape(2, 3), "w": {w}}}


def loss_and_gradients(parameters):
    x, w = parameters["x"], parameters["w"]
{body}
    return loss, {{"x": dL_dx, "w": dL_dw}}
"""

_OF_LAYER = """\
import numpy as np

inputs = {{"w": {w}}}


def cell_forward(w):
    c = np.sin(w)
    return np.tanh(c), c, (w, c)


def cell_backward(dh, dc, cache):
    w, c = cache
{body}
    return {{"w": dL_dw}}
"""

_COMPLEX = """\
import torch

{data}


def gradients(upstream, x, w):
{body}
    return dL_dx, dL_dw


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, upstream):
        return gradients(upstream, *ctx.saved_tensors)


def build():
    return Product.apply, {{"x": x, "w": {w}}}
"""


@dataclass(frozen=True)
class Function:
    """A right function in which a page plants its pattern.

    words: a description of the function.  data: the statements before the function.
    w: the value of its parameter.  body: the statements of the function.
    template: the text of the file around them.  spec: the text of the spec.
    """

    words: str
    w: str
    body: str
    data: str = ""
    template: str = _IN_NUMPY
    spec: str = f"gradients: {{python: {CODE}:loss_and_gradients}}"

    def file(self, body: str) -> str:
        """Return the text of the file with these statements in the function."""
        text = self.template.format(data=self.data, w=self.w, body=indent(body.rstrip(), "    "))
        return text.replace("\n\n\nparameters", "\n\nparameters").replace("\n\n\n\ndef", "\n\n\ndef")

    def report(self, body: str) -> Report:
        """Check the function with these statements."""
        with TemporaryDirectory() as folder, chdir(folder):
            Path(SPEC).write_text(self.spec, encoding="utf-8")
            Path(CODE).write_text(self.file(body), encoding="utf-8")
            return check(load_spec(SPEC))


_SYMMETRIC = "np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 3.0]])"
_TRIANGLE = """\
s = np.tril(w) + np.tril(w, -1).T
loss = np.log(np.linalg.det(s))
dL_ds = np.linalg.inv(s)
dL_dw = np.tril(dL_ds) + np.tril(dL_ds.T, -1)"""
_WEIGHTED = "c = np.cos(np.arange({size})).reshape({shape})"
_TANH = """\
loss = (c * np.tanh(w)).sum()
dL_dw = c / np.cosh(w) ** 2"""

_STEPS = Function(
    "a dense layer whose weights are rounded to their signs",
    w="np.array([0.7, -0.4])",
    data="x = np.array([[0.5, -1.0], [1.5, 2.0], [-0.5, 1.0]])\ny = np.array([1.0, -1.0, 0.5])",
    body="a = x @ np.sign(w)\nloss = ((a - y) ** 2).sum()\ndL_dw = np.zeros_like(w)",
)
_ONE_TRIANGLE = Function(
    "the log-determinant of a symmetric matrix, of which only the lower triangle is read",
    w=_SYMMETRIC,
    body=_TRIANGLE,
)
_LOGDET = Function(
    "the log-determinant of a symmetric matrix",
    w=_SYMMETRIC,
    body="loss = np.log(np.linalg.det(w))\ndL_dw = np.linalg.inv(w).T",
)
_SUM = Function(
    "a function of the sum of a matrix and its transpose",
    w="np.array([[0.2, -0.5], [0.9, 0.4]])",
    data=_WEIGHTED.format(size=4, shape="2, 2"),
    body="s = w + w.T\nloss = (c * np.tanh(s)).sum()\ndL_ds = c / np.cosh(s) ** 2\ndL_dw = dL_ds + dL_ds.T",
)
_TENSOR = Function(
    "a weighted sum over a tensor with three axes",
    w="np.sin(np.arange(18)).reshape(2, 3, 3)",
    data=_WEIGHTED.format(size=18, shape="2, 3, 3"),
    body=_TANH,
)
_GATE = Function(
    "a gated layer in torch",
    w="torch.tensor([[0.7, -0.4], [0.2, 0.9]], dtype=torch.float64)",
    data="x = torch.tensor([[0.5, -1.0], [1.5, 2.0], [-0.5, 1.0]], dtype=torch.float64)",
    body="h = torch.tanh(x @ w.T)\ngate = torch.sigmoid(h)",
    template=_IN_TORCH,
    spec=f"gradients: {{torch: {CODE}:build}}",
)

_REGRESSION = Function(
    "a linear regression with one loss per sample",
    w="np.array([0.7, -0.4])",
    data="x = np.cos(np.arange(12)).reshape(6, 2)\ny = np.sin(np.arange(6))",
    body="e = x @ w - y\nloss = 0.5 * e**2\ndL_dw = e @ x",
)
_CELL = Function(
    "a layer with two outputs, h = tanh(c) and c itself, as in an LSTM cell",
    w="np.cos(np.arange(4.0))",
    body="dL_dc = dc + dh / np.cosh(c) ** 2\ndL_dw = dL_dc * np.cos(w)",
    template=_OF_LAYER,
    spec=f"gradients: {{python: {CODE}, forward: cell_forward, backward: cell_backward}}",
)
_KEPT = Function(
    "a function that keeps its gradient for later calls",
    w="np.array([0.7, -0.4, 0.2])",
    data="kept = {}\n" + _WEIGHTED.format(size=3, shape="3"),
    body=_TANH,
)

_LAYER = Function(
    "a dense layer in which the gradient of the input is checked, too",
    w="np.sin(np.arange(9) ** 2).reshape(3, 3)",
    data=_WEIGHTED.format(size=6, shape="2, 3"),
    body="""\
a = x @ w.T
loss = (c * np.tanh(a)).sum()
dL_da = c / np.cosh(a) ** 2
dL_dx = dL_da @ w
dL_dw = dL_da.T @ x""",
    template=_OF_TWO,
)
_PRODUCT = Function(
    "a product of complex tensors in torch",
    w="torch.tensor([0.7 - 0.4j, 0.2 + 0.9j, -0.5 + 0.3j, 1.0 + 0.6j])",
    data="x = torch.tensor([0.5 + 0.2j, -1.0 + 0.7j, 1.5 - 0.4j, 0.3 + 1.1j])",
    body="dL_dx = upstream * w.conj()\ndL_dw = upstream * x.conj()",
    template=_COMPLEX,
    spec=f"gradients: {{torch: {CODE}:build}}",
)

_SHOWN_IN = (
    _STEPS, _GATE, _REGRESSION, _CELL, _KEPT, _ONE_TRIANGLE, _LOGDET, _ONE_TRIANGLE, _LAYER, _PRODUCT, _SUM,
    _TENSOR, _TENSOR,
)  # fmt: skip
"""The function in which each row of `PATTERNS` is shown."""


@dataclass(frozen=True)
class Pattern:
    """A pattern, shown in a function."""

    wrong: Wrong
    function: Function

    @property
    def edit(self) -> Edit:
        return Edit(self.function.body, self.wrong.code)

    @property
    def file(self) -> str:
        """The text of the file with the mistake."""
        return self.function.file(self.edit.result)

    @property
    def lines(self) -> tuple[int, int]:
        """The first and the last line of the mistake in the file, counted from 1."""
        start = self.file.split(indent(self.edit.result.rstrip(), "    "))[0].count("\n")
        return start + self.edit.lines[0], start + self.edit.lines[1]

    @cached_property
    def report(self) -> Report:
        return self.function.report(self.edit.result)

    @property
    def cause(self) -> Cause:
        """The cause that the check names."""
        assert self.report.diagnosis is not None
        return self.report.diagnosis.answers[0].causes[0]

    @property
    def output(self) -> str:
        """The output of the command."""
        text = render("table", Run((Outcome(SPEC, self.report),)), View(width=88))
        return f"$ {COMMAND}\n{text.rstrip()}"


def shown() -> Sequence[Pattern]:
    """Return every pattern that can be shown here. Some of them need torch."""
    found = (Pattern(row, function) for row, function in zip(PATTERNS, _SHOWN_IN, strict=True))
    return [each for each in found if "torch" not in each.function.template or find_spec("torch")]
