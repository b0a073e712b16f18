"""The glyphs of our texts, and what stands for them where a terminal has nothing but ASCII."""

from __future__ import annotations

import re
from collections.abc import Callable

_ASCII = {
    "±": "+-", "×": "x", "·": "*", "✓": "+", "✗": "!", "…": "...", "−": "-", "–": "-", "—": "-", "’": "'",
    "∂": "d", "δ": "delta", "Σ": "sum", "σ": "sigma", "Φ": "Phi", "φ": "phi", "∈": "in", "ε": "eps",
    "ᵀ": "^T", "ₙ": "_n", "ᵢ": "_i", "ⱼ": "_j", "ₖ": "_k", "²": "^2", "½": "1/2",
    "z⁽ʰ⁾": "z_h", "⁽ʰ⁾": "_h", "⁻ᶻ": "^-z", "ᵃ": "^a", "₊₁": "+1", "₋₁": "-1", "₋": "-", "₁": "1",
    "γ": "gamma", "β": "beta", "ẑ": "z_hat", "λ": "lambda", "π": "pi", "√": "sqrt", "≠": "!=", "ᶻ": "^z",
    "ℓ": "l", "→": "->", "≥": ">=", "≤": "<=",
    # Marks of a plot, each as wide as it was.
    "▸": ">", "▹": ")", "◂": "<", "◃": "(", "●": "O", "○": "o", "◆": "D", "◇": "d", "■": "H", "□": "h",
    "▴": "A", "▵": "a", "▾": "V", "▿": "v", "★": "*", "━": "=",
    "│": "|", "┤": "+", "└": "+", "┬": "+", "─": "-",
}  # fmt: skip


def to_ascii(text: str) -> str:
    """The text spelt in ASCII; what has no spelling of ours becomes a question mark."""
    for glyph, spelling in _ASCII.items():
        text = text.replace(glyph, spelling)
    return text.encode("ascii", "replace").decode("ascii")


def escaped(text: str) -> str:
    """The text with control characters spelt out: a file's name must not be able to steer the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


_COMMAND = re.compile(r"^((?: |\t|\x1b\[[\d;]*m)*)([:#])(?=:|#\[)", re.MULTILINE)
"""The first character of what the log of a job on GitHub takes for a command, and what stands before it."""


def without_commands(text: str, spelt: Callable[[str], str] = lambda c: f"\\x{ord(c):02x}") -> str:
    """No line of the text begins with ``::`` or ``##[``: a name must not be able to steer a job.

    spelt: how the first character of one is written instead.
    """
    return _COMMAND.sub(lambda match: match[1] + spelt(match[2]), text)


def reference(character: str) -> str:
    """The character as XML and HTML refer to it."""
    return f"&#{ord(character)};"
