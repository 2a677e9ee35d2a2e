#!/usr/bin/env python3
"""Measures what a running model holds in memory and how soon it answers; prints a Markdown table.

usage: measure_memory.py LAPIDARY_BINARY [--models NAME=FILE ...] [--context N] [--new-tokens N]

Without --models, synthetic w4 files with the shapes of E2B and E4B are written to a temporary folder
(6.4 GB). Each model fills its context with a prompt and new tokens, while RssAnon and RssFile are
read from /proc. Start-up is the time from the start of the process to its end with one new token,
less the prompt's own time; the file is in the page cache then. Needs only the standard library;
Linux. Exit status 1 when a figure is above its bound.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

BOUNDS_GB = {"e2b": 1.4, "e4b": 2.75}  # w4, context 4096
STARTUP_BOUND_S = 0.3


def run(binary, model, prompt_file, context, new_tokens):
    """One `lapidary run`: (its JSON, seconds from start to end, the most memory it held in bytes)."""
    start = time.monotonic()
    process = subprocess.Popen(
        [binary, "run", model, "--raw", "--greedy", "--json", "--context", str(context),
         "--max-tokens", str(new_tokens), "-f", prompt_file],
        stdout=subprocess.PIPE, text=True)
    most = {"RssAnon": 0, "RssFile": 0}
    while process.poll() is None:  # the very last readings see a process that is being taken apart
        most = max(most, memory(process.pid), key=lambda found: sum(found.values()))
        time.sleep(0.01)
    seconds = time.monotonic() - start
    if process.returncode:
        raise SystemExit(f"lapidary run {model}: exit status {process.returncode}")
    return json.loads(process.stdout.read()), seconds, most


def memory(pid):
    """RssAnon and RssFile of a process in bytes; 0 once it has ended."""
    found = {"RssAnon": 0, "RssFile": 0}
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name in ("RssAnon", "RssFile"):
                    found[name] = 1024 * int(value.split()[0])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def write_prompt(path, n_words):
    """Words of three letters: one or two tokens each, whatever the tokenizer."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    with open(path, "w", encoding="ascii") as file:
        file.write(" ".join(letters[i % 26] + letters[i // 26 % 26] + letters[i * 7 % 26]
                            for i in range(n_words)))


def measure(arguments, name, model, folder):
    long_prompt, short_prompt = f"{folder}/long.txt", f"{folder}/short.txt"
    # At two tokens a word at most, prompt and new tokens fit the context.
    write_prompt(long_prompt, (arguments.context - arguments.new_tokens - 2) // 2)
    write_prompt(short_prompt, 4)
    startup = []
    for _ in range(4):  # the first brings the file into the page cache
        reply, seconds, _ = run(arguments.binary, model, short_prompt, arguments.context, 1)
        startup.append(seconds - len(reply["prompt_tokens"]) / reply["prompt_tokens_per_second"])
    startup = min(startup[1:])
    reply, _, most = run(arguments.binary, model, long_prompt, arguments.context,
                         arguments.new_tokens)
    n_tokens = len(reply["prompt_tokens"]) + len(reply["tokens"])
    total = sum(most.values()) / 1e9
    bound = BOUNDS_GB.get(name)
    print(f"| {name} | {n_tokens} | {most['RssAnon'] / 1e9:.2f} | {most['RssFile'] / 1e9:.2f} | "
          f"{total:.2f} | {bound or '–'} | {startup:.2f} | {STARTUP_BOUND_S} |", flush=True)
    return (bound is None or total < bound) and startup < STARTUP_BOUND_S


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("binary")
    parser.add_argument("--models", nargs="+", metavar="NAME=FILE", default=[])
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--new-tokens", type=int, default=200)
    arguments = parser.parse_args()
    print("| model | tokens held | RssAnon GB | RssFile GB | sum GB | bound | start s | bound |")
    print("|---|---|---|---|---|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for given in arguments.models or BOUNDS_GB:
            name, _, model = given.partition("=")
            if not model:
                model = f"{folder}/{name}.lap"
                subprocess.run([arguments.binary, "bench", "--synthetic", name, "--weights", "w4",
                                "-o", model, "--quiet"], check=True, stdout=subprocess.DEVNULL)
            good = measure(arguments, name, model, folder) and good
            if not given.partition("=")[2]:
                os.remove(model)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
