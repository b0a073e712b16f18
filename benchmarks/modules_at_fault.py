"""Plant a wrong backward in a random module of a torch net, and see whether gradcheck names that module.

    python benchmarks/modules_at_fault.py [--planted 50] [--right 200] [--seed N]

The nets are an MLP, a conv net, a net with an LSTM and two transformer blocks, of random widths and dtypes. A
module computes its output in a `torch.autograd.Function` whose backward is wrong in the gradient of the input
or of one parameter. The report must name that module and no other. Right nets run through the same functions,
with a right backward: their gradients must agree, and no module may be named.

Exits with 1 if a planted module is not named, or if a right net is called wrong or has a module named.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

from gradcheck_cli import UndecidedGradientError, WrongGradientError, check_torch
from gradcheck_cli.code.given_module import kept, read_torch
from gradcheck_cli.code.torch_modules import Modules
from gradcheck_cli.spec.check import CheckSpec

Tensor = torch.Tensor
Change = Callable[[Tensor], Tensor]

# --- the nets ----------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Block(nn.Module):
    def __init__(self, width: int, wider: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.act, self.down = nn.Linear(width, wider), nn.GELU(), nn.Linear(wider, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(self.act(self.up(self.norm2(x))))


def mlp(width: int) -> nn.Module:
    inner = [nn.LayerNorm(width), nn.Linear(width, width + 1), nn.SiLU(), nn.Linear(width + 1, width)]
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), *inner, nn.GELU(), nn.Linear(width, 2))


def conv_net(width: int) -> nn.Module:
    convolutions = [nn.Conv2d(1, width, 2, padding=1), nn.GroupNorm(2, width), nn.ELU(), nn.AvgPool2d(2)]
    return nn.Sequential(*convolutions, nn.Conv2d(width, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(2, 2))


def lstm_net(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(width, width), Recurrent(width), nn.Tanh(), Recurrent(width), nn.Linear(width, 2)
    )


def transformer(width: int) -> nn.Module:
    return nn.Sequential(
        Block(width, width + 2), Block(width, width + 1), nn.LayerNorm(width), nn.Linear(width, 2)
    )


NETS = {"MLP": mlp, "conv net": conv_net, "LSTM": lstm_net, "two transformer blocks": transformer}
SHAPES = {"MLP": (3, 0), "conv net": (2, 1, 4, 4), "LSTM": (2, 3, 0), "two transformer blocks": (2, 3, 0)}
"""The shape of the inputs, where 0 stands for the width."""

# --- the mistakes ------------------------------------------------------------------------------------------


def one_entry(gradient: Tensor) -> Tensor:
    changed = gradient.clone(memory_format=torch.contiguous_format)
    changed.view(-1)[int(gradient.abs().argmax())] *= 1.5
    return changed


CHANGES: dict[str, Change] = {
    "scaled": lambda g: 1.02 * g,
    "negative": lambda g: -g,
    "zero": lambda g: 0.0 * g,
    "one entry": one_entry,
    "rolled": lambda g: g.roll(1, -1) + g,
    "centred": lambda g: g - g.mean(dim=-1, keepdim=True) - 0.5 * g,
    "clipped": lambda g: g.clamp(max=0.25 * float(g.abs().max())),
}


class Own(torch.autograd.Function):
    """Any computation, with a backward that changes one of its gradients."""

    @staticmethod
    def forward(ctx: Any, run: Callable[..., Tensor], change: Change, which: int, *tensors: Tensor) -> Tensor:
        ctx.run, ctx.change, ctx.which = run, change, which
        ctx.save_for_backward(*tensors)
        return run(*tensors)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        with torch.enable_grad():
            tensors = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
            gradients = list(torch.autograd.grad(ctx.run(*tensors), tensors, upstream))
        gradients[ctx.which] = ctx.change(gradients[ctx.which])
        return None, None, None, *gradients


def plant(module: nn.Module, change: Change, which: int) -> None:
    """Let a module compute its output by `Own`.

    which: the index of the gradient to change: 0 for the input's, 1 and above for a parameter's.
    """
    twin, names = copy.deepcopy(module), [name for name, _ in module.named_parameters()]

    def forward(x: Tensor, *_: Tensor, **options: Any) -> Any:
        def run(x: Tensor, *parameters: Tensor) -> Tensor:
            given = (x, x, x) if isinstance(module, nn.MultiheadAttention) else (x,)
            result = torch.func.functional_call(
                twin, dict(zip(names, parameters, strict=True)), given, options, strict=False
            )
            return result[0] if isinstance(result, tuple) else result

        out = Own.apply(run, change, which, x, *module.parameters())
        return (out, None) if isinstance(module, nn.LSTM | nn.MultiheadAttention) else out

    module.forward = forward  # type: ignore[method-assign]


@dataclass(frozen=True)
class Case:
    """A net with an own function in one of its modules.

    name: the name of that module.  mistake: which gradient is changed, and how; empty for a right net.
    """

    kind: str
    net: nn.Module
    x: Tensor
    name: str
    mistake: str


def places(net: nn.Module) -> list[str]:
    """Return the names of the modules in which a mistake can be planted."""
    inside = [name for name, module in net.named_modules() if isinstance(module, nn.MultiheadAttention)]
    return [
        name
        for name, module in net.named_modules()
        if name
        and not isinstance(module, Block | Recurrent | nn.Sequential)
        and not any(name.startswith(f"{outer}.") for outer in inside)
    ]


def drawn(rng: np.random.Generator, is_right: bool) -> Case:
    kind = str(rng.choice(list(NETS)))
    width = int(rng.choice([4, 6]))
    torch.manual_seed(int(rng.integers(2**31)))
    dtype = torch.float64 if rng.integers(2) else torch.float32
    net = NETS[kind](width).to(dtype)
    x = torch.randn([n or width for n in SHAPES[kind]], dtype=dtype)
    first, *later = places(net)
    name = str(rng.choice([first, *later]))
    module = net.get_submodule(name)
    parameters = [name for name, _ in module.named_parameters()]
    which = (
        int(rng.integers(1, len(parameters) + 1)) if (parameters and rng.integers(2)) or name == first else 0
    )
    change = str(rng.choice(list(CHANGES)))
    plant(module, (lambda g: g) if is_right else CHANGES[change], which)
    of = f"the gradient of {parameters[which - 1] if which else 'its input'}, {change}"
    return Case(kind, net, x, name, "" if is_right else of)


# --- the verdicts ------------------------------------------------------------------------------------------


def squares(output: Tensor, y: Tensor | None = None) -> Tensor:
    return output.square().flatten(1).sum(dim=1)


def judged_planted(case: Case) -> str:
    """Return what the check says about a net with a mistake, in a few words."""
    try:
        check_torch(case.net, x=case.x, loss=squares)
    except UndecidedGradientError:
        return "unresolved"
    except WrongGradientError as error:
        named = list(error.report.diagnosis.places)
        if [re.match(r"the backward pass of module '([^']*)'", each)[1] for each in named] == [case.name]:
            return "the module is named"
        return f"called wrong, but named: {named}"
    return "not called wrong"


def judged_right(case: Case) -> str:
    """Return what the check says about a right net, in a few words."""
    try:
        check_torch(case.net, x=case.x, loss=squares)
    except UndecidedGradientError:
        return "unresolved"
    except WrongGradientError:
        return "called wrong"
    with kept(case.net):
        function, _ = read_torch(case.net, None, case.x, None, squares, CheckSpec())
        found = Modules(function.graph, case.net, function.parameters, function.upstream)
        named = list(found.faults(()))
    return f"named: {named}" if named else "agrees, and no module is named"


def tally(
    seed: int, count: int, is_right: bool, judge: Callable[[Case], str], expected: str
) -> tuple[Counter[tuple[str, str]], bool]:
    """Judge this many nets. Return the verdicts by kind of net, and whether all are as expected."""
    found: Counter[tuple[str, str]] = Counter()
    for i in range(count):
        case = drawn(np.random.default_rng([seed, int(is_right), i]), is_right)
        verdict = judge(case)
        found[case.kind, verdict if verdict == expected else "not as expected"] += 1
        if verdict != expected:
            print(f"{case.kind} {i}, '{case.name}': {case.mistake or 'right'}: {verdict}", flush=True)
    return found, all(verdict == expected for _, verdict in found)


def lines(title: str, found: Counter[tuple[str, str]]) -> Iterator[str]:
    yield f"{title}: {found.total()}"
    yield from (f"{times:6d}  {kind}: {verdict}" for (kind, verdict), times in sorted(found.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planted", type=int, default=50)
    parser.add_argument("--right", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"--seed {asked.seed}", flush=True)
    planted, all_named = tally(asked.seed, asked.planted, False, judged_planted, "the module is named")
    print("\n".join(lines("with a mistake", planted)), flush=True)
    right, none_named = tally(asked.seed, asked.right, True, judged_right, "agrees, and no module is named")
    print("\n".join(lines("right", right)))
    return 0 if all_named and none_named else 1


if __name__ == "__main__":
    sys.exit(main())
