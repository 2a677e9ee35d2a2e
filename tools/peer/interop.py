#!/usr/bin/env python3
"""Runs what `lapidary export` writes in the runtimes it is written for; started by test_interop.sh.

For every model and target: mean KL divergence from the source over the full vocabulary, both in that
runtime (float32 where it lets us), how many of three prompts continue greedily as the source does there,
and, where the file holds our very integers (or the source's floats, or an adapter on them), how far the
log-probabilities of the first tokens are from ours (16-bit activations, float32 cache). llama.cpp
rounds activations as its types do, so there the second pair of figures has its roundings taken out
(exact_arithmetic.h), without tokens whose last chosen expert and first one left out score alike
to float32's last bits. Exits 1 when log-probabilities that should agree are further apart than
--tolerance. Cells that cannot be run are printed with the reason.
"""
import argparse
import functools
import json
import math
import os
import sys
import tempfile

import numpy as np

from runtimes import LlamaCpp, Missing, Mlx, Transformers, log_softmax, run

WINDOW, N_SCORED, PROMPT, NEW = 256, 40, 24, 24
EXACT_EMBEDDINGS = ["--keep", "model.embed_tokens*=bf16", "--keep", "model.per_layer_model*=bf16",
                    "--keep", "*router.proj.weight=bf16", "--keep", "lm_head.weight=bf16"]


def greedy(runtime, prompt):
    ids = list(prompt)
    for _ in range(NEW):
        ids.append(int(runtime.logits(ids)[-1].argmax()))
    return ids[len(prompt):]


