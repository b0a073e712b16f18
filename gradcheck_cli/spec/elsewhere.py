"""Names that losses, activations, layers and keys have in other tools, each with what to type here."""

from __future__ import annotations

from collections.abc import Collection, Mapping

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
    "name": ("type", "kind", "class"),
    "penalty": ("regularization", "regularizer", "weight_decay"),
    "negative_slope": ("slope",),
}
"""Maps a key of a spec to what other tools call it."""

_KEYS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("optimizer", "optim", "train", "training", "epochs", "lr", "learning_rate"),
        ("network", _NO_TRAINING),
    ),
    **dict.fromkeys(("batch_size", "batch"), ("network", "write data: {file: FILE, batch: 100}")),
    **dict.fromkeys(("penalty", "regularization", "weight_decay"), ("network", "it belongs under 'network'")),
    "loss": ("network", "it belongs under 'network'"),
    "layers": ("network", "it belongs under 'network'"),
    "seed": ("network", "it belongs under 'parameters', 'data' or 'check'"),
    "samples": ("rtol", "it belongs under 'data'"),
    "dtype": ("rtol", "it belongs at the top of the spec, not under 'check'"),
    "type": ("units", _IS_KEY),
    "only": ("rtol", "write parameters: [PATTERN], such as ['hidden1.*']"),
    "hidden_size": ("num_layers", "the number after the kind is the hidden size, as in {lstm: 8}"),
    **dict.fromkeys(("heads", "num_heads"), ("kv_heads", "the number after 'attention' counts the heads")),
    "p": ("inverted", "the number after 'dropout' is p"),
    "units": ("inverted", "dropout is a layer of its own: add '- {dropout: 0.5}' after this layer"),
}
"""Maps a key to a key that is allowed at the same place, which identifies the place, and a hint."""


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
    allowed_too, hint = _KEYS.get(str(key), ("", ""))
    if allowed_too in keys:
        return hint
    ours = renamed(key, keys)
    return _meant(ours) if ours else None
