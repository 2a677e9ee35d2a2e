#!/usr/bin/env python3
"""Shows that llama.cpp runs what `lapidary export --to gguf` writes; started by bench_peer.sh gguf.

For each checkpoint folder with a reference/ (made with transformers in float32): log-probabilities of
the reference's tokens and the greedy continuation by llama.cpp, ours on the same prompts, and the
token ids that llama.cpp's tokenizer gives for the reference's texts. Exits 1 when a float32 file's
mean difference exceeds --tolerance or a greedy text differs. Standard library only.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile

LAPIDARY_GREEDY = ["--raw", "--greedy", "--kv", "f32", "--context", "8192", "--json", "--quiet"]


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout


def read_safetensors(path):
    """int32 and float32 tensors as tuples."""
    data = open(path, "rb").read()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        kind = {"I32": "i", "F32": "f"}.get(entry.get("dtype"))
        if kind:
            first, end = entry["data_offsets"]
            tensors[name] = struct.unpack(f"<{(end - first) // 4}{kind}",
                                          data[start + first:start + end])
    return tensors


def sequences(reference):
    """(ids to score, their log-probabilities, ids to continue, continuation)"""
    if "ids" in reference:  # one random sequence; its greedy continues the first 24
        return [(reference["ids"], reference["logprobs"], reference["ids"][:24],
                 reference["greedy"])]
    out, i = [], 0
    while f"ids.{i}" in reference:
        ids = reference[f"ids.{i}"]
        out.append((ids, reference[f"logprobs.{i}"], ids, reference[f"greedy.{i}"]))
        i += 1
    return out


class Checker:
    def __init__(self, options, folder):
        self.options, self.folder, self.failed = options, folder, False

    def score(self, gguf, lines, new_tokens):
        path = f"{self.folder}/ids"
        with open(path, "w", encoding="ascii") as file:
            for line in lines:
                print(*line, file=file)
        return json.loads(run(self.options.llama_driver, "score", gguf, str(self.options.threads),
                              path, str(new_tokens)))["sequences"]

    def same_tokens(self, gguf, checkpoint):
        path = f"{checkpoint}/reference/tokens.json"
        if not os.path.exists(path):
            return "–"
        cases = json.load(open(path, encoding="utf-8"))
        texts = f"{self.folder}/texts"
        with open(texts, "w", encoding="ascii") as file:
            for case in cases:
                print(case["text"].encode("utf-8", "surrogatepass").hex(), file=file)
        ids = json.loads(run(self.options.llama_driver, "tokenize", gguf, "1", texts))["ids"]
        same = sum(case["ids"] == got for case, got in zip(cases, ids))
        return f"{same} of {len(cases)}"

    def same_greedy_as_ours(self, packed, checkpoint, scored):
        """How many of our own greedy continuations llama.cpp repeats."""
        path = f"{checkpoint}/reference/prompts.json"
        if not os.path.exists(path):
            return "–"
        prompts = json.load(open(path, encoding="utf-8"))["prompts"]
        same = 0
        for prompt, theirs in zip(prompts, scored):
            with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8",
                                             newline="") as file:
                file.write(prompt["prompt"])
                file.flush()
                ours = json.loads(run(self.options.lapidary, "run", packed, "-f", file.name,
                                      "--max-tokens", "48", *LAPIDARY_GREEDY))["tokens"]
            same += ours == theirs["greedy"][:len(ours)]
        return f"{same} of {len(prompts)}"

    def check(self, checkpoint):
        name = os.path.basename(os.path.normpath(checkpoint))
        packed = f"{self.folder}/{name}.lap"
        run(self.options.lapidary, "convert", checkpoint, "-o", packed, "--quiet")
        cases = sequences(read_safetensors(f"{checkpoint}/reference/logits.safetensors"))
        for kind in self.options.types:
            gguf = f"{self.folder}/{name}.gguf"
            report = json.loads(run(self.options.lapidary, "export", packed, "--to", "gguf",
                                    "--type", kind, "-o", gguf, "--json", "--quiet"))
            longest = max(len(case[3]) for case in cases)
            scored = self.score(gguf, [case[0] for case in cases], 1)
            continued = self.score(gguf, [case[2] for case in cases], longest)
            apart = [abs(a - b) for case, got in zip(cases, scored)
                     for a, b in zip(case[1], got["logprobs"])]
            same = sum(list(case[3]) == got["greedy"][:len(case[3])]
                       for case, got in zip(cases, continued))
            mean = sum(apart) / len(apart)
            self.failed |= kind == "f32" and (mean > self.options.tolerance or same < len(cases))
            print(f"| {name} | {kind} | {report['bits_per_weight']:.2f} | {mean:.6f} "
                  f"| {max(apart):.6f} | {same} of {len(cases)} "
                  f"| {self.same_greedy_as_ours(packed, checkpoint, continued)} "
                  f"| {self.same_tokens(gguf, checkpoint)} |", flush=True)


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    shared = os.path.join(os.environ.get("LAPIDARY_SHARED") or f"{root}/../shared", "checkpoints")
    known = [f"{root}/tests/data/{n}" for n in ("nano-e", "tiny-gemma3", "tiny-llama3", "tiny-qwen3")]
    known += [f"{shared}/{n}" for n in ("small-dense", "small-moe")]
    parser = argparse.ArgumentParser(prog="bench_peer.sh gguf", description=__doc__.splitlines()[0])
    for name in ("--lapidary", "--llama-bench", "--llama-driver", "--llama-version"):
        parser.add_argument(name, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="+", default=[m for m in known if os.path.isdir(m)])
    parser.add_argument("--types", nargs="+", default=["f32", "bf16", "q8_0"])
    parser.add_argument("--tolerance", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()

    print("| model | type | bits | mean difference of log p | largest | greedy as transformers "
          "| greedy as ours | texts with the same tokens |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(options, folder)
        for checkpoint in options.models:
            checker.check(checkpoint)
    sys.exit(1 if checker.failed else 0)


if __name__ == "__main__":
    main()
