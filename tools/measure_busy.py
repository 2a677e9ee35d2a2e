#!/usr/bin/env python3
"""Measures what generation keeps of its speed when other programs hold the cores; prints a Markdown table.

usage: measure_busy.py LAPIDARY_BINARY MODEL [--new-tokens N] [--repetitions N]

Beside it runs one loop per core that touches registers only, bound to that core; and --threads asks
for four times the cores. The conditions take turns, and each figure is a median, as other machines'
guests may come and go meanwhile. Needs only the standard library; Linux. Exit status 1 when less
than BOUND is kept.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

BOUND = 0.4
PROMPT = "The pool waits briefly, then sleeps."


def tokens_per_second(binary, model, n_threads, new_tokens):
    out = subprocess.run(
        [binary, "run", model, "--raw", "--greedy", "--json", "--threads", str(n_threads),
         "--context", "512", "--max-tokens", str(new_tokens), "-p", PROMPT],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    report = json.loads(out)
    if len(report["tokens"]) < 2:
        raise SystemExit("the model stopped at once: nothing to time")
    return report["tokens_per_second"]


class BusyLoops:
    """One per core, from the with statement's beginning to its end."""

    def __init__(self, cores):
        self.cores = cores

    def __enter__(self):
        self.loops = []
        for core in self.cores:
            loop = subprocess.Popen(["sh", "-c", "while :; do :; done"])
            os.sched_setaffinity(loop.pid, {core})
            self.loops.append(loop)

    def __exit__(self, *_):
        for loop in self.loops:
            loop.kill()
            loop.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()

    cores = sorted(os.sched_getaffinity(0))
    conditions = [  # name, loops on, threads
        ("undisturbed", [], len(cores)),
        ("a busy loop per core", cores, len(cores)),
        ("four threads per core", [], 4 * len(cores)),
        ("both", cores, 4 * len(cores)),
    ]
    figures = {name: [] for name, _, _ in conditions}
    for _ in range(args.repetitions):
        for name, loops, n_threads in conditions:
            with BusyLoops(loops):
                figures[name].append(
                    tokens_per_second(args.binary, args.model, n_threads, args.new_tokens))

    undisturbed = statistics.median(figures["undisturbed"])
    print(f"| {len(cores)} cores | tokens/s | kept |\n|---|---|---|")
    least = 1.0
    for name, values in figures.items():
        kept = statistics.median(values) / undisturbed
        least = min(least, kept)
        print(f"| {name} | {statistics.median(values):.1f} | {kept:.0%} |")
    return 0 if least >= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
