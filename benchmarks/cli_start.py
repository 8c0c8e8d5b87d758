"""How long `ragops --help` takes against the import of the libraries that it is made with.

    python benchmarks/cli_start.py

Whole processes of one interpreter, taken in turns, so that a busy machine slows both alike; the ratio of the
medians is compared with the target. Exit 3 when it is missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

TARGET = 1.3
BASE = ("-c", "import typer, rich")
HELP = ("-m", "ragops", "--help")


def seconds_of(arguments: tuple[str, ...]) -> float:
    """The wall time of one process of this interpreter, which must succeed."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="processes of each kind (default: %(default)s)")
    given = parser.parse_args()
    commands = (BASE, HELP)
    for command in commands:
        seconds_of(command)  # Files are read and compiled by the first run.
    runs = [[seconds_of(command) for command in commands] for _ in range(given.runs)]
    base, shown = (statistics.median(column) for column in zip(*runs, strict=True))
    ratio = shown / base
    is_met = ratio <= TARGET
    out = sys.stdout
    out.write("| process | median |\n|---|---|\n")
    out.write(f"| python {' '.join(BASE)} | {base * 1000:.0f} ms |\n")
    out.write(f"| python {' '.join(HELP)} | {shown * 1000:.0f} ms |\n")
    out.write(f"\nratio {ratio:.2f}, target {TARGET:.1f} or less: {'met' if is_met else 'missed'}\n")
    return 0 if is_met else 3


if __name__ == "__main__":
    sys.exit(main())
