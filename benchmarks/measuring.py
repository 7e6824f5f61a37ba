"""What every benchmark shares: interleaved rounds, medians of ratios, and the machine's name."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Work = Callable[[], object]


def interleaved(works: Mapping[str, Work], *, rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds of each call, by name: `rounds` times each in turn, `calls` in a row.

    Turns, so that a slow moment of the machine falls on all of them. A first round is thrown away.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            taken = [_timed(work) for _ in range(calls)]
            if number:
                seconds[name] += taken
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], above: str, below: str, *, calls: int) -> float:
    """Median over the rounds of (median of `above` / median of `below`)."""
    chunks = range(0, len(seconds[above]), calls)
    ratios = [
        statistics.median(seconds[above][at : at + calls])
        / statistics.median(seconds[below][at : at + calls])
        for at in chunks
    ]
    return round(statistics.median(ratios), 3)


def percentiles_us(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in microseconds."""
    ordered = sorted(seconds)
    return {
        "p50_us": round(statistics.median(ordered) * 1e6, 1),
        "p99_us": round(ordered[int(len(ordered) * 0.99)] * 1e6, 1),
    }


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def versions(*distributions: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in distributions}


def main(description: str, measure: Callable[..., dict[str, Any]], **sizes: int) -> None:
    """Run `measure` and print what it found: one JSON object with `--json`, else line by line.

    Args:
        sizes: the keywords of `measure`, with their defaults; each becomes an option.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    arguments = vars(parser.parse_args())
    as_json = arguments.pop("json")
    found = {**measure(**arguments), "on": machine()}
    if as_json:
        json.dump(found, sys.stdout)
        print()
        return
    for name, value in found.items():
        print(f"{name:<32} {value}")


def _timed(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
