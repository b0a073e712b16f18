"""Write out the recurrent layers and the attention of torch, so that the sums inside them can be perturbed.

torch computes such a module in one piece, so no hook can reach the sums that the module's weights enter. In a
module that is written out, each of these sums is the output of a small module, called a part. The caller
verifies that the losses stay the same (`torch_sites`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Tensor = Any
Module = Any


@dataclass(frozen=True)
class Part:
    """A sum inside a module.

    module: the small module that computes the sum.
    parameters: the names of the parameters that enter the sum.
    """

    module: Module
    parameters: Sequence[str]


@dataclass(frozen=True)
class Unrolled:
    """A module that is written out.

    module: the module itself.
    parts: the sums inside the module, by name.
    forward: the new forward pass, which calls the parts. For unusual inputs, it calls the module's own
        forward pass.
    """

    module: Module
    parts: Mapping[str, Part]
    forward: Callable[..., Any]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Make the module use the new forward pass inside the context."""
        self.module.forward = self.forward
        try:
            yield
        finally:
            del self.module.forward


def unrolled(torch: Any, root: Module, tensors: Sequence[Tensor]) -> dict[str, Unrolled]:
    """Return, by name, every module in `root` that has one of these parameters and can be written out."""
    wanted = {id(tensor) for tensor in tensors}
    found = {
        name: _unrolled(torch, module)
        for name, module in root.named_modules()
        if any(id(parameter) in wanted for parameter in module.parameters())
    }
    return {name: each for name, each in found.items() if each is not None}


def _unrolled(torch: Any, module: Module) -> Unrolled | None:
    nn = torch.nn
    kinds = (nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention)
    if type(module) not in kinds or "forward" in vars(module) or (module.dropout and module.training):
        return None
    if type(module) is nn.MultiheadAttention:
        return _attention(torch, module) if module._qkv_same_embed_dim else None
    return None if module.proj_size else _recurrent(torch, module)


def _part(torch: Any, compute: Callable[..., Tensor], parameters: Sequence[str]) -> Part:
    kind = type("Part", (torch.nn.Module,), {"forward": lambda self, *given: compute(*given)})
    return Part(kind(), parameters)


# --- recurrent layers ---------------------------------------------------------------------------------------


def _recurrent(torch: Any, module: Module) -> Unrolled:
    """Write out an RNN, an LSTM or a GRU of torch, with a part for each layer and direction.

    A GRU has two parts for each, since it multiplies part of the state's sum by a gate.
    """
    linear, parts = torch.nn.functional.linear, {}

    def half(of: str, suffix: str) -> tuple[Callable[[Tensor], Tensor], list[str]]:
        names = [f"{kind}_{of}_{suffix}" for kind in ("weight", "bias")[: 1 + module.bias]]
        return lambda given: linear(given, *(getattr(module, name) for name in names)), names

    for suffix in _suffixes(module):
        (of_x, x_names), (of_h, h_names) = half("ih", suffix), half("hh", suffix)
        if module.mode == "GRU":
            parts[f"ih_{suffix}"] = _part(torch, of_x, x_names)
            parts[f"hh_{suffix}"] = _part(torch, of_h, h_names)
        else:
            both = _part(torch, lambda x, h, of_x=of_x, of_h=of_h: of_x(x) + of_h(h), [*x_names, *h_names])
            parts[suffix] = both

    def forward(given: Any, state: Any = None) -> Any:
        if not isinstance(given, torch.Tensor) or given.ndim != 3:
            return type(module).forward(module, given, state)
        return _Passes(torch, module, parts).run(given, state)

    return Unrolled(module, parts, forward)


def _suffixes(module: Module) -> list[str]:
    directions = ("", "_reverse")[: 1 + module.bidirectional]
    return [f"l{layer}{direction}" for layer in range(module.num_layers) for direction in directions]


