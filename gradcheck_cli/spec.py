"""The spec: what to check and how, as frozen models. They are also its JSON Schema.

A line `key: …` of a model's docstring describes that key, here as in the schema; see `schema.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from gradcheck_cli.errors import closest
from gradcheck_cli.model.activations import ACTIVATIONS
from gradcheck_cli.model.losses import LOSSES
from gradcheck_cli.model.parameters import INITIALISERS
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES

MAX_SIZE = 1_000_000
MAX_NUMBERS = 250_000_000
"""2 GB of float64: the parameters, a batch and its activations may each hold no more numbers than this."""


class Model(BaseModel):
    """Base class of all sections of a spec: frozen, strict, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # until one is validated: most are parts of others
    )


def _one_of(table: Mapping[str, Any], kind: str) -> AfterValidator:
    """Accepts a name in `table`; the error lists what there is."""

    def check(name: str) -> str:
        if name not in table:
            raise PydanticCustomError(
                "unknown_name",
                "unknown {kind} '{name}'; there is {known}",
                {"kind": kind, "name": name, "known": ", ".join(table), "names": list(table)},
            )
        return name

    return AfterValidator(check)


def _enum(table: Mapping[str, Any]) -> Any:
    return Field(json_schema_extra={"enum": list(table)})


def _named(value: object) -> object:
    """`tanh` is short for `{name: tanh}`."""
    if not isinstance(value, (str, dict, Model)):
        raise PydanticCustomError("name_type", "a name or a mapping is needed here")
    return {"name": value} if isinstance(value, str) else value


def _resolve(value: object, info: ValidationInfo) -> object:
    """A path is relative to the folder of the spec, which the reader passes in the context."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise PydanticCustomError(
            "path_type", "a file name is needed here, not {found}", {"found": repr(value)}
        )
    folder = (info.context or {}).get("folder", Path())
    try:
        return Path(folder, Path(value).expanduser())
    except RuntimeError:
        raise PydanticCustomError(
            "no_home", "there is no home folder for {found}", {"found": value}
        ) from None


Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Index = Annotated[int, Field(ge=0, le=2**62)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
File = Annotated[Path, BeforeValidator(_resolve, json_schema_input_type=str)]
Numbers = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_\-]*$")]

_ActivationName = Annotated[str, _one_of(ACTIVATIONS, "activation"), _enum(ACTIVATIONS)]
_LossName = Annotated[str, _one_of(LOSSES, "loss"), _enum(LOSSES)]
_InitName = Annotated[str, _one_of(INITIALISERS, "initialiser"), _enum(INITIALISERS)]
_SchemeName = Annotated[str, _one_of(SCHEMES, "scheme"), _enum(SCHEMES)]


def _refuse_foreign_options(model: Model, known: Collection[str], name: str) -> None:
    """Options that other rows of the table have, given to a row that has not."""
    foreign = sorted(model.model_fields_set - {"name", *known})
    if foreign:
        raise PydanticCustomError(
            "foreign_option",
            "'{name}' has no option {options}; {allowed}",
            {
                "name": name,
                "options": foreign,
                "allowed": f"it has {', '.join(known)}" if known else "it has no options",
            },
        )


def _own_options_in_schema(options_of: Mapping[str, Collection[str]]) -> Callable[[dict[str, Any]], None]:
    """What `_refuse_foreign_options` asks, in JSON Schema: an option goes with the names that have it."""

    def extend(schema: dict[str, Any]) -> None:
        schema["dependencies"] = {
            option: {"properties": {"name": {"enum": names}}}
            for option in schema["properties"]
            if 0 < len(names := [name for name, own in options_of.items() if option in own]) < len(options_of)
        }

    return extend


_OPTIONS_OF_ACTIVATION = {name: tuple(row.options) for name, row in ACTIVATIONS.items()}


class ActivationSpec(Model):
    """An activation by name, with its options: PyTorch's names and defaults.

    name: φ in a = φ(z).
    negative_slope: of leaky_relu, its slope where z < 0.
    alpha: of elu, minus its value far to the left.
    approximate: of gelu, whether by a tanh or exact.
    """

    model_config = ConfigDict(json_schema_extra=_own_options_in_schema(_OPTIONS_OF_ACTIVATION))

    name: _ActivationName
    negative_slope: float = 0.01
    alpha: Positive = 1.0
    approximate: Literal["none", "tanh"] = "none"

    @model_validator(mode="after")
    def _own_options_only(self) -> ActivationSpec:
        _refuse_foreign_options(self, _OPTIONS_OF_ACTIVATION[self.name], self.name)
        return self

    @property
    def options(self) -> dict[str, Any]:
        return {option: getattr(self, option) for option in ACTIVATIONS[self.name].options}


class BatchNormSpec(Model):
    """Batch normalisation of z over the batch, (z − mean) / √(variance + eps): PyTorch's default.

    eps: what keeps the variance from 0.
    """

    eps: Positive = 1e-5


def _switch(value: object) -> object:
    """`true` is short for `{}`, `false` for nothing."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class LayerSpec(Model):
    """One dense layer, with `batch_norm` between z and the activation if asked.

    units: how many outputs it has.
    batch_norm: whether z is normalised over the batch, then scaled by gamma and shifted by beta.
    activation: its name, or a mapping of its name and options; identity if it is left out.
    name: what its parameters are called by, `<name>.weight`; by default hidden1, hidden2, … and output.
    """

    units: Size
    batch_norm: Annotated[
        BatchNormSpec | None, BeforeValidator(_switch, json_schema_input_type=bool | BatchNormSpec | None)
    ] = None
    activation: Annotated[
        ActivationSpec, BeforeValidator(_named, json_schema_input_type=_ActivationName | ActivationSpec)
    ] = ActivationSpec(name="identity")
    name: Name | None = None


