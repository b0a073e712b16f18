"""The spec: what to check and how, as frozen models. The JSON Schema is made from them.

A line `key: …` in a model's docstring describes that key, here and in the schema; see `schema.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

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
"""The most numbers in the parameters, in a batch, or in its activations: 2 GB of float64."""


class Model(BaseModel):
    """Base class of all sections of a spec: frozen, strict, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # most models are only parts of others: build them on first use
    )


def _one_of(table: Mapping[str, Any], kind: str) -> AfterValidator:
    """Accept a name in `table`; the error lists all names."""

    def check(name: str) -> str:
        if name not in table:
            raise PydanticCustomError(
                "unknown_name",
                "unknown {kind} '{name}'; choose from {known}",
                {"kind": kind, "name": name, "known": ", ".join(table), "names": list(table)},
            )
        return name

    return AfterValidator(check)


def _enum(table: Mapping[str, Any]) -> Any:
    return Field(json_schema_extra={"enum": list(table)})


def _named(value: object) -> object:
    """Expand `tanh` to `{name: tanh}`."""
    if not isinstance(value, (str, dict, Model)):
        raise PydanticCustomError("name_type", "a name or a mapping is needed here")
    return {"name": value} if isinstance(value, str) else value


def _resolve(value: object, info: ValidationInfo) -> object:
    """Resolve a path against the spec's folder, which is passed in the validation context."""
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
    """Raise an error for options that are set but that the named activation, loss, … does not have."""
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
    """Express `_refuse_foreign_options` in JSON Schema: an option is allowed only with names that have it."""

    def extend(schema: dict[str, Any]) -> None:
        schema["dependencies"] = {
            option: {"properties": {"name": {"enum": names}}}
            for option in schema["properties"]
            if 0 < len(names := [name for name, own in options_of.items() if option in own]) < len(options_of)
        }

    return extend


_OPTIONS_OF_ACTIVATION = {name: tuple(row.options) for name, row in ACTIVATIONS.items()}


class ActivationSpec(Model):
    """An activation and its options, with PyTorch's names and defaults.

    name: The function φ in a = φ(z).
    negative_slope: The slope of leaky_relu for z < 0.
    alpha: The α of elu. For z → −∞ its value is −α.
    approximate: `tanh` for the approximation of gelu by tanh, `none` for the exact one.
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
    """Batch normalisation, (z − mean) / √(variance + eps), with PyTorch's defaults.

    eps: Added to the variance, so that nothing is divided by 0.
    """

    eps: Positive = 1e-5


def _switch(value: object) -> object:
    """Expand `true` to `{}` and `false` to nothing."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class ParametricLayer(Model):
    """A layer with weights, then optional batch normalisation, and an activation.

    batch_norm: Normalise z over the batch, then scale it by gamma and shift it by beta.
    activation: A name, or a mapping of the name and its options.
    name: The prefix of its parameters, `<name>.weight`. By default hidden1, hidden2, … and output.
    """

    batch_norm: Annotated[
        BatchNormSpec | None, BeforeValidator(_switch, json_schema_input_type=bool | BatchNormSpec | None)
    ] = None
    activation: Annotated[
        ActivationSpec, BeforeValidator(_named, json_schema_input_type=_ActivationName | ActivationSpec)
    ] = ActivationSpec(name="identity")
    name: Name | None = None


class LayerSpec(ParametricLayer):
    """A dense layer, z = a wᵀ + b.

    units: The number of outputs.
    """

    kind: ClassVar[str] = "units"

    units: Size

    @property
    def options(self) -> dict[str, Any]:
        return {"units": self.units}


def _pair(value: object) -> object:
    """Expand a number to the same number for height and width."""
    return (value, value) if type(value) is int else value


Pair = Annotated[
    tuple[Size, Size], Field(strict=False), BeforeValidator(_pair, json_schema_input_type=int | list[int])
]
Padding = Annotated[
    tuple[Index, Index], Field(strict=False), BeforeValidator(_pair, json_schema_input_type=int | list[int])
]