@dataclass(frozen=True)
class _Passes:
    """The passes of a recurrent module over a sequence. There is one pass for each layer and direction."""

    torch: Any
    module: Module
    parts: Mapping[str, Part]

    def run(self, given: Tensor, state: Any) -> Any:
        """Return what the module would return: the output and the last state."""
        sequence = given.transpose(0, 1) if self.module.batch_first else given
        first, ends = self._first_states(sequence, state), []
        suffixes, directions = _suffixes(self.module), 1 + self.module.bidirectional
        for layer in range(self.module.num_layers):
            outputs = []
            for index in range(layer * directions, (layer + 1) * directions):
                hidden, end = self._over_time(sequence, suffixes[index], [s[index] for s in first])
                outputs.append(hidden)
                ends.append(end)
            sequence = self.torch.cat(outputs, dim=-1)
        last = tuple(self.torch.stack(states) for states in zip(*ends, strict=True))
        output = sequence.transpose(0, 1) if self.module.batch_first else sequence
        return output, last if self.module.mode == "LSTM" else last[0]

    def _first_states(self, sequence: Tensor, state: Any) -> list[Tensor]:
        if state is not None:
            return list(state) if self.module.mode == "LSTM" else [state]
        shape = (len(_suffixes(self.module)), sequence.shape[1], self.module.hidden_size)
        return [sequence.new_zeros(shape)] * (1 + (self.module.mode == "LSTM"))

    def _over_time(self, sequence: Tensor, suffix: str, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the hidden states, (T, N, H), in the order of time, and the last state."""
        times = range(len(sequence))
        hidden = []
        for t in reversed(times) if suffix.endswith("_reverse") else times:
            state = self._step(sequence[t], suffix, state)
            hidden.append(state[0])
        in_order = hidden[::-1] if suffix.endswith("_reverse") else hidden
        return self.torch.stack(in_order), state

    def _step(self, x: Tensor, suffix: str, state: list[Tensor]) -> list[Tensor]:
        h, mode = state[0], self.module.mode
        if mode == "GRU":
            return [_gru(self.parts[f"ih_{suffix}"].module(x), self.parts[f"hh_{suffix}"].module(h), h)]
        z = self.parts[suffix].module(x, h)
        if mode == "LSTM":
            return _lstm(z, state[1])
        return [z.tanh() if mode == "RNN_TANH" else z.relu()]


def _lstm(z: Tensor, c: Tensor) -> list[Tensor]:
    i, f, g, o = z.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return [o.sigmoid() * c.tanh(), c]


def _gru(of_x: Tensor, of_h: Tensor, h: Tensor) -> Tensor:
    (xr, xz, xn), (hr, hz, hn) = of_x.chunk(3, dim=-1), of_h.chunk(3, dim=-1)
    new, z = (xn + (xr + hr).sigmoid() * hn).tanh(), (xz + hz).sigmoid()
    return (1.0 - z) * new + z * h


# --- attention ----------------------------------------------------------------------------------------------


def _attention(torch: Any, module: Module) -> Unrolled:
    """Write out the attention of torch, with a part for the projections of query, key and value.

    The last projection, `module.out_proj`, is a separate module, which is called as well.
    """
    names = ["in_proj_weight", "in_proj_bias"][: 1 + (module.in_proj_bias is not None)]

    def projected(*given: Tensor) -> Tensor:
        tensors = [getattr(module, name) for name in names]
        if len(given) == 1:
            return torch.nn.functional.linear(given[0], *tensors)
        thirds = zip(given, *(tensor.chunk(3) for tensor in tensors), strict=True)
        return torch.cat([torch.nn.functional.linear(*third) for third in thirds], dim=-1)

    part = _part(torch, projected, names)

    def forward(query: Tensor, key: Tensor, value: Tensor, *masks: Any, **options: Any) -> Any:
        if masks or query.is_nested or not query.shape == key.shape == value.shape:
            return type(module).forward(module, query, key, value, *masks, **options)
        given = [query] if query is key and key is value else [query, key, value]
        swaps = module.batch_first and query.ndim == 3
        z = part.module(*(each.transpose(0, 1) for each in given) if swaps else given)
        out, weights = _attended(torch, module, z, options)
        out = module.out_proj(out)
        return out.transpose(0, 1) if swaps else out, weights

    return Unrolled(module, {"in_proj": part}, forward)


def _attended(torch: Any, module: Module, z: Tensor, options: Mapping[str, Any]) -> Any:
    """Return the output of the attention before the last projection, and the attention weights.

    z: the projections of query, key and value, side by side.
    """
    same = torch.eye(module.embed_dim, dtype=z.dtype, device=z.device)
    return torch.nn.functional.multi_head_attention_forward(
        *z.chunk(3, dim=-1),
        module.embed_dim,
        module.num_heads,
        in_proj_weight=None,
        in_proj_bias=None,
        bias_k=module.bias_k,
        bias_v=module.bias_v,
        add_zero_attn=module.add_zero_attn,
        dropout_p=0.0,
        out_proj_weight=same,
        out_proj_bias=None,
        use_separate_proj_weight=True,
        q_proj_weight=same,
        k_proj_weight=same,
        v_proj_weight=same,
        **options,
    )
