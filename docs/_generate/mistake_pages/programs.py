"""Right backward passes in plain numpy: the programs in which the pages on mistakes replace a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mistake_pages.program import Program

PARAMETERS = {
    "output.weight": "w",
    "output.bias": "b",
    "hidden2.weight": "w_k",
    "hidden2.bias": "b_k",
    "hidden1.weight": "w_h",
    "hidden1.bias": "b_h",
    "hidden1.gamma": "gamma",
    "hidden1.beta": "beta",
}
"""What a program calls each parameter; its gradient is `dL_d` and that name."""

SIGMOID = "\n\ndef sigmoid(z):\n    return 1 / (1 + np.exp(-z))\n\n"
_SOFTMAX = """

def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)

"""
MSE = "dL_da = 2 * (a - y) / (N * C)"
TANH = "delta_h = dL_da_h * (1 - a_h**2)"


@dataclass(frozen=True)
class Example(Program):
    """A network with one hidden layer, as a spec and, statement by statement, as a program.

    words: a description with its article.
    layer, outer, loss_spec: the hidden layer, the output's activation and the loss in the spec.
    hidden, output, loss: the statements that compute a_h, a and the loss.
    dL_da, delta, delta_h: the statements that compute these.
    functions, constants: the statements that the others need.
    penalty: the term that is added to the gradient of the weight {w}.
    sizes: the numbers of samples, inputs, hidden units and outputs.
    network, data: more keys of these sections of the spec.
    """

    words: str
    layer: Any
    outer: str
    loss_spec: Any
    hidden: str
    output: str
    loss: str
    dL_da: str
    delta: str
    delta_h: str
    functions: str = ""
    constants: str = ""
    penalty: str = ""
    sizes: tuple[int, int, int, int] = (11, 4, 5, 3)
    sizes_read: str = "N, C = y.shape"
    network: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> int | list[int]:
        """The `inputs` of the spec."""
        return self.sizes[1]

    @property
    def layers(self) -> Sequence[Any]:
        """The `layers` of the spec."""
        _, _, hidden, outputs = self.sizes
        layer = self.layer if isinstance(self.layer, dict) else {"activation": self.layer}
        return [{"units": hidden, **layer}, {"units": outputs, "activation": self.outer}]

    @property
    def given(self) -> Mapping[str, Any]:
        """The spec as an author writes it, without gradients."""
        network = {"inputs": self.features, "layers": self.layers, "loss": self.loss_spec, **self.network}
        return {
            "network": network,
            "parameters": {"init": "xavier", "scale": 2.0, "seed": 1, "bias": "same"},
            "data": {"synthetic": "normal", "samples": self.sizes[0], "seed": 2, **self.data},
        }

    @property
    def names(self) -> Mapping[str, str]:
        return {name: PARAMETERS[name] for name in PARAMETERS if name in self.problem.parameters}

    @property
    def target(self) -> str:
        y = 'given["y"]'
        if self.problem.network.loss.target in ("nothing", "pairs"):
            return f"{y}[:, None]"
        return f"np.eye({self.sizes[-1]})[{y}]" if self.problem.y.ndim == 1 else y

    @property
    def forward(self) -> Sequence[str]:
        return [*self.up_to_output, f"loss = {self.loss}"]

    @property
    def up_to_output(self) -> Sequence[str]:
        """The statements that compute a from x."""
        return ["z_h = x @ w_h.T + b_h", self.hidden, "z = a_h @ w.T + b", self.output]

    @property
    def backward(self) -> Sequence[str]:
        """The statements that compute every gradient."""
        return [
            self.dL_da,
            self.delta,
            f"dL_dw = delta.T @ a_h{self.penalty.format(w='w')}",
            "dL_db = delta.sum(axis=0)",
            "dL_da_h = delta @ w",
            self.delta_h,
            f"dL_dw_h = delta_h.T @ x{self.penalty.format(w='w_h')}",
            "dL_db_h = delta_h.sum(axis=0)",
        ]


_SMALL = {"hidden": "a_h = np.tanh(z_h)", "delta_h": TANH, "layer": "tanh"}
LOGITS = {**_SMALL, "outer": "identity", "delta": "delta = dL_da"}

DENSE: tuple[Example, ...] = (
    Example(
        "a network of sigmoid units with the mean squared error",
        layer="sigmoid",
        outer="sigmoid",
        loss_spec={"name": "mse", "reduction": "mean"},
        functions=SIGMOID,
        hidden="a_h = sigmoid(z_h)",
        output="a = sigmoid(z)",
        loss="((a - y) ** 2).mean()",
        dL_da=MSE,
        delta="delta = dL_da * a * (1 - a)",
        delta_h="delta_h = dL_da_h * a_h * (1 - a_h)",
    ),
    Example(
        "a tanh network with as many samples as inputs, hidden units and outputs",
        outer="tanh",
        loss_spec={"name": "mse", "reduction": "mean"},
        output="a = np.tanh(z)",
        loss="((a - y) ** 2).mean()",
        dL_da=MSE,
        delta="delta = dL_da * (1 - a**2)",
        sizes=(4, 4, 4, 4),
        **_SMALL,
    ),
    Example(
        "a network of leaky_relu units with negative_slope 0.1",
        layer={"activation": {"name": "leaky_relu", "negative_slope": 0.1}},
        outer="identity",
        loss_spec={"name": "mse", "reduction": "mean"},
        hidden="a_h = np.where(z_h > 0, z_h, 0.1 * z_h)",
        output="a = z",
        loss="((a - y) ** 2).mean()",
        dL_da=MSE,
        delta="delta = dL_da",
        delta_h="delta_h = dL_da_h * np.where(z_h > 0, 1, 0.1)",
    ),
    Example(
        "a network of relu units with the mean squared error",
        layer="relu",
        outer="identity",
        loss_spec={"name": "mse", "reduction": "mean"},
        hidden="a_h = np.maximum(z_h, 0)",
        output="a = z",
        loss="((a - y) ** 2).mean()",
        dL_da=MSE,
        delta="delta = dL_da",
        delta_h="delta_h = dL_da_h * (z_h > 0)",
    ),
    Example(
        "a network with a softmax output and the mean squared error",
        outer="softmax",
        loss_spec={"name": "mse", "reduction": "mean"},
        functions=_SOFTMAX,
        output="a = softmax(z)",
        loss="((a - y) ** 2).mean()",
        dL_da=MSE,
        delta="delta = a * (dL_da - (dL_da * a).sum(axis=1, keepdims=True))",
        **_SMALL,
    ),
    Example(
        "a classifier with cross-entropy",
        loss_spec="cross_entropy",
        functions=_SOFTMAX,
        output="a = z\np = softmax(a)",
        loss="-(y * np.log(p)).sum() / N",
        dL_da="dL_da = (p - y) / N",
        **LOGITS,
    ),
    Example(
        "a classifier with cross-entropy, label smoothing and class weights",
        loss_spec={"name": "cross_entropy", "label_smoothing": 0.1, "weight": [0.5, 1.0, 2.0]},
        functions=_SOFTMAX,
        constants=(
            "weight = np.array([0.5, 1.0, 2.0])\n"
            "smooth = 0.9 * y + 0.1 / C\n"
            "q = weight * smooth\n"
            "total = (y * weight).sum()"
        ),
        output="a = z\np = softmax(a)",
        loss="-(q * np.log(p)).sum() / total",
        dL_da="dL_da = (p * q.sum(axis=1, keepdims=True) - q) / total",
        **LOGITS,
    ),
    Example(
        "a classifier whose samples have weights",
        loss_spec={"name": "cross_entropy", "sample_weight": [1, 2, 0.5, 3, 1, 0.2, 1, 2, 0.7, 1, 4]},
        functions=_SOFTMAX,
        constants="weight = np.array([1, 2, 0.5, 3, 1, 0.2, 1, 2, 0.7, 1, 4])[:, None]",
        output="a = z\np = softmax(a)",
        loss="-(weight * y * np.log(p)).sum() / N",
        dL_da="dL_da = weight * (p - y) / N",
        **LOGITS,
    ),
    Example(
        "a classifier that ignores samples with label 2",
        loss_spec={"name": "cross_entropy", "ignore_index": 2},
        functions=_SOFTMAX,
        constants="y = y * np.array([1, 1, 0])\ncounts = y.sum(axis=1, keepdims=True)",
        output="a = z\np = softmax(a)",
        loss="-(y * np.log(p)).sum() / counts.sum()",
        dL_da="dL_da = (p * counts - y) / counts.sum()",
        **LOGITS,
    ),
    Example(
        "a network that returns embeddings, with the triplet loss",
        loss_spec={"name": "triplet", "eps": 0},
        output=(
            "a = z\n"
            "anchor, positive, negative = np.split(a, 3, axis=1)\n"
            "u, v = anchor - positive, anchor - negative\n"
            "d_u, d_v = (np.sqrt((each**2).sum(axis=1, keepdims=True)) for each in (u, v))\n"
            "over = 1 + d_u - d_v > 0\n"
            "u, v = over * u / d_u, over * v / d_v"
        ),
        loss="np.maximum(0, 1 + d_u - d_v).sum() / N",
        dL_da="dL_da = np.concatenate([u - v, -u, v], axis=1) / N",
        sizes=(11, 4, 5, 6),
        **LOGITS,
    ),
    Example(
        "an encoder with the divergence of a Gaussian",
        loss_spec="kl_gaussian",
        output="a = z\nmu, logvar = np.split(a, 2, axis=1)",
        loss="(mu**2 + np.exp(logvar) - 1 - logvar).sum() / 2 / N",
        dL_da="dL_da = np.concatenate([mu, (np.exp(logvar) - 1) / 2], axis=1) / N",
        sizes=(11, 4, 5, 6),
        **LOGITS,
    ),
    Example(
        "a network that returns logits, with binary cross-entropy",
        loss_spec="bce_with_logits",
        functions=SIGMOID,
        output="a = z\np = sigmoid(a)",
        loss="-(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() / N",
        dL_da="dL_da = (p - y) / N",
        **LOGITS,
    ),
    Example(
        "a classifier with the multi-class hinge loss",
        loss_spec="hinge",
        output=(
            "a = z\nmargins = a - (a * y).sum(axis=1, keepdims=True) + 1\nover = (margins > 0) * (1 - y)"
        ),
        loss="(margins * over).sum() / N",
        dL_da="dL_da = (over - y * over.sum(axis=1, keepdims=True)) / N",
        **LOGITS,
    ),
    Example(
        "a network with the Huber loss, whose delta is 0.4",
        loss_spec={"name": "huber", "delta": 0.4},
        output="a = z",
        loss="np.where(np.abs(a - y) <= 0.4, (a - y) ** 2 / 2, 0.4 * (np.abs(a - y) - 0.2)).sum() / N",
        dL_da="dL_da = np.clip(a - y, -0.4, 0.4) / N",
        **LOGITS,
    ),
    Example(
        "a network with batch normalisation",
        layer={"activation": "tanh", "batch_norm": {"eps": 0.001}},
        outer="identity",
        loss_spec={"name": "mse", "reduction": "mean"},
        constants="eps = 0.001",
        hidden=(
            "deviation = np.sqrt(z_h.var(axis=0) + eps)\n"
            "z_hat = (z_h - z_h.mean(axis=0)) / deviation\n"
            "y_h = gamma * z_hat + beta\n"
            "a_h = np.tanh(y_h)"
        ),
        output="a = z",
        loss="((a - y) ** 2).mean()",
        dL_da=MSE,
        delta="delta = dL_da",
        delta_h=(
            "dL_dy_h = dL_da_h * (1 - a_h**2)\n"
            "g = gamma * dL_dy_h\n"
            "delta_h = (g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / deviation\n"
            "dL_dgamma = (dL_dy_h * z_hat).sum(axis=0)\n"
            "dL_dbeta = dL_dy_h.sum(axis=0)"
        ),
    ),
    Example(
        "a network with l1 and l2 penalties on its weights",
        outer="identity",
        loss_spec={"name": "mse", "reduction": "mean"},
        constants="l1, l2 = 0.02, 0.1",
        output="a = z",
        loss=(
            "((a - y) ** 2).mean()\n"
            "loss += sum(l1 * np.abs(each).sum() + l2 * (each**2).sum() / 2 for each in (w, w_h))"
        ),
        dL_da=MSE,
        delta="delta = dL_da",
        penalty=" + l2 * {w} + l1 * np.sign({w})",
        network={"penalty": {"l1": 0.02, "l2": 0.1}},
        **_SMALL,
    ),
    Example(
        "a network of softplus units with large pre-activations",
        layer="softplus",
        outer="identity",
        loss_spec={"name": "mse", "reduction": "mean"},
        functions=SIGMOID,
        hidden="a_h = np.logaddexp(0, z_h)",
        output="a = z",
        loss="((a - y) ** 2).mean()",
        dL_da=MSE,
        delta="delta = dL_da",
        delta_h="delta_h = dL_da_h * sigmoid(z_h)",
        data={"scale": 1000.0},
    ),
)
"""The networks of dense layers, from the plainest on."""