class Conv2dSpec(ParametricLayer):
    """A convolution over images [channels, height, width], as torch.nn.Conv2d.

    conv2d: The number of output channels.
    kernel: The size of the kernel, a number or [height, width].
    stride: The distance between two positions of the kernel.
    padding: The number of zeros added on each side.
    dilation: The distance between two numbers of the kernel.
    groups: The number of groups of channels. Each group of outputs sees one group of inputs.
    """

    kind: ClassVar[str] = "conv2d"

    conv2d: Size
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
    groups: Size = 1

    @property
    def options(self) -> dict[str, Any]:
        keys = ("conv2d", "kernel", "stride", "padding", "dilation", "groups")
        return {key: getattr(self, key) for key in keys}


class FlattenSpec(Model):
    """Every sample becomes one row of numbers, as dense layers need it. `flatten` alone is enough.

    flatten: Always true.
    """

    kind: ClassVar[str] = "flatten"
    name: ClassVar[None] = None

    flatten: Literal[True] = True

    @property
    def options(self) -> dict[str, Any]:
        return {}


def _item(value: object) -> object:
    """Expand `flatten` to `{flatten: true}`."""
    if value == "flatten":
        return {value: True}
    if not isinstance(value, (dict, Model)):
        raise PydanticCustomError("layer_type", "a mapping or `flatten` is needed here")
    return value


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
    """A loss, its reduction and its options, with PyTorch's names.

    name: The loss. cross_entropy and bce_with_logits take logits, so leave their output layer at identity.
    reduction: `batchmean` averages over samples, `mean` over samples and outputs, `sum` over neither.
    scale: A factor of the loss, such as 0.5.
    delta: The error at which huber turns from a square into a line.
    label_smoothing: The share of the target that cross_entropy spreads over all classes.
    weight: One weight per class for cross_entropy.
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
    """The penalty ½ · l2 · Σ w² + l1 · Σ |w|, over the weights and, if asked, the biases.

    l2: The factor of ½ Σ w², which is weight decay.
    l1: The factor of Σ |w|.
    biases: Penalise the biases too.
    """

    l2: NotNegative = 0.0
    l1: NotNegative = 0.0
    biases: bool = False

    @property
    def strengths(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in PENALTIES if getattr(self, name) > 0}


_Kind = tuple[str, str, type[Model]]


def _by_key(*kinds: _Kind) -> Discriminator:
    """Choose the member (key, tag, model) of a union by the first of the keys that is present.

    If none is present, choose the member that knows most of the keys found, allowing for misspellings, so
    that the errors are about the member that the author meant.
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


def _by_key_in_schema(*keys: str) -> Callable[[dict[str, Any]], None]:
    """Make JSON Schema choose a layer's kind by its key, too, so that errors are about that kind alone."""

    def extend(schema: dict[str, Any]) -> None:
        dense, *others = schema.pop("oneOf", None) or schema.pop("anyOf")
        chosen = dense
        for key, member in zip(keys, others, strict=True):
            chosen = {"if": {"required": [key]}, "then": member, "else": chosen}
        schema |= {"if": {"type": "string"}, "then": {"enum": ["flatten"]}, "else": chosen}

    return extend


AnyLayer = Annotated[
    Annotated[LayerSpec, Tag("dense layer")]
    | Annotated[Conv2dSpec, Tag("convolution")]
    | Annotated[FlattenSpec, Tag("flatten")],
    _by_key(
        ("conv2d", "convolution", Conv2dSpec),
        ("flatten", "flatten", FlattenSpec),
        ("units", "dense layer", LayerSpec),
    ),
    BeforeValidator(_item),
    Field(json_schema_extra=_by_key_in_schema("conv2d", "flatten")),
]


def _is_image(value: object) -> str:
    return "image" if isinstance(value, (list, tuple)) else "number of inputs"


NetworkInputs = Annotated[
    Annotated[Size, Tag("number of inputs")]
    | Annotated[tuple[Size, Size, Size], Field(strict=False), Tag("image")],
    Discriminator(_is_image),
]