class Bench:
    def __init__(self, options, folder, model):
        self.options, self.folder, self.model = options, folder, model
        self.name = os.path.basename(os.path.normpath(model))
        self.failed = False
        self.base = self.path("base.lap")
        self.lapidary("convert", model, "-o", self.base)
        config = json.load(open(f"{model}/config.json", encoding="utf-8"))
        self.bos = config.get("bos_token_id") or config["text_config"]["bos_token_id"]
        self.text = f"{folder}/text"
        with open(options.text, encoding="utf-8") as source, \
                open(self.text, "w", encoding="utf-8") as file:
            file.write(source.read(6000))
        tokens = json.loads(self.lapidary("tokenize", self.base, "--text", self.text, "--json"))
        self.ids = [self.bos] + tokens["ids"][:WINDOW - 1]
        self.prompts = [self.ids[at:at + PROMPT] for at in (0, 60, 120)]
        inspected = json.loads(self.lapidary("inspect", self.base, "--json"))
        self.n_weights = sum(math.prod(t["shape"]) for t in inspected["tensors"])
        self.cases = {}  # what a runtime gives for the source

    def path(self, name):
        return f"{self.folder}/{self.name}-{name}"

    def lapidary(self, *arguments):
        return run(self.options.lapidary, *arguments, "--quiet")

    def quantized(self, code):
        out = self.path(f"{code}.lap")
        if not os.path.exists(out):
            keep = EXACT_EMBEDDINGS if code.endswith("x") else []
            self.lapidary("quantize", self.base, "-o", out, "--weights", code, *keep)
        return out

    @functools.cache  # one Bench per model, few files
    def our_logprobs(self, packed, *more):
        """log p of the first tokens, from the mean NLL of texts that grow by one."""
        sums = [0.0]
        for n in range(1, N_SCORED + 1):
            report = json.loads(self.lapidary(
                "eval", packed, "--text", self.text, "--limit-tokens", str(n), "--kv", "f32",
                "--activations", "16bit", "--json", *more))
            sums.append(report["nll"] * report["tokens"])
        return -np.diff(sums)

    def measure(self, runtime):
        logp = log_softmax(runtime.logits(self.ids))
        return logp, [greedy(runtime, prompt) for prompt in self.prompts]

    def row(self, target, kind, bits, kld, apart, same):
        print(f"| {target} | {self.name} | {kind} | {bits} | {kld} | {apart} | {same} |", flush=True)

    def chosen(self, logp):
        return logp[np.arange(N_SCORED), self.ids[1:N_SCORED + 1]]

    def apart(self, theirs, ours):
        """Log p of the first N_SCORED tokens after BOS, which must agree."""
        difference = np.abs(ours - theirs)
        self.failed |= not difference.max() <= self.options.tolerance
        return f"{difference.mean():.2g}, {difference.max():.2g}"

    def llama_apart(self, file, ours):
        ids = self.ids[:N_SCORED + 1]
        rounded = np.abs(np.array(file.score([ids], 1)[0]["logprobs"]) - ours)
        theirs, tied = file.exact(ids)
        ties = f" without {tied.sum()} {'ties' if tied.sum() > 1 else 'tie'}" if tied.any() else ""
        return (f"{rounded.mean():.2g}, {rounded.max():.2g}; unrounded{ties} "
                f"{self.apart(theirs[~tied], ours[~tied])}")

    def cell(self, runtime_class, target, kind, packed, arguments, same_numbers):
        """Exports, loads, measures; `same_numbers`: the file holds what the .lap holds."""
        out = self.path(f"{target}-{kind.replace(' ', '-')}")
        try:
            report = json.loads(self.lapidary("export", packed, "--to", target, "-o", out,
                                              "--json", *arguments))
            bits = f"{8 * report['bytes'] / self.n_weights:.2f}"
            logp, continued = self.measure(runtime_class(out))
        except (Missing, ImportError) as reason:
            self.row(f"{runtime_class.name}, {target}", kind, "–", "–", f"not run: {reason}", "–")
            return None
        if runtime_class not in self.cases:
            self.cases[runtime_class] = (logp, continued)
        source, source_greedy = self.cases[runtime_class]
        kld = (np.exp(source) * (source - logp)).sum(-1).mean()
        same = sum(a == b for a, b in zip(continued, source_greedy))
        apart = self.apart(self.chosen(logp), self.our_logprobs(packed)) if same_numbers else "–"
        self.row(f"{runtime_class.name}, {target}", kind, bits, f"{max(kld, 0):.5f}", apart,
                 f"{same} of {len(self.prompts)}")
        return out

    def folders(self):
        ct, w4x = "compressed-tensors", self.quantized("w4x")
        self.cell(Transformers, "hf", "bf16", self.base, [], True)
        self.cell(Transformers, ct, "int4 from w4x", w4x, [], True)
        self.cell(Transformers, ct, "int8 from w8x", self.quantized("w8x"), [], True)
        self.cell(Transformers, ct, "int8, fp8 cache", self.quantized("w8x"), ["--kv", "fp8"], False)
        self.cell(Transformers, ct, "int4", self.base, ["--type", "int4"], False)
        self.cell(Transformers, ct, "int8", self.base, ["--type", "int8"], False)
        self.cell(Transformers, ct, "int4 from w4", self.quantized("w4"), [], False)
        self.cell(Mlx, "mlx", "bf16", self.base, ["--type", "bf16"], True)
        self.cell(Mlx, "mlx", "int4 from w4x", w4x, [], True)
        self.cell(Mlx, "mlx", "int8 from w8x", self.quantized("w8x"), [], True)
        self.cell(Mlx, "mlx", "int4", self.base, ["--type", "int4"], False)
        self.cell(Mlx, "mlx", "int8", self.base, ["--type", "int8"], False)

    def gguf(self):
        source = None
        for kind, packed in [("f32", self.base), ("bf16", self.base), ("q8_0", self.quantized("w8x")),
                             ("q4_0", self.quantized("w4x")), ("q4_k", self.base)]:
            label = {"q8_0": "q8_0 from w8x", "q4_0": "q4_0 from w4x"}.get(kind, kind)
            out = self.path(f"{kind}.gguf")
            exact_kind = ["--type", kind] if packed == self.base else []
            try:
                if not self.options.llama_driver:
                    raise Missing("llama.cpp is not built")
                report = json.loads(self.lapidary("export", packed, "--to", "gguf", *exact_kind, "-o",
                                                  out, "--json"))
                file = LlamaCpp(self.options.llama_driver, out)
                source = source or file
                continued = [s["greedy"] for s in file.score(self.prompts, NEW)]
                if file is source:
                    source_greedy = continued
                kld = source.divergence(self.ids, out)
            except Missing as reason:
                self.row("llama.cpp, gguf", label, "–", "–", f"not run: {reason}", "–")
                continue
            apart = "–" if kind == "q4_k" else self.llama_apart(file, self.our_logprobs(packed))
            same = sum(a == b for a, b in zip(continued, source_greedy))
            self.row("llama.cpp, gguf", label, f"{report['bits_per_weight']:.2f}",
                     f"{max(kld, 0):.5f}", apart, f"{same} of {len(self.prompts)}")

    def adapters(self):
        """One PEFT folder in four runtimes, on the exact model."""
        peft = f"{self.model}/reference/lora_final"
        if not os.path.isdir(peft):
            return
        ours = self.our_logprobs(self.base, "--adapter", peft)

        def transformers():
            runtime = Transformers(self.path("hf-bf16"))
            runtime.adapt(peft)
            return self.apart(self.chosen(log_softmax(runtime.logits(self.ids))), ours)

        def mlx():
            out = self.path("adapter-mlx")
            self.lapidary("export", peft, "--to", "mlx", "--base", self.base, "-o", out)
            runtime = Mlx(self.path("mlx-bf16"))
            runtime.adapt(out)
            return self.apart(self.chosen(log_softmax(runtime.logits(self.ids))), ours)

        def llama():
            if not self.options.llama_driver:
                raise Missing("llama.cpp is not built")
            out = self.path("adapter.gguf")
            self.lapidary("export", peft, "--to", "gguf", "--base", self.base, "-o", out)
            runtime = LlamaCpp(self.options.llama_driver, self.path("f32.gguf"), out)
            return self.llama_apart(runtime, ours)

        for name, measured in [("PEFT, as it is", transformers), ("mlx-lm, mlx", mlx),
                               ("llama.cpp, gguf", llama)]:
            try:
                apart = measured()
            except (Missing, ValueError, ImportError) as reason:
                apart = f"not run: {str(reason).splitlines()[0]}"
            self.row(name, "adapter", "–", "–", apart, "–")


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    shared = os.path.join(os.environ.get("LAPIDARY_SHARED") or f"{root}/../shared", "checkpoints")
    known = [f"{root}/tests/data/{n}" for n in ("nano-e", "tiny-gemma3", "tiny-llama3", "tiny-qwen3")]
    known += [f"{shared}/{n}" for n in ("small-dense", "small-moe")]
    parser = argparse.ArgumentParser(prog="test_interop.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--lapidary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--llama-driver", help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="+", default=[m for m in known if os.path.isdir(m)])
    parser.add_argument("--text", default=f"{root}/tests/data/own.txt")
    parser.add_argument("--tolerance", type=float, default=2e-3)
    options = parser.parse_args()
    print("| runtime, target | model | file | bits | mean KLD to the source there "
          "| log p apart from ours: mean, largest | greedy as the source |\n"
          "|---|---|---|---|---|---|---|")
    failed = False
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(options, folder, model)
            bench.folders()
            bench.gguf()
            bench.adapters()
            failed |= bench.failed
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
