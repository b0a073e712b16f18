"""Names that losses, activations, layers and keys have in other tools, each with what to type here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

_CODE = "gradcheck does not know it; to check it as code, see `gradcheck init --source python`"
_NO_TRAINING = "a check trains nothing: remove this key"
_BINARY = "'bce_with_logits' takes logits: use it, and remove the sigmoid of the last layer"
_DENSE = "{units: 10} is a dense layer"
_IS_KEY = "the kind of a layer is its key, as in {units: 10} or {conv2d: 8, kernel: 3}"


def _meant(word: str) -> str:
    return f"did you mean '{word}'?"


_LOSSES: Mapping[str, str] = {
    **dict.fromkeys(("bce", "binarycrossentropy", "logloss", "logistic", "sigmoid"), _BINARY),
    **dict.fromkeys(("mae", "l1norm", "meanabsoluteerror", "absolute"), _meant("l1")),
    **dict.fromkeys(("l2", "mse", "meansquarederror", "squarederror", "quadratic"), _meant("mse")),
    **dict.fromkeys(
        ("ce", "xent", "softmax", "categoricalcrossentropy", "sparsecategoricalcrossentropy"),
        _meant("cross_entropy"),
    ),
    **dict.fromkeys(("negativeloglikelihood", "nll"), _meant("nll")),
    **dict.fromkeys(("kl", "kld", "kldiv"), _meant("kl_div")),
    "svm": _meant("hinge"),
    "ctc": _CODE,
}
_ACTIVATIONS: Mapping[str, str] = {
    "swish": _meant("silu"),
    **dict.fromkeys(("linear", "none", "no"), _meant("identity")),
    "logistic": _meant("sigmoid"),
    "lrelu": _meant("leaky_relu"),
    "gelutanh": "write {name: gelu, approximate: tanh}",
    "logsoftmax": "it is a layer of its own: add '- log_softmax' after this layer",
    "prelu": "it is a layer of its own: add '- prelu' after this layer",
    **dict.fromkeys(("selu", "mish", "relu6", "hardtanh", "hardsigmoid", "hardswish", "celu"), _CODE),
}
_LAYERS: Mapping[str, str] = {
    **dict.fromkeys(("linear", "dense", "fc", "fullyconnected", "affine"), _DENSE),
    **dict.fromkeys(
        ("batchnorm", "batchnorm1d", "batchnorm2d"), "it belongs to a layer: {units: 10, batch_norm: true}"
    ),
    **dict.fromkeys(("conv", "convolution", "conv2d"), _meant("conv2d")),
    **dict.fromkeys(("maxpool", "maxpool2d", "maxpooling2d"), _meant("max_pool2d")),
    **dict.fromkeys(("avgpool", "avgpool2d", "averagepooling2d"), _meant("avg_pool2d")),
}
_NAMES: Mapping[str, Mapping[str, str]] = {"loss": _LOSSES, "activation": _ACTIVATIONS, "layer": _LAYERS}

_RENAMED: Mapping[str, tuple[str, ...]] = {
    "units": ("out_features", "out", "outputs", "hidden", "hidden_size", "neurons", "size", "features"),
    "activation": ("act", "act_fn", "nonlinearity"),
    "batch_norm": ("bn", "batchnorm"),
    "bias": ("use_bias",),
    "parameters": ("tensors", "weights"),
    "rtol": ("tolerance", "tol", "threshold"),
    "scheme": ("method",),
    "step": ("eps", "epsilon", "h", "delta"),
    "inputs": ("input_gradients", "check_inputs", "input_size", "input_dim"),
    "network": ("model", "net", "architecture"),
    "name": ("type", "kind", "class", "class_name", "_target_"),
    "x": ("input", "inputs", "features", "data", "images", "tokens"),
    "y": ("target", "targets", "label", "labels"),
    "penalty": ("regularization", "regularizer", "weight_decay"),
    "negative_slope": ("slope",),
}
"""Maps a key of a spec to what other tools call it."""


class _Key(NamedTuple):
    """Keys that other tools have.

    allowed_too: a key that is allowed at the same place, which identifies the place.
    hint: what to type instead.
    """

    keys: tuple[str, ...]
    allowed_too: str
    hint: str


_UNDER_NETWORK = "it belongs under 'network'"
_FROM_INPUT = "it follows from the layer's input: remove this key"

_KEYS = (
    _Key(
        ("optimizer", "optim", "train", "training", "epochs", "lr", "learning_rate"), "network", _NO_TRAINING
    ),
    _Key(("batch_size", "batch"), "network", "write data: {file: FILE, batch: 100}"),
    _Key(("penalty", "regularization", "weight_decay", "loss", "layers"), "network", _UNDER_NETWORK),
    _Key(("seed",), "network", "it belongs under 'parameters', 'data' or 'check'"),
    _Key(("rtol", "atol", "scheme", "step", "strict", "tolerance"), "network", "it belongs under 'check'"),
    _Key(("device", "gpu", "cuda"), "network", "networks of a spec are checked on the CPU: remove this key"),
    _Key(("defaults", "_self_", "hydra"), "network", "a spec is a single file: remove this key"),
    _Key(("samples",), "rtol", "it belongs under 'data'"),
    _Key(("dtype",), "rtol", "it belongs at the top of the spec, not under 'check'"),
    _Key(("only",), "rtol", "write parameters: [PATTERN], such as ['hidden1.*']"),
    _Key(
        ("_target_", "_partial_"), "layers", "to check your own code, write gradients: {torch: FILE.py:NAME}"
    ),
    _Key(("activation", "act"), "layers", "it belongs to a layer: {units: 10, activation: relu}"),
    _Key(
        ("hidden", "hidden_size", "hidden_layers", "units"),
        "layers",
        "write layers: [{units: 5}, {units: 3}]",
    ),
    _Key(("type", "_target_", "class_name"), "units", _IS_KEY),
    _Key(("in_features", "input_shape", "input_dim", "in_channels"), "activation", _FROM_INPUT),
    _Key(("embed_dim", "d_model", "hidden_dim"), "kv_heads", _FROM_INPUT),
    _Key(("input_size",), "num_layers", _FROM_INPUT),
    _Key(("out_channels", "filters"), "conv1d", "the number after 'conv1d' counts the output channels"),
    _Key(("out_channels", "filters"), "conv2d", "the number after 'conv2d' counts the output channels"),
    _Key(
        ("kernel_initializer", "bias_initializer", "kernel_init", "weight_init", "init", "initializer"),
        "activation",
        "write parameters: {init: NAME} at the top of the spec",
    ),
    _Key(("momentum", "track_running_stats", "affine"), "running_mean", "remove this key"),
    _Key(("num_features",), "running_mean", "the number of features follows from the layer: remove this key"),
    _Key(
        ("normalized_shape",), "layer_norm", "the value of 'layer_norm' is the shape, as in {layer_norm: 8}"
    ),
    _Key(("normalized_shape",), "rms_norm", "the value of 'rms_norm' is the shape, as in {rms_norm: 8}"),
    _Key(
        ("hidden_size", "units"),
        "num_layers",
        "the number after the kind is the hidden size, as in {lstm: 8}",
    ),
    _Key(("batch_first", "time_major"), "num_layers", "samples always come first: remove this key"),
    _Key(
        ("return_sequences", "return_state"),
        "num_layers",
        "the output holds every step; for the last step alone, add '- {select: -1}' after this layer",
    ),
    _Key(("heads", "num_heads"), "kv_heads", "the number after 'attention' counts the heads"),
    _Key(("num_embeddings", "input_dim"), "padding_idx", "the number after 'embedding' counts the tokens"),
    _Key(
        ("from_logits",), "label_smoothing", "cross_entropy and bce_with_logits take logits: remove this key"
    ),
    _Key(("p", "rate"), "inverted", "the number after 'dropout' is p"),
    _Key(("training", "deterministic"), "inverted", "a check always drops entries: remove this key"),
    _Key(("units",), "inverted", "dropout is a layer of its own: add '- {dropout: 0.5}' after this layer"),
)


def folded(word: str) -> str:
    """Return a name in lower case, without a package, punctuation or the word "loss"."""
    plain = word.rsplit(".", 1)[-1].lower().replace("_", "").replace("-", "").replace(" ", "")
    return plain.removesuffix("loss") or plain


def help_for_name(kind: str, word: object) -> str | None:
    """Return what to type for a loss, an activation or a layer that another tool has; None if unknown."""
    return _NAMES[kind].get(folded(word)) if isinstance(word, str) and kind in _NAMES else None


def renamed(key: object, keys: Collection[str]) -> str | None:
    """Return which of the allowed keys has this name in other tools; None if no key has."""
    return next((ours for ours, theirs in _RENAMED.items() if key in theirs and ours in keys), None)


def help_for_key(key: object, keys: Collection[str]) -> str | None:
    """Return what to type instead of a key that other tools have; None if the key is unknown.

    keys: the keys that are allowed at the same place.
    """
    hint = next((row.hint for row in _KEYS if key in row.keys and row.allowed_too in keys), None)
    ours = renamed(key, keys)
    return hint or (_meant(ours) if ours else None)