class NetworkSpec(Model):
    """A network: its layers, its loss and its penalties.

    inputs: The number of inputs, or [channels, height, width] for images.
    layers: The layers from the input up. The last one is the output layer.
    loss: A name, or a mapping of the name, reduction, scale and options.
    penalty: What large weights add to the loss.
    """

    inputs: NetworkInputs
    layers: Annotated[tuple[AnyLayer, ...], Field(strict=False, min_length=1, max_length=1000)]
    loss: Annotated[LossSpec, BeforeValidator(_named, json_schema_input_type=_LossName | LossSpec)]
    penalty: PenaltySpec = PenaltySpec()

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one sample of x."""
        return self.inputs if isinstance(self.inputs, tuple) else (self.inputs,)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each layer: its own, or else hidden1, hidden2, … and output for the last.

        Layers without parameters have none.
        """
        numbers = accumulate(int(isinstance(layer, ParametricLayer)) for layer in self.layers)
        named = [
            layer.name or (f"hidden{number}" if isinstance(layer, ParametricLayer) else "")
            for layer, number in zip(self.layers, numbers, strict=True)
        ]
        return (*named[:-1], self.layers[-1].name or "output")


class InitialisedParameters(Model):
    """Parameters drawn at random: all weights from the input up, then the biases.

    init: The distribution of the weights.
    scale: The standard deviation of normal, the bound of uniform, a factor for xavier and he.
    seed: The seed of the generator.
    bias: `zeros`, or `same` to draw biases like weights.
    """

    init: _InitName = "xavier"
    scale: Positive | None = None
    seed: Seed = 0
    bias: Literal["zeros", "same"] = "zeros"