_OPTIONS_OF_LOSS = {
    name: (
        "reduction",
        "scale",
        *row.options,
        *(("label_smoothing", "weight") if row.target == "distribution" else ()),
    )
    for name, row in LOSSES.items()
}


class LossSpec(Model):
    """A loss by name, how it is reduced over the batch, and its options: PyTorch's names.

    name: cross_entropy and bce_with_logits take logits; their output layer is identity.
    reduction: batchmean is the mean over samples of the sum over outputs, mean that over both.
    scale: what the loss is multiplied by, as ½.
    delta: of huber, where the square ends.
    label_smoothing: of cross_entropy, how much of the target is spread over all classes.
    weight: of cross_entropy, one weight per class.
    """

    model_config = ConfigDict(json_schema_extra=_own_options_in_schema(_OPTIONS_OF_LOSS))

    name: _LossName
    reduction: Literal["batchmean", "mean", "sum"] = "batchmean"
    scale: Positive = 1.0
    delta: Positive = 1.0
    label_smoothing: Annotated[float, Field(ge=0, le=1)] = 0.0
    weight: Annotated[tuple[NotNegative, ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="after")
    def _own_options_only(self) -> LossSpec:
        _refuse_foreign_options(self, _OPTIONS_OF_LOSS[self.name], self.name)
        return self

    @property
    def options(self) -> dict[str, Any]:
        return {option: getattr(self, option) for option in LOSSES[self.name].options}


class PenaltySpec(Model):
    """½ · l2 · Σw² + l1 · Σ|w|, over the weights only unless `biases` is set.

    l2: the strength of ½ Σw², weight decay.
    l1: the strength of Σ|w|.
    biases: whether the biases are penalised, too.
    """

    l2: NotNegative = 0.0
    l1: NotNegative = 0.0
    biases: bool = False

    @property
    def strengths(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in PENALTIES if getattr(self, name) > 0}


class NetworkSpec(Model):
    """Dense layers from the input up, the loss on the last one, and the penalties.

    inputs: how many numbers a sample has.
    layers: from the input up; the last one is the output.
    loss: its name, or a mapping of its name, reduction, scale and options.
    penalty: what is added to the loss for large weights.
    """

    inputs: Size
    layers: Annotated[tuple[LayerSpec, ...], Field(strict=False, min_length=1, max_length=1000)]
    loss: Annotated[LossSpec, BeforeValidator(_named, json_schema_input_type=_LossName | LossSpec)]
    penalty: PenaltySpec = PenaltySpec()

    @property
    def names(self) -> tuple[str, ...]:
        """Each layer's name: its own, or hidden1, hidden2, … and output for the last."""
        last = len(self.layers) - 1
        return tuple(
            layer.name or ("output" if i == last else f"hidden{i + 1}") for i, layer in enumerate(self.layers)
        )


class InitialisedParameters(Model):
    """Parameters drawn from a seeded generator: all weights from the input up, then the biases.

    init: the distribution of the weights.
    scale: the standard deviation of normal, the bound of uniform, a factor of xavier and he.
    seed: of the generator.
    bias: whether the biases are 0 or drawn as the weights are.
    """

    init: _InitName = "xavier"
    scale: Positive | None = None
    seed: Seed = 0
    bias: Literal["zeros", "same"] = "zeros"


Layout = Literal["out_in", "in_out"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


class Named(Model):
    """Arrays by names, and in a layout, of their author's.

    names: what the author calls a parameter, and what the network calls it (`fc1.weight: hidden1.weight`).
    layout: whether the author's weights are [out, in], as in PyTorch, or [in, out].
    """

    names: dict[str, str] = {}
    layout: Layout = "out_in"


class ArrayFile(Named):
    """Arrays by parameter name: an .npz, a .safetensors, or a folder of .npy.

    file: the file or folder, relative to the spec.
    names: what the file calls a parameter, and what the network calls it (`fc1.weight: hidden1.weight`).
    layout: whether the file's weights are [out, in], as in PyTorch, or [in, out].
    """

    file: File


class ParameterFile(ArrayFile):
    """Parameters from a file with one array per name."""


def _not_empty(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] == ends[1]:
        raise PydanticCustomError("empty_interval", "the interval is empty: both ends are the same")
    return ends


class Rescale(Model):
    """The affine map of x that takes the interval `from` to the interval `to`.

    from: the two ends that x has in the data, as [0, 255].
    to: the two ends that it gets, as [-1, 1].
    """

    source: Annotated[tuple[float, float], Field(strict=False, alias="from"), AfterValidator(_not_empty)]
    target: Annotated[tuple[float, float], Field(strict=False, alias="to")]


class DataFile(Model):
    """A batch of an .npz: its arrays named `x` (samples, inputs) and `y` (labels or targets).

    file: the .npz, relative to the spec.
    x: what the array of samples is called in it.
    y: what the array of labels or targets is called in it.
    start: the first sample, counted from 0.
    batch: how many samples; all of them if it is left out.
    rescale: an affine map of x.
    """

    file: File
    x: str = "x"
    y: str = "y"
    start: Index = 0
    batch: Size | None = None
    rescale: Rescale | None = None


_Row = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
_Rows = Annotated[tuple[_Row, ...], Field(strict=False, min_length=1)]


def _kind_of_y(value: object) -> str:
    rows = isinstance(value, (list, tuple)) and any(isinstance(row, (list, tuple)) for row in value)
    return "rows of targets" if rows else "labels or targets"


class InlineData(Model):
    """The samples written out.

    x: a list of rows, one per sample.
    y: a list of labels, of targets, or of rows of targets.
    rescale: an affine map of x.
    """

    x: _Rows
    y: Annotated[
        Annotated[_Rows, Tag("rows of targets")] | Annotated[_Row, Tag("labels or targets")],
        Discriminator(_kind_of_y),
    ]
    rescale: Rescale | None = None


class SyntheticData(Model):
    """Samples drawn from a seeded generator: x normal or uniform in ±scale, y to suit the loss.

    synthetic: the distribution of x.
    samples: how many.
    scale: the standard deviation of x, or its bound.
    seed: of the generator.
    """

    synthetic: Literal["normal", "uniform"]
    samples: Size = 16
    scale: Positive = 1.0
    seed: Seed = 0


class Backprop(Model):
    """The gradients of our own backprop.

    source: the only one that needs neither a file nor code.
    """

    source: Literal["backprop"] = "backprop"


class GradientFile(ArrayFile):
    """The user's gradients: a file with one array per parameter name."""


@dataclass(frozen=True)
class Code:
    """`FILE.py:NAME`: something that a file of Python defines."""

    file: Path
    name: str

    def __str__(self) -> str:
        return f"{self.name} of {self.file.name}"


def code_of(text: str, folder: Path) -> Code | None:
    """`my_net.py:loss_and_gradients`, its file relative to `folder`; None if it is not of that form."""
    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or "\0" in file or not all(map(str.isidentifier, name.split("."))):
        return None
    return Code(Path(folder, file), name)


def _code(value: object, info: ValidationInfo) -> object:
    code = code_of(value, (info.context or {}).get("folder", Path())) if isinstance(value, str) else value
    if not isinstance(code, Code):
        raise PydanticCustomError(
            "code_type", "FILE.py:NAME is needed here, not {found}", {"found": repr(value)}
        )
    return code


CodeName = Annotated[Code, BeforeValidator(_code, json_schema_input_type=str)]


class PythonFunction(Named):
    """A function of the user's: (parameters, x, y) → the loss and a dict of gradients.

    python: FILE.py:NAME, the file relative to the spec.
    names: what the function calls a parameter, and what the network calls it (`W1: hidden1.weight`).
    layout: whether the function's weights are [out, in], as in PyTorch, or [in, out].
    vectorized: whether it takes K points at once, every parameter, loss and gradient with a first axis of K.
    """

    python: CodeName
    vectorized: bool = False


class TorchModule(Model):
    """A function of the user's that returns a torch module and a loss.

    torch: FILE.py:NAME, the file relative to the spec.
    vectorized: whether torch.func.vmap can run them at many points at once.
    """

    torch: CodeName
    vectorized: bool = False


def _patterns(value: object) -> object:
    """One pattern is short for a list of one, and `all` for every parameter."""
    return ("*",) if value == "all" else (value,) if isinstance(value, str) else value


MAX_JOBS = 1024


def _jobs(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= MAX_JOBS):
        return value
    message = "'jobs' must be a number from 1 to {most}, or auto, not {found}"
    raise PydanticCustomError("jobs", message, {"most": MAX_JOBS, "found": repr(value)})


Jobs = Annotated[Annotated[int, Field(ge=1, le=MAX_JOBS)] | Literal["auto"], BeforeValidator(_jobs)]

MAX_STEP = 1.0
"""A longer step carries a pre-activation across the whole of a sigmoid: no difference then says anything."""


class CheckSpec(Model):
    """What to check, and how.

    parameters: their names, with wildcards, as `output.*`; or all.
    scheme: how values become a derivative; adaptive extrapolates from several steps, and has error bars.
    step: the longest that a pre-activation moves.
    rtol: the relative error that agrees; by default 1e-6, or 16 ε of the gradient's type if larger.
    differences: whether pre-activations are moved, which serves every entry, or the entries by themselves.
    fast: code is differenced along random directions, however little its every entry would take.
    jobs: how many processes evaluate at once, or `auto` for as many as there are cores.
    memory: MiB for what is evaluated at once.
    seed: of the entries that are moved literally, as a witness, and of random directions.
    strict: whether a single unresolved entry is exit code 3.
    """

    parameters: Annotated[
        tuple[str, ...],
        Field(strict=False, min_length=1),
        BeforeValidator(_patterns, json_schema_input_type=str | list[str]),
    ] = ("*",)
    scheme: _SchemeName = DEFAULT_SCHEME
    step: Annotated[float, Field(gt=0, le=MAX_STEP)] | None = None
    rtol: Annotated[float, Field(gt=0, lt=1)] | None = None
    differences: Literal["units", "literal"] = "units"
    fast: bool = False
    jobs: Jobs = 1
    memory: Annotated[int, Field(ge=1, le=2**24)] = 256
    seed: Seed = 0
    strict: bool = False


_Kind = tuple[str, str, type[Model]]


def _by_key(*kinds: _Kind) -> Discriminator:
    """Tell the members (key, tag, model) of a union apart by the first of these keys that is there.

    Without any of them, take the member that knows most of the keys, give or take a letter: the errors then
    speak of what was meant.
    """

    def tag(value: object) -> str:
        for key, name, _ in kinds:
            if (key in value) if isinstance(value, dict) else hasattr(value, key):
                return name
        keys = value if isinstance(value, dict) else ()
        likeliest = max(
            reversed(kinds),
            key=lambda kind: sum(closest(key, kind[2].model_fields) is not None for key in keys),
        )
        return likeliest[1]

    return Discriminator(tag)


Parameters = Annotated[
    Annotated[ParameterFile, Tag("parameters from a file")]
    | Annotated[InitialisedParameters, Tag("parameters from an initialiser")],
    _by_key(
        ("file", "parameters from a file", ParameterFile),
        ("init", "parameters from an initialiser", InitialisedParameters),
    ),
]
Data = Annotated[
    Annotated[DataFile, Tag("data from a file")]
    | Annotated[SyntheticData, Tag("synthetic data")]
    | Annotated[InlineData, Tag("inline data")],
    _by_key(
        ("file", "data from a file", DataFile),
        ("synthetic", "synthetic data", SyntheticData),
        ("x", "inline data", InlineData),
    ),
]
Gradients = Annotated[
    Annotated[GradientFile, Tag("gradients from a file")]
    | Annotated[PythonFunction, Tag("gradients from a Python function")]
    | Annotated[TorchModule, Tag("gradients from torch")]
    | Annotated[Backprop, Tag("gradients by backprop")],
    _by_key(
        ("file", "gradients from a file", GradientFile),
        ("python", "gradients from a Python function", PythonFunction),
        ("torch", "gradients from torch", TorchModule),
        ("source", "gradients by backprop", Backprop),
    ),
]


_UNSAID: Any = ()
"""The default of a section, which is not the same as a section that is there and empty."""


def _needed_without_code(value: object, info: ValidationInfo) -> object:
    """A function brings its own loss; all other gradients are held against the network's."""
    if value is None:
        raise PydanticKnownError("model_type", {"class_name": "mapping"})
    if value is not _UNSAID:
        return value
    if isinstance(info.data.get("gradients"), Backprop | GradientFile):
        raise PydanticKnownError("missing")
    return None


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


_MAYBE_UNSAID: Any = Field(_UNSAID, validate_default=True, json_schema_extra=_without_default)

_OF_CODE: dict[str, Any] = {
    "required": ["gradients"],
    "properties": {"gradients": {"anyOf": [{"required": ["python"]}, {"required": ["torch"]}]}},
}
"""What `_needed_without_code` asks, in JSON Schema."""


class Spec(Model):
    """A network, its parameters and data, the gradients to check and how to check them.

    Of gradients from code, which has a loss of its own, the network may stay unsaid. Parameters that are
    not given are drawn, or are the code's own.

    gradients: what is checked: our own backprop, a file, a Python function, or a torch module.
    network: its layers, its loss and its penalties.
    data: the samples: an .npz, lists, or drawn at random.
    parameters: the point at which gradients are checked: a file, or drawn at random.
    check: what to check, and how.
    dtype: the type that our own backprop computes in.
    """

    model_config = ConfigDict(
        json_schema_extra={"if": {"not": _OF_CODE}, "then": {"required": ["network", "data"]}}
    )

    gradients: Gradients = Backprop()  # first, since what else is needed depends on it
    network: Annotated[
        NetworkSpec | None, BeforeValidator(_needed_without_code, json_schema_input_type=NetworkSpec)
    ] = _MAYBE_UNSAID
    data: Annotated[Data | None, BeforeValidator(_needed_without_code, json_schema_input_type=Data)] = (
        _MAYBE_UNSAID
    )
    parameters: Parameters | None = None
    check: CheckSpec = CheckSpec()
    dtype: Literal["float64", "float32"] = "float64"

    @property
    def names_code(self) -> Code | None:
        """The code that the gradients come from, if they do."""
        return getattr(self.gradients, "python", None) or getattr(self.gradients, "torch", None)
