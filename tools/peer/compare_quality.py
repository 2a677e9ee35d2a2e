#!/usr/bin/env python3
"""Puts the loss of our quantized weights beside llama.cpp's at the same size; started by bench_peer.sh.

Both sides calibrate on one text (theirs an importance matrix, ours --calibrate) and are measured on
another at the same tokens, each in its own runtime with its own exact model as base: KL divergence
over the full vocabulary. Bits count every tensor of the file, scales and padding included. The
column "of theirs" is our mean KLD over llama.cpp's at our size: its types that no other beats in
both size and loss, joined by straight lines of log KLD over bits; outside, its nearest type.
With --gguf our files are GGUF, too, of each of their sizes, and both sides are measured in llama.cpp.
Combinations that this build does not offer are listed with the reason. Their side is measured once
and kept in the cache folder. Standard library only.
"""
import argparse
import hashlib
import json
import math
import os
import subprocess
import tempfile

THEIRS = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q4_0", "Q3_K_M", "IQ3_S", "IQ3_XXS"]
PLAIN = ["w8", "w6", "w5", "w4", "w3", "t6", "t5", "t4", "t3"]
BUDGETS = ["8", "6", "5", "4.5", "4.25", "4", "3.5", "3.3"]
SHOWN = "4.25"  # the budget whose file also solves tasks


class Unavailable(Exception):
    pass


def run(*command, statuses=(0,), error=SystemExit):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="replace")
    if done.returncode not in statuses:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise error(lines[-1] if error is Unavailable
                    else f"{' '.join(map(str, command))}:\n{done.stderr}")
    return done.stdout


def fingerprint(*paths_and_words):
    digest = hashlib.sha256()
    for item in paths_and_words:
        digest.update(open(item, "rb").read() if os.path.isfile(item) else str(item).encode())
    return digest.hexdigest()[:16]


def curve(points):
    """(bits, kld) of the types that no other beats in both, by size."""
    best, kept = math.inf, []
    for bits, kld in sorted(points):
        if kld < best:
            kept.append((bits, kld))
            best = kld
    return kept


def kld_at(points, bits):
    if bits <= points[0][0]:
        return points[0][1]
    for (b0, k0), (b1, k1) in zip(points, points[1:]):
        if bits <= b1:
            share = (bits - b0) / (b1 - b0)
            return math.exp(math.log(k0) * (1 - share) + math.log(k1) * share)
    return points[-1][1]


