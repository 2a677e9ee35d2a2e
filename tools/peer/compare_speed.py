#!/usr/bin/env python3
"""Times Lapidary and llama.cpp in turns on the same synthetic model; started by bench_peer.sh.

Each round runs ours, then theirs; the table shows medians over the rounds. A run during which other
processes took more than a twentieth of the cores does not count and is repeated. Generation at a
depth starts both runtimes from a filled cache (theirs through llama_driver), since filling it by a
prompt would take minutes. Standard library only.
"""
import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time

TESTS = {"e2b": "pp512,tg32,tg32@d32768", "26b-a4b": "pp512,pp2048,tg32"}
LAYERS = {"e2b": 0, "26b-a4b": 6}  # 0: all
TRIES = 4  # runs of one test for each that counts


def busy_seconds():
    """Processor time that anything on this machine used so far, stolen time included."""
    fields = [int(f) for f in open("/proc/stat").readline().split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_json(command):
    """The JSON a command prints, and the share of one core that others took meanwhile."""
    start, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    others = (busy_seconds() - busy) - (own_seconds() - own)
    return json.loads(done.stdout), others / (time.monotonic() - start)


def undisturbed(command, what, threads):
    """Repeats a run until nothing else disturbed it; gives the calmest when nothing helps."""
    best = None
    for _ in range(TRIES):
        result, others = run_json(command)
        if best is None or others < best[1]:
            best = (result, others)
        if others <= 0.05 * threads:
            return result
    print(f"{what}: other jobs took {best[1]:.2f} cores in the calmest of {TRIES} runs",
          file=sys.stderr)
    return best[0]


def parse(test):
    match = re.fullmatch(r"(pp|tg)(\d+)(?:@d(\d+))?", test)
    if not match or (match[1] == "pp" and match[3]):
        raise SystemExit(f"test {test}: expected ppN, tgN or tgN@dN")
    return match[1], int(match[2]), int(match[3] or 0)


class Peers:
    """One round of all tests, each side once; {test: result}."""

    def __init__(self, options, tests, ours, theirs):
        self.options, self.tests, self.ours, self.theirs = options, tests, ours, theirs
        self.threads = str(options.threads)

    def run_ours(self):
        return undisturbed([self.options.lapidary, "bench", self.ours, "--tests",
                            ",".join(self.tests), "--threads", self.threads, "--repetitions", "1",
                            "--json", "--quiet"], "lapidary", self.options.threads)

    def run_theirs(self):
        shallow = {(kind, n): test for test, (kind, n, depth) in self.tests.items() if not depth}
        rates = {}
        if shallow:
            counts = {kind: ",".join(str(n) for k, n in shallow if k == kind) or "0"
                      for kind in ("pp", "tg")}
            command = [self.options.llama_bench, "-m", self.theirs, "-t", self.threads, "-r", "1",
                       "-p", counts["pp"], "-n", counts["tg"], "-o", "json"]
            for result in undisturbed(command, "llama-bench", self.options.threads):
                key = ("pp", result["n_prompt"]) if result["n_prompt"] else ("tg", result["n_gen"])
                rates[shallow[key]] = result["avg_ts"]
        for test, (_, n, depth) in self.tests.items():
            if depth:
                command = [self.options.llama_driver, "depth", self.theirs, self.threads, str(depth),
                           str(n), "1"]
                result = undisturbed(command, f"llama.cpp {test}", self.options.threads)
                rates[test] = result["tokens_per_second"][0]
        return rates


def make_models(options, words=False):
    """Both files of the synthetic model, theirs with a vocabulary if asked for; made once."""
    folder = os.environ.get("LAPIDARY_BENCH_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lapidary", "peer")
    os.makedirs(folder, exist_ok=True)
    layers = ["--layers", str(options.layers)] if options.layers else []
    name = options.model + (f"-{options.layers}" if options.layers else "")
    ours, theirs = f"{folder}/{name}-{options.weights}.lap", f"{folder}/{name}{'-words' * words}.gguf"
    if not os.path.exists(ours):
        subprocess.run([options.lapidary, "bench", "--synthetic", options.model, "--weights",
                        options.weights, "-o", ours, *layers], check=True, stdout=sys.stderr)
    if not os.path.exists(theirs):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "synthetic_gguf.py")
        subprocess.run([sys.executable, script, options.model, theirs, *layers, *["--words"] * words],
                       check=True)
    return ours, theirs


def show(options, machine, rows):
    layers = f", first {options.layers} layers" if options.layers else ""
    print(f"{machine['cpu']}, {machine['isa']}, {machine['threads']} threads; read bandwidth "
          f"{machine['read_gbps']:.1f} GB/s, int8 peak {machine['int8_tops']:.2f} TOPS; synthetic "
          f"{options.model}{layers}; llama.cpp from llama-cpp-python {options.llama_version}; medians "
          f"of {options.repetitions} interleaved runs.\n")
    print(f"| test | Lapidary {options.weights}, tokens/s | llama.cpp Q4_0, tokens/s | ratio "
          "| of read bandwidth | of int8 peak |")
    print("|---|---|---|---|---|---|")
    for test, ours, theirs, shares in rows:
        bandwidth, int8 = (f"{100 * share:.0f} %" if share else "–" for share in shares)
        print(f"| {test} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f}x | {bandwidth} | {int8} |")


def main():
    parser = argparse.ArgumentParser(prog="bench_peer.sh speed", description=__doc__.splitlines()[0])
    for name in ("--lapidary", "--llama-bench", "--llama-driver", "--llama-version"):
        parser.add_argument(name, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", choices=TESTS, default="e2b")
    parser.add_argument("--weights", default="w4", help="our code; theirs is always Q4_0")
    parser.add_argument("--layers", type=int, help="only the first N layers (26b-a4b: 6); 0: all")
    parser.add_argument("--tests", help="for example pp512,tg32,tg32@d32768")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    if options.layers is None:
        options.layers = LAYERS[options.model]
    names = (options.tests or TESTS[options.model]).split(",")
    tests = {name: parse(name) for name in names}

    peers = Peers(options, tests, *make_models(options))
    ours, theirs, machine = [], [], {}
    for _ in range(options.repetitions):
        machine = peers.run_ours()
        ours.append({r["test"]: r for r in machine["results"]})
        theirs.append(peers.run_theirs())

    def middle(test, field):
        return statistics.median(round_[test][field] for round_ in ours)

    rows = [(t, middle(t, "tokens_per_second"), statistics.median(round_[t] for round_ in theirs),
             (middle(t, "share_of_bandwidth"), middle(t, "share_of_int8"))) for t in tests]
    show(options, machine, rows)


if __name__ == "__main__":
    main()