Layout = Literal["out_in", "in_out"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


class Named(Model):
    """Arrays with their author's names and layout.

    names: The author's names for parameters, and the network's (`fc1.weight: hidden1.weight`).
    layout: `out_in` if the weights are [out, in], as in PyTorch; `in_out` if they are [in, out].
    """

    names: dict[str, str] = {}
    layout: Layout = "out_in"


class ArrayFile(Named):
    """A file of arrays by parameter name: an .npz, a .safetensors, or a folder of .npy.

    file: The file or folder, relative to the spec.
    names: The file's names for parameters, and the network's (`fc1.weight: hidden1.weight`).
    layout: `out_in` if the weights are [out, in], as in PyTorch; `in_out` if they are [in, out].
    """

    file: File


class ParameterFile(ArrayFile):
    """Parameters from a file with one array per parameter."""


def _not_empty(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] == ends[1]:
        raise PydanticCustomError("empty_interval", "the interval is empty: both ends are the same")
    return ends


class Rescale(Model):
    """An affine map of x that takes the range `from` to the range `to`.

    from: The range of x in the data, such as [0, 255].
    to: The range of x after rescaling, such as [-1, 1].
    """

    source: Annotated[tuple[float, float], Field(strict=False, alias="from"), AfterValidator(_not_empty)]
    target: Annotated[tuple[float, float], Field(strict=False, alias="to")]


class DataFile(Model):
    """A batch from an .npz file, with the arrays `x` [samples, inputs] and `y` (labels or targets).

    file: The .npz file, relative to the spec.
    x: The name of the array of samples.
    y: The name of the array of labels or targets.
    start: The first sample, counted from 0.
    batch: The number of samples. By default all of them.
    rescale: An affine map of x.
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
    """Samples written out in the spec.

    x: A list of rows, one per sample.
    y: A list of labels, of targets, or of rows of targets.
    rescale: An affine map of x.
    """

    x: _Rows
    y: Annotated[
        Annotated[_Rows, Tag("rows of targets")] | Annotated[_Row, Tag("labels or targets")],
        Discriminator(_kind_of_y),
    ]
    rescale: Rescale | None = None


class SyntheticData(Model):
    """Random samples: x is normal or uniform in ±scale, and y suits the loss.

    synthetic: The distribution of x.
    samples: The number of samples.
    scale: The standard deviation of x for normal, its bound for uniform.
    seed: The seed of the generator.
    """

    synthetic: Literal["normal", "uniform"]
    samples: Size = 16
    scale: Positive = 1.0
    seed: Seed = 0


class Backprop(Model):
    """The gradients of gradcheck's own backprop.

    source: gradcheck's own backprop. It needs neither a file nor code.
    """

    source: Literal["backprop"] = "backprop"


class GradientFile(ArrayFile):
    """Your gradients: a file with one array per parameter."""


@dataclass(frozen=True)
class Code:
    """`FILE.py:NAME`: something that a Python file defines."""

    file: Path
    name: str

    def __str__(self) -> str:
        return f"{self.name} of {self.file.name}"


def code_of(text: str, folder: Path) -> Code | None:
    """Parse `my_net.py:loss_and_gradients`, with the file relative to `folder`; None for any other form."""
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
    """Your Python function: (parameters, x, y) → the loss and a dict of gradients.

    python: `FILE.py:NAME`, with the file relative to the spec.
    names: The function's names for parameters, and the network's (`W1: hidden1.weight`).
    layout: `out_in` if the weights are [out, in], as in PyTorch; `in_out` if they are [in, out].
    vectorized: The function takes K points at once: parameters, losses and gradients have a first axis of K.
    """

    python: CodeName
    vectorized: bool = False


class TorchModule(Named):
    """Your function that returns a torch module and its loss.

    torch: `FILE.py:NAME`, with the file relative to the spec.
    names: The module's names for parameters, and the network's (`0.weight: hidden1.weight`).
    layout: `out_in` if the weights are [out, in], as in torch.nn.Linear; `in_out` if they are [in, out].
    vectorized: torch.func.vmap can run the module and its loss at many points at once.
    """

    torch: CodeName
    vectorized: bool = False


def _patterns(value: object) -> object:
    """Expand a single pattern to a list, and `all` to the pattern for every parameter."""
    return ("*",) if value == "all" else (value,) if isinstance(value, str) else value


MAX_JOBS = 1024


def _jobs(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= MAX_JOBS):
        return value
    message = "'jobs' must be a number from 1 to {most}, or auto, not {found}"
    raise PydanticCustomError("jobs", message, {"most": MAX_JOBS, "found": repr(value)})


Jobs = Annotated[Annotated[int, Field(ge=1, le=MAX_JOBS)] | Literal["auto"], BeforeValidator(_jobs)]

MAX_STEP = 1.0
"""The longest step allowed. A longer one would cross a whole sigmoid, and its difference mean nothing."""


class CheckSpec(Model):
    """What to check, and how.

    parameters: The parameters to check: names with wildcards, such as `output.*`, or `all`.
    scheme: The difference scheme. adaptive extrapolates from several steps and has error bars.
    step: The largest step: how far a pre-activation changes.
    rtol: The relative tolerance. By default 1e-6, or 16 ε of the gradient's type if that is larger.
    differences: `units` changes pre-activations, for all entries at once; `literal` one entry at a time.
    fast: Check code along random directions, even if checking every entry would be quick.
    jobs: The number of worker processes, or `auto` for one per core.
    memory: MiB for what is evaluated at once.
    seed: The seed of the witness's entries and of random directions.
    strict: A single unresolved entry is exit code 3.
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
"""The default of a section that is left out, as opposed to one that is present but empty, an error."""


def _needed_without_code(value: object, info: ValidationInfo) -> object:
    """Require the section, unless the gradients come from code, which computes its own loss."""
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
"""`_needed_without_code` in JSON Schema."""


class Spec(Model):
    """A network, its parameters and data, the gradients to check and how to check them.

    If the gradients come from code, which has a loss of its own, the network may be left out. Parameters
    that are not given come from the code, or are drawn at random.

    gradients: The gradients to check: gradcheck's own backprop, a file, a Python function, or a torch module.
    network: The layers, the loss and the penalties.
    data: The samples: an .npz file, lists, or random numbers.
    parameters: The parameters at which gradients are checked: a file, or random numbers.
    check: What to check, and how.
    dtype: The type in which gradcheck's own backprop computes.
    """

    model_config = ConfigDict(
        json_schema_extra={"if": {"not": _OF_CODE}, "then": {"required": ["network", "data"]}}
    )

    gradients: Gradients = Backprop()  # first, since this section decides which others are required
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
    def asks_code(self) -> bool:
        """Whether the code may have to provide the data or the parameters."""
        brings = isinstance(self.gradients, PythonFunction) and self.parameters is None
        return self.names_code is not None and (self.data is None or brings)

    @property
    def names_code(self) -> Code | None:
        """The code that computes the gradients; None if they come from elsewhere."""
        return getattr(self.gradients, "python", None) or getattr(self.gradients, "torch", None)
