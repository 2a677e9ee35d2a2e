#!/usr/bin/env python3
"""Measures what KV-cache codes cost in Lapidary and in llama.cpp; started by bench_peer.sh.

Both sides score the same tokens in the same windows, BOS before each (`verify --text`), and compare
with their own 16-bit cache: mean and median KL divergence over every predicted token. llama.cpp runs
the model as our `export --to gguf` writes it, weights exact. Ours with --kv-exact 0,0 packs every
token; the default keeps the first 64 and a tail in 16 bits. Standard library only.
"""
import argparse
import json
import os
import subprocess
import tempfile

THEIRS = ["q8_0/q8_0", "q8_0/q4_0", "q4_0/q4_0"]
OURS = ["k8v8", "k8v4", "k4v4", "k3v3"]


def run(*command, statuses=(0,)):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode not in statuses:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout


class Comparison:
    def __init__(self, options, folder):
        self.options, self.folder, self.rows = options, folder, []

    def row(self, model, side, cache, measured):
        self.rows.append((model, side, cache, f"{measured['kld_mean']:.6f}",
                          f"{measured['kld_median']:.6f}"))

    def convert(self, checkpoint):
        """A folder becomes a .lap; a .lap is taken as it is."""
        name = os.path.basename(os.path.normpath(checkpoint)).removesuffix(".lap")
        if checkpoint.endswith(".lap"):
            return name, checkpoint
        packed = f"{self.folder}/{name}.lap"
        run(self.options.lapidary, "convert", checkpoint, "-o", packed, "--quiet")
        return name, packed

    def theirs(self, name, packed):
        gguf, ids = f"{self.folder}/{name}.gguf", f"{self.folder}/{name}.ids"
        run(self.options.lapidary, "export", packed, "--to", "gguf", "--type", "f32", "-o", gguf,
            "--quiet")
        tokens = json.loads(run(self.options.lapidary, "tokenize", packed, "--text",
                                self.options.text, "--json"))["ids"][:self.options.tokens]
        with open(ids, "w", encoding="ascii") as file:
            print(*tokens, file=file)
        measured = json.loads(run(self.options.llama_driver, "kv", gguf, str(self.options.threads),
                                  ids, str(self.options.context), *THEIRS))
        for cache in THEIRS:
            self.row(name, "llama.cpp", cache, measured["kv"][cache])

    def ours(self, name, packed):
        for exact in ("64,256", "0,0"):
            for code in self.options.codes:
                report = json.loads(run(
                    self.options.lapidary, "verify", packed, packed, "--text", self.options.text,
                    "--limit-tokens", str(self.options.tokens), "--context",
                    str(self.options.context), "--kv-base", "off", "--kv-candidate", code,
                    "--kv-exact", exact, "--threads", str(self.options.threads), "--json", "--quiet",
                    statuses=(0, 1, 2)))
                ends = "exact ends" if exact != "0,0" else "no exact ends"
                self.row(name, "Lapidary", f"{code}, {ends}", report["text"])


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    shared = os.path.join(os.environ.get("LAPIDARY_SHARED") or f"{root}/../shared", "checkpoints")
    known = [f"{root}/tests/data/nano-e", f"{shared}/small-dense", f"{shared}/small-moe"]
    parser = argparse.ArgumentParser(prog="bench_peer.sh kv", description=__doc__.splitlines()[0])
    for name in ("--lapidary", "--llama-bench", "--llama-driver", "--llama-version"):
        parser.add_argument(name, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="+", default=[m for m in known if os.path.isdir(m)],
                        help="checkpoint folders or .lap files")
    parser.add_argument("--text", default=f"{root}/tests/data/own.txt")
    parser.add_argument("--tokens", type=int, default=8188, help="of the text's beginning")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--codes", nargs="+", default=OURS)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(options, folder)
        for checkpoint in options.models:
            name, packed = comparison.convert(checkpoint)
            comparison.theirs(name, packed)
            comparison.ours(name, packed)
    print(f"{options.tokens} tokens of {os.path.basename(options.text)}, context {options.context}; "
          f"llama.cpp from llama-cpp-python {options.llama_version}.\n")
    print("| model | runtime | cache | mean KLD | median KLD |\n|---|---|---|---|---|")
    for row in comparison.rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
