#!/usr/bin/env python3
"""Measures the tables of docs/results.md and prints them as Markdown.

usage: measure_results.py LAPIDARY_BINARY CHECKPOINTS_DIR TEXT [--tokens N]
CHECKPOINTS_DIR holds nano-e, small-dense, ... with their reference/ folders; TEXT is the file that
their reference figures were measured on. Needs only the Python standard library.
"""
import argparse
import json
import os
import subprocess
import tempfile

TRAINED = ["nano-e", "small-dense", "small-moe"]
CODES = ["w8", "w8x", "w6", "w5", "w4x", "w4", "w3"]


class Lapidary:
    def __init__(self, binary):
        self.binary = binary

    def __call__(self, *arguments, statuses=(0,)):
        done = subprocess.run([self.binary, *arguments, "--json", "--quiet"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode not in statuses:
            raise SystemExit(f"lapidary {' '.join(arguments)}: {done.stderr}")
        return json.loads(done.stdout)


def table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def parity(lapidary, folder, model, text):
    reference = json.load(open(f"{folder}/reference/prompts.json", encoding="utf-8"))
    measured = lapidary("eval", model, "--text", text, "--limit-tokens",
                        str(reference["text"]["first_tokens"]), "--context",
                        str(reference["text"]["context"]), "--kv", "f32")
    same = decided = 0
    for prompt in reference["prompts"]:
        if prompt["smallest_top2_gap"] <= 1e-3:  # closer than float rounding can decide
            continue
        decided += 1
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="") as file:
            file.write(prompt["prompt"])
            file.flush()
            reply = lapidary("run", model, "--raw", "--greedy", "--kv", "f32", "--max-tokens", "48",
                             "--context", "8192", "-f", file.name)
        expected = prompt["greedy"].removesuffix("<eos>").removesuffix("<turn|>")
        same += reply["text"] == expected
    want = reference["text"]["nll"]
    relative = abs(measured["nll"] - want) / want
    return [measured["tokens"], f"{want:.7f}", f"{measured['nll']:.7f}", f"{relative:.1e}",
            f"{same} of {decided}"]


def loss_of_code(lapidary, name, model, code, text, tokens, work):
    packed = f"{work}/{name}-{code}.lap"
    made = lapidary("quantize", model, "-o", packed, "--weights", code)
    rows = {}
    for activations in ("int8", "16bit"):
        rows[activations] = lapidary(
            "verify", model, packed, "--text", text, "--limit-tokens", str(tokens), "--context",
            "1024", "--kv-base", "f32", "--kv-candidate", "f32", "--activations-candidate",
            activations, statuses=(0, 1, 2))
    measured, exact = rows["int8"]["text"], rows["16bit"]["text"]
    os.remove(packed)
    return [code, f"{made['bits_per_weight']:.3f}", f"{made['file_bytes'] / 1e6:.2f} MB",
            f"{measured['nll_candidate'] - measured['nll_base']:+.4f}",
            f"{measured['kld_mean']:.5f}", f"{measured['kld_median']:.5f}",
            f"{exact['kld_mean']:.5f}", f"{100 * measured['top1_agreement']:.1f} %",
            rows["int8"]["verdict"]]


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("binary")
    options.add_argument("checkpoints")
    options.add_argument("text")
    options.add_argument("--tokens", type=int, default=24852)
    options = options.parse_args()
    lapidary = Lapidary(options.binary)

    with tempfile.TemporaryDirectory() as work:
        models = {}
        for name in TRAINED:
            folder = f"{options.checkpoints}/{name}"
            if os.path.isdir(folder):
                models[name] = f"{work}/{name}.lap"
                lapidary("convert", folder, "-o", models[name])
        print("### Parity with transformers\n")
        table(["checkpoint", "tokens", "NLL, transformers", "NLL, lapidary", "relative difference",
               "greedy answers identical"],
              [[name] + parity(lapidary, f"{options.checkpoints}/{name}", model, options.text)
               for name, model in models.items()])
        for name, model in models.items():
            print(f"### Loss per code: {name}\n")
            table(["code", "bits per weight", "file", "NLL difference", "KLD mean", "KLD median",
                   "KLD mean, 16-bit activations", "same best token", "verdict"],
                  [loss_of_code(lapidary, name, model, code, options.text, options.tokens, work)
                   for code in CODES])


if __name__ == "__main__":
    main()
