"""The glyphs in gradcheck's texts, and their spelling for terminals limited to ASCII."""

from __future__ import annotations

import re
from collections.abc import Callable

_ASCII = {
    "±": "+-", "×": "x", "·": "*", "✓": "+", "✗": "!", "…": "...", "−": "-", "–": "-", "—": "-", "’": "'",
    "∂": "d", "δ": "delta", "Σ": "sum", "σ": "sigma", "Φ": "Phi", "φ": "phi", "∈": "in", "ε": "eps",
    "x̂": "x_hat", "⊙": "(*)", "∗": "(conv)", "‖": "|", "←": "_back",
    "ᵀ": "^T", "ₜ": "_t", "ₙ": "_n", "ᵢ": "_i", "ⱼ": "_j", "ₖ": "_k", "²": "^2", "½": "1/2",
    "z⁽ʰ⁾": "z_h", "⁽ʰ⁾": "_h", "⁻ᶻ": "^-z", "ᵃ": "^a", "₊₁": "+1", "₋₁": "-1", "₋": "-", "₁": "1",
    "γ": "gamma", "β": "beta", "ẑ": "z_hat", "λ": "lambda", "π": "pi", "√": "sqrt", "≠": "!=", "ᶻ": "^z",
    "ℓ": "l", "→": "->", "≥": ">=", "≤": "<=",
    # The marks of a plot must stay one character wide.
    "▸": ">", "▹": ")", "◂": "<", "◃": "(", "●": "O", "○": "o", "◆": "D", "◇": "d", "■": "H", "□": "h",
    "▴": "A", "▵": "a", "▾": "V", "▿": "v", "★": "*", "━": "=",
    "│": "|", "┤": "+", "└": "+", "┬": "+", "─": "-",
}  # fmt: skip


def to_ascii(text: str) -> str:
    """Spell the text in ASCII. A character without a spelling becomes a question mark."""
    for glyph, spelling in _ASCII.items():
        text = text.replace(glyph, spelling)
    return text.encode("ascii", "replace").decode("ascii")


def escaped(text: str) -> str:
    """Replace unprintable characters with escapes, so that a file's name cannot control the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


_COMMAND = re.compile(r"^((?: |\t|\x1b\[[\d;]*m)*)([:#])(?=:|#\[)", re.MULTILINE)
"""Matches the start of a line that GitHub would interpret as a command in a job's log."""


def without_commands(text: str, spelt: Callable[[str], str] = lambda c: f"\\x{ord(c):02x}") -> str:
    """Change lines that begin with ``::`` or ``##[``, so that no name can act as a GitHub command.

    spelt: a function that returns the replacement for the first colon or hash sign of such a line.
    """
    return _COMMAND.sub(lambda match: match[1] + spelt(match[2]), text)


def reference(character: str) -> str:
    """Return a character's reference in XML and HTML, such as ``&#58;`` for a colon."""
    return f"&#{ord(character)};"
