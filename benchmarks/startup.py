"""Measure the processor time of whole processes in turn, to compare start-up with its unavoidable imports.

python benchmarks/startup.py [--runs 21]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

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


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def processor_time(command: list[str]) -> float:
    """Run a command and return the seconds that its process and threads spent on a processor."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, command in COMMANDS.items():
            spent = processor_time(command)
            if run:  # the first round compiles the modules and warms the disk cache
                times[name].append(spent)
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