class Comparison:
    def __init__(self, options, folder):
        self.options, self.folder, self.left_out, self.notes = options, folder, {}, []
        self.cache = os.path.join(
            os.environ.get("LAPIDARY_BENCH_DIR")
            or os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")),
                            "lapidary", "peer"), "quality")
        os.makedirs(self.cache, exist_ok=True)
        self.help = run(options.lapidary, "quantize", "--help")

    # ---- llama.cpp ----

    def theirs(self, name, packed):
        """[(type, measured)], from the cache when nothing changed."""
        base = f"{self.folder}/{name}-f32.gguf"
        run(self.options.lapidary, "export", packed, "--to", "gguf", "--type", "f32", "-o", base,
            "--quiet")
        key = fingerprint(base, self.options.calibrate, self.options.calibration_tokens,
                          self.options.text, self.options.tokens, self.options.context,
                          *self.options.types, self.options.llama_version)
        kept = os.path.join(self.cache, f"{name}-{key}.json")
        if not os.path.exists(kept):
            measured = self.measure_theirs(name, packed, base)
            with open(kept + ".part", "w", encoding="utf-8") as file:
                json.dump(measured, file)
            os.replace(kept + ".part", kept)
        os.remove(base)
        return json.load(open(kept, encoding="utf-8"))

    def write_ids(self, packed, path):
        tokens = json.loads(run(self.options.lapidary, "tokenize", packed, "--text",
                                self.options.text, "--json"))["ids"][:self.options.tokens]
        with open(path, "w", encoding="ascii") as file:
            print(*tokens, file=file)

    def measure_theirs(self, name, packed, base):
        threads, matrix = self.options.threads, f"{self.folder}/{name}.imatrix.gguf"
        run(self.options.llama_imatrix, "-m", base, "-f", self.options.calibrate, "-o", matrix, "-c",
            "512", "--chunks", -(-self.options.calibration_tokens // 512), "-t", threads)
        files = []
        for kind in self.options.types:
            path = f"{self.folder}/{name}-{kind}.gguf"
            run(self.options.llama_quantize, "--imatrix", matrix, base, path, kind, threads)
            files.append(path)
        ids = f"{self.folder}/{name}.ids"
        self.write_ids(packed, ids)
        report = json.loads(run(self.options.llama_driver, "weights", base, threads, ids,
                                self.options.context, *files))
        out = []
        for kind, path, measured in zip(self.options.types, files, report["candidates"]):
            out.append((kind, {
                "bits": 8 * measured["bytes"] / measured["parameters"],
                "file_bytes": os.path.getsize(path),
                "perplexity": math.exp(measured["nll"] - report["nll"]), **measured}))
            os.remove(path)
        return out

    # ---- ours, as GGUF ----

    def ours_as_gguf(self, name, packed, theirs):
        """Files of our types within each of their sizes, in llama.cpp's runtime."""
        base, ids = f"{self.folder}/{name}-f32.gguf", f"{self.folder}/{name}.ids"
        run(self.options.lapidary, "export", packed, "--to", "gguf", "--type", "f32", "-o", base,
            "--quiet")
        self.write_ids(packed, ids)
        rows, sizes = [], {kind: m["bits"] for kind, m in theirs}
        for kind, bits in sizes.items():
            path = f"{self.folder}/{name}-ours.gguf"
            report = json.loads(run(
                self.options.lapidary, "quantize", packed, "-o", path, "--target-bpw", f"{bits:.4f}",
                "--calibrate", self.options.calibrate, "--calibrate-tokens",
                self.options.calibration_tokens, "--threads", self.options.threads, "--json",
                "--quiet"))
            measured = json.loads(run(self.options.llama_driver, "weights", base,
                                      self.options.threads, ids, self.options.context, path))
            m = measured["candidates"][0]
            rows.append((f"GGUF of {kind}'s size", {
                "bits": 8 * m["bytes"] / m["parameters"], "file_bytes": os.path.getsize(path),
                "seconds": report["seconds"],
                "perplexity": math.exp(m["nll"] - measured["nll"]), **m}))
            os.remove(path)
        os.remove(base)
        return rows

    # ---- ours ----

    def variants(self):
        """(label, options) of quantize; what its help does not know is left out."""
        calibrate = ["--calibrate", self.options.calibrate,
                     "--calibrate-tokens", str(self.options.calibration_tokens)]
        for code in PLAIN:
            yield code, ["--weights", code]
        for code in PLAIN:
            yield f"{code}, calibrated", ["--weights", code, *calibrate]
        for budget in self.options.budgets:
            yield f"{budget} bits", ["--target-bpw", budget]
        for budget in self.options.budgets:
            yield f"{budget} bits, calibrated", ["--target-bpw", budget, *calibrate]

    def quantized(self, label, packed, arguments):
        for option in arguments[::2]:
            if option not in self.help:
                raise Unavailable(f"this build's quantize has no {option}")
        path = f"{self.folder}/candidate.lap"
        report = json.loads(run(self.options.lapidary, "quantize", packed, "-o", path, "--json",
                                "--quiet", "--threads", self.options.threads, *arguments,
                                error=Unavailable))
        return path, report

    def measure(self, packed, path, *more):
        return json.loads(run(
            self.options.lapidary, "verify", packed, path, "--kv-base", "f32", "--kv-candidate",
            "f32", "--threads", self.options.threads, "--json", "--quiet", *more,
            statuses=(0, 1, 2)))

    def ours(self, name, packed):
        rows = []
        for label, arguments in self.variants():
            if self.options.only and not any(word in label for word in self.options.only):
                continue
            try:
                path, report = self.quantized(label, packed, arguments)
            except Unavailable as reason:
                self.left_out.setdefault(str(reason), []).append(f"{name} {label}")
                continue
            text = self.measure(packed, path, "--text", self.options.text, "--limit-tokens",
                                self.options.tokens, "--context", self.options.context)["text"]
            rows.append((label, {
                "bits": report["bits_per_weight"], "file_bytes": report["file_bytes"],
                "seconds": report["seconds"],
                "perplexity": math.exp(text["nll_candidate"] - text["nll_base"]), **text}))
            if label == f"{SHOWN} bits, calibrated" and self.options.tasks:
                self.tasks(name, packed, path, report)
            os.remove(path)
        return rows

    def tasks(self, name, packed, path, report):
        master = json.loads(run(self.options.lapidary, "inspect", packed, "--json"))
        bytes_before = sum(t["bytes"] for t in master["tensors"])
        verdict = self.measure(packed, path, "--tasks", self.options.tasks, "--limit-items",
                               self.options.items)
        lines = [f"{name} at {report['bits_per_weight']:.3f} bits: "
                 f"{100 * (1 - report['bytes'] / bytes_before):.1f} % smaller than its source; "
                 "tasks, share solved by source and candidate, difference with its 95 % interval:"]
        for task, t in verdict["tasks"].items():
            low, high = t["interval"]
            lines.append(f"| {task} | {t['items']} | {t['base']:.3f} | {t['candidate']:.3f} "
                         f"| {t['difference']:+.3f} ({low:+.3f} to {high:+.3f}) |")
        lines.insert(1, "\n| task | items | source | quantized | difference |\n|---|---|---|---|---|")
        self.notes.append("\n".join(lines))

    # ---- the table ----

    def compare(self, checkpoint):
        name = os.path.basename(os.path.normpath(checkpoint))
        packed = f"{self.folder}/{name}.lap"
        run(self.options.lapidary, "convert", checkpoint, "-o", packed, "--quiet")
        theirs = self.theirs(name, packed)
        points = curve([(m["bits"], m["kld_mean"]) for _, m in theirs])
        rows = [(f"llama.cpp {label}", m, "") for label, m in theirs]
        rows += [(label, m, f"{m['kld_mean'] / kld_at(points, m['bits']):.2f}")
                 for label, m in (self.ours_as_gguf(name, packed, theirs) if self.options.gguf
                                  else self.ours(name, packed))]
        print(f"\n### {name}\n\n| weights | bits | file, MB | KLD mean | KLD median | of theirs "
              "| perplexity | same best token | seconds |\n" + "|---" * 9 + "|")
        for label, m, ratio in sorted(rows, key=lambda row: -row[1]["bits"]):
            seconds = f"{m['seconds']:.0f}" if "seconds" in m else ""
            print(f"| {label} | {m['bits']:.2f} | {m['file_bytes'] / 1e6:.2f} "
                  f"| {m['kld_mean']:.5f} | {m['kld_median']:.5f} | {ratio} "
                  f"| {100 * (m['perplexity'] - 1):+.2f} % | {100 * m['top1_agreement']:.1f} % "
                  f"| {seconds} |", flush=True)
        os.remove(packed)


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    shared = os.environ.get("LAPIDARY_SHARED") or f"{root}/../shared"
    known = [f"{shared}/checkpoints/small-dense", f"{root}/tests/data/nano-e",
             f"{shared}/checkpoints/small-moe"]
    manuals, own = f"{shared}/text/manuals.txt", f"{root}/tests/data/own.txt"
    parser = argparse.ArgumentParser(prog="bench_peer.sh quality", description=__doc__.splitlines()[0])
    for name in ("--lapidary", "--llama-bench", "--llama-driver", "--llama-version",
                 "--llama-imatrix", "--llama-quantize"):
        parser.add_argument(name, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="+", default=[m for m in known if os.path.isdir(m)][:1],
                        help="checkpoint folders (default: small-dense)")
    parser.add_argument("--calibrate", default=manuals, help="text both sides calibrate on")
    parser.add_argument("--calibration-tokens", type=int, default=24576,
                        help="of its beginning")
    parser.add_argument("--text", default=own, help="held-out text both are measured on")
    parser.add_argument("--tokens", type=int, default=8176, help="of that text's beginning")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--types", nargs="+", default=THEIRS)
    parser.add_argument("--budgets", nargs="+", default=BUDGETS)
    parser.add_argument("--only", nargs="+", help="of ours, those whose label contains one of these")
    parser.add_argument("--gguf", action="store_true",
                        help="ours as GGUF files of the sizes of theirs, run by llama.cpp too")
    parser.add_argument("--tasks", default="", help=f"task file for the {SHOWN}-bit file")
    parser.add_argument("--items", type=int, default=0, help="of each task; 0: all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if not options.models or not os.path.exists(options.calibrate):
        raise SystemExit("no trained checkpoint or calibration text found; set LAPIDARY_SHARED, or "
                         "give --models and --calibrate")

    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(options, folder)
        print(f"{options.tokens} tokens of {os.path.basename(options.text)}, windows of "
              f"{options.context}; calibrated on {os.path.basename(options.calibrate)}; llama.cpp "
              f"from llama-cpp-python {options.llama_version}.")
        for checkpoint in options.models:
            comparison.compare(checkpoint)
    for note in comparison.notes:
        print(f"\n{note}")
    if comparison.left_out:
        print("\nLeft out:\n" + "\n".join(f"- {'; '.join(labels)}: {reason}"
                                          for reason, labels in comparison.left_out.items()))


if __name__ == "__main__":
    main()
