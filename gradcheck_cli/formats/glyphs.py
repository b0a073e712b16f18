"""The glyphs of our texts, and what stands for them where a terminal has nothing but ASCII."""

from __future__ import annotations

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
