"""``make bench``: KCR beside Debian's docker-registry 2.8 and distribution v3, in turn, over the same loopback.

KCR checks a token and a right for each request, and writes an access log; the others do neither. distribution v3 is
compared when its program ``registry`` is on the PATH. Their order rotates from round to round. Prints Markdown tables:
medians and spread, ratios to KCR, processor time, start-up and memory.

    python -m bench                                            # a quarter of an hour
    python -m bench --quick                                    # three minutes
    python -m bench --database sqlite postgresql               # two KCRs beside the others
    python -m bench --no-peers --database postgresql --storage s3 --processes 1 2 4

Plain sockets in threads send and read blobs: a thread releases the interpreter while bytes move. wrk, a program in C,
makes many small requests. The table of processor time shows that both use little beside the registries.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import resource
import shutil
import statistics
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from bench import lines, registries
from bench.machine import machine

if TYPE_CHECKING:
    from bench.lines import Line, Sizes
    from bench.registries import Registry

MB = 1024 * 1024


class Figure(NamedTuple):
    """Seconds for one action: wall time, and processor time of registry, services and load generator."""

    wall: float
    registry: float
    services: float
    generator: float


Figures = dict[tuple[str, str], list[Figure]]  # by name of line and registry


def generator_seconds() -> float:
    """Processor time of this process and of the programs that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(line: Line, registry: Registry, sizes: Sizes) -> Figure:
    """Do what a line says once. Nothing that was written before is left to be written."""
    act = line.prepare(registry, sizes)
    os.sync()
    before, own, began = registry.processor(), generator_seconds(), time.perf_counter()
    times = act()
    wall, own, after = time.perf_counter() - began, generator_seconds() - own, registry.processor()
    return Figure(*(value / times for value in (wall, after[0] - before[0], after[1] - before[1], own)))


def compete(contestants: list[Registry], chosen: list[Line], sizes: Sizes, rounds: int) -> Figures:
    """Measure all lines in all rounds."""
    for registry in contestants:
        lines.CONTENTS[registry.name] = lines.Content(registry, sizes)
    figures: Figures = defaultdict(list)
    for number in range(rounds):
        turn = number % len(contestants)
        for line in chosen:
            for registry in contestants[turn:] + contestants[:turn]:
                if registry.is_ours or not line.ours_only:
                    figures[line.name, registry.name].append(measure(line, registry, sizes))
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return figures


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def table(head: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def spread(values: list[float], form: str) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} - {max(values):{form}})"


def print_times(contestants: list[Registry], chosen: list[Line], figures: Figures) -> None:
    """Wall time or requests a second."""
    rows = []
    for line in chosen:
        row = [f"{line.name}, {'requests/s' if line.is_load else 'ms'}"]
        for registry in contestants:
            walls = [figure.wall for figure in figures.get((line.name, registry.name), [])]
            values = [1 / wall for wall in walls] if line.is_load else [wall * 1000 for wall in walls]
            row.append(spread(values, ",.0f") if values else "")
        rows.append(row)
    table(["", *(registry.name for registry in contestants)], rows)


def print_ratios(contestants: list[Registry], chosen: list[Line], figures: Figures) -> None:
    """Time of each other registry over that of each KCR. Without others, time of the first KCR over that of the rest.

    Above 1, the registry behind the stroke is faster.
    """
    ours = [registry for registry in contestants if registry.is_ours]
    others = [registry for registry in contestants if not registry.is_ours]
    pairs = list(itertools.product(others, ours)) or [(ours[0], other) for other in ours[1:]]
    rows = []
    for line in chosen:
        row = [line.name]
        for other, kcr in pairs:
            both = zip(figures.get((line.name, other.name), []), figures[line.name, kcr.name], strict=False)
            ratios = [theirs.wall / own.wall for theirs, own in both]
            row.append(spread(ratios, ".2f") if ratios else "")
        rows.append(row)
    if pairs:
        table(["time of one / time of the other", *(f"{one.name} / {other.name}" for one, other in pairs)], rows)


def print_processor(contestants: list[Registry], chosen: list[Line], figures: Figures) -> None:
    """Mean processor time of an action: a registry's processes + those of its services."""
    rows = []
    for line in chosen:
        unit, factor = ("µs of processor a request", 1e6) if line.is_load else ("ms of processor", 1e3)
        row, generators = [f"{line.name}, {unit}"], []
        for registry in contestants:
            found = figures.get((line.name, registry.name), [])
            if not found:
                row.append("")
                continue
            _, used, services, generator = (factor * statistics.fmean(values) for values in zip(*found, strict=True))
            row.append(f"{used:,.0f} + {services:,.0f}" if registry.services else f"{used:,.0f}")
            generators.append(generator)
        rows.append([*row, f"{statistics.fmean(generators):,.0f}"])
    table(["", *(registry.name for registry in contestants), "load generator"], rows)


def print_processes(contestants: list[Registry]) -> None:
    """Start-up time, and memory of each process when idle and at most."""

    def sizes(found: dict[str, list[int]]) -> str:
        return "; ".join(f"{name} {', '.join(f'{size / MB:.0f}' for size in each)}" for name, each in found.items())

    rows = [
        [registry.name, f"{registry.start_seconds:.1f}", sizes(registry.idle), sizes(registry.memory("VmHWM"))]
        for registry in contestants
    ]
    table(["", "start-up, s", "memory when idle, MiB", "memory at most, MiB"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds, 32 MiB, loads of one second")
    parser.add_argument("--rounds", type=int, help="7, or 3 with --quick")
    parser.add_argument("--size", type=int, help="MiB of a large blob: 128, or 32 with --quick")
    parser.add_argument("--seconds", type=int, help="seconds of each load: 3, or 1 with --quick")
    parser.add_argument("--database", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite"])
    parser.add_argument("--storage", nargs="+", choices=["files", "s3"], default=["files"])
    parser.add_argument("--processes", nargs="+", type=int, default=[0], help="web processes; else as serve decides")
    parser.add_argument("--no-peers", action="store_true", help="KCR alone")
    parser.add_argument("--line", default="", help="only lines whose name contains this")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("this needs the program wrk")
    chosen = [line for line in lines.lines() if options.line in line.name]
    large = (options.size or (32 if options.quick else 128)) * MB
    measured = lines.Sizes(large, min(MB, large), options.seconds or (1 if options.quick else 3))
    rounds = options.rounds or (3 if options.quick else 7)
    with contextlib.ExitStack() as stack:
        shapes = itertools.product(options.database, options.storage, options.processes)
        contestants = [registries.kcr(stack, *shape) for shape in shapes]
        contestants += [] if options.no_peers else registries.peers(stack)
        before = machine()
        figures = compete(contestants, chosen, measured, rounds)
        print(f"{before}. {rounds} rounds, large blobs of {large // MB} MiB. Medians, least and most.")
        print_times(contestants, chosen, figures)
        print_ratios(contestants, chosen, figures)
        print_processor(contestants, chosen, figures)
        print_processes(contestants)


if __name__ == "__main__":
    main()
