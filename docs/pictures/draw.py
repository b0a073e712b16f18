"""Draw the pictures of the README and the docs: terminals that show what a command really prints.

Run it from the root of a checkout: `python docs/pictures/draw.py`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COLUMNS = 96

COMMANDS = {
    "check": "gradcheck check configs/wrong_gradient.yaml",
    "explain": "gradcheck explain configs/output_layer.yaml",
    "sweep": "gradcheck sweep configs/digits_mlp.yaml",
    "mutate": "gradcheck mutate configs/output_layer.yaml",
}

COLORS = ("484f58", "ff7b72", "56d364", "e3b341", "79c0ff", "d2a8ff", "56d4dd", "e6edf3")
BACKGROUND, FOREGROUND = "1b1f24", "e6edf3"


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color)
    return red, green, blue


THEME = TerminalTheme(_rgb(BACKGROUND), _rgb(FOREGROUND), [_rgb(color) for color in COLORS])

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} {terminal_height}" role="img">
<style>
.{unique_id}-matrix {{
font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
<rect fill="#1b1f24" width="{terminal_width}" height="{terminal_height}" rx="10"/>
<g transform="translate(10, 10)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's own picture of a terminal has a window's frame, and a font from another host."""


def printed(command: str) -> Text:
    """Return what a terminal shows of a command, with its colours."""
    _, *arguments = shlex.split(command)
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "PYTHONUTF8": "1"}
    environment.pop("NO_COLOR", None)
    result = subprocess.run(
        [sys.executable, "-m", "gradcheck_cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=environment,
    )
    return Text.from_ansi(f"\x1b[1m$ {command}\x1b[0m\n{result.stdout.rstrip()}\n")


def picture(name: str, text: Text) -> str:
    """Return an SVG of a text, wide enough for every line of it."""
    console = Console(record=True, width=COLUMNS + 2, file=StringIO(), force_terminal=True)
    console.print(text, soft_wrap=True)
    return console.export_svg(theme=THEME, code_format=SVG, unique_id=name)


def pictures() -> Iterator[tuple[Path, str]]:
    for name, command in COMMANDS.items():
        yield HERE / f"{name}.svg", picture(name, printed(command))


if __name__ == "__main__":
    for path, svg in pictures():
        path.write_text(svg, encoding="utf-8")
