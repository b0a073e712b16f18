"""Time whole processes in turn, to compare start-up with its unavoidable imports.

python benchmarks/startup.py [--runs 21]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

CONFIGS = Path(__file__).parent.parent / "configs"
GRADCHECK = str(Path(sys.executable).with_name("gradcheck"))

COMMANDS = {
    "import click": [sys.executable, "-c", "import click"],
    "--version": [GRADCHECK, "--version"],
    "--help": [GRADCHECK, "--help"],
    "import numpy": [sys.executable, "-c", "import numpy"],
    "smallest spec": [GRADCHECK, "check", str(CONFIGS / "output_layer.yaml")],
    "784-50-10": [GRADCHECK, "check", str(CONFIGS / "raschka_mnist.yaml")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, command in COMMANDS.items():
            start = perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if run:  # the first round warms the disk cache
                times[name].append(perf_counter() - start)
    medians = {name: median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:14} {value:.3f} s")
    for name, base in (
        ("--version", "import click"),
        ("--help", "import click"),
        ("smallest spec", "import numpy"),
        ("784-50-10", "smallest spec"),
    ):
        print(f"{name} / {base}: {medians[name] / medians[base]:.2f}")


if __name__ == "__main__":
    main()
