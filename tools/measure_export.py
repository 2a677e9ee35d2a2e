#!/usr/bin/env python3
"""Measures what writing a model for other runtimes takes; prints a Markdown table.

usage: measure_export.py LAPIDARY_BINARY [--model M.lap] [--shape e2b] [--folder DIR]
                         [--targets gguf:q4_k ...] [--threads N]

Without --model, a synthetic bf16 file of the shape (E2B: 9.3 GB) is written to a temporary folder,
beside which there must be room for one more. Every export reads all of it and writes its output, which
is then removed: peak memory is VmHWM, and beside the time stands what the same disk takes to copy as
many bytes, read once and written to disk, by plain reads and writes, and the processor's time: more than
the disk's times the cores means that rounding, not the disk, sets the pace. One copy goes ahead of all
and is not timed: on a virtual machine, memory that was not in use before is handed out slowly, and
whoever comes first would pay for it. Needs only the standard library; Linux. Exit status 1 when an
export takes more memory than its bound.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

BOUND_MB = 600
TARGETS = ["hf", "gguf:bf16", "gguf:q8_0", "gguf:q4_k", "compressed-tensors:int4",
           "compressed-tensors:int8", "mlx:int4", "mlx:bf16"]
PIECE = 8 << 20


def drop_from_cache(path):
    """Reads after this come from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def plain_copy(source, target, n_read, n_written):
    """Seconds to read n_read bytes of `source` and to write n_written of them, fsync included."""
    drop_from_cache(source)
    piece = bytearray(PIECE)
    start = time.monotonic()
    with open(source, "rb", buffering=0) as file, open(target, "wb", buffering=0) as out:
        while n_read > 0:
            n = file.readinto(piece) or n_read
            n_read -= n
            part = min(n, n_written)
            out.write(memoryview(piece)[:part])
            n_written -= part
        os.fsync(out.fileno())
    seconds = time.monotonic() - start
    os.remove(target)
    return seconds


def measure(arguments, model, folder, target):
    kind, _, number = target.partition(":")
    out = f"{folder}/export" + (".gguf" if kind == "gguf" else "")
    command = [arguments.binary, "export", model, "--to", kind, "-o", out, "--json", "--quiet",
               "--threads", str(arguments.threads)] + (["--type", number] if number else [])
    drop_from_cache(model)
    before = os.times()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    report = json.loads(done.stdout)
    for name in os.listdir(folder):
        if name.startswith("export"):
            path = f"{folder}/{name}"
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    n_read = os.path.getsize(model)
    n_written = report.get("bytes") or report["file_bytes"]
    copy = plain_copy(model, f"{folder}/copy", n_read, n_written)
    peak = report["peak_rss_bytes"] / 1e6
    print(f"| {kind} | {number or '–'} | {n_written / 1e9:.2f} | {peak:.0f} | {BOUND_MB} "
          f"| {report['seconds']:.1f} | {copy:.1f} | {cpu:.1f} |", flush=True)
    return peak < BOUND_MB


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("binary")
    parser.add_argument("--model")
    parser.add_argument("--shape", default="e2b")
    parser.add_argument("--folder", help="where to write; default: a temporary folder")
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    print("| to | type | GB written | VmHWM MB | bound | s | plain copy s | processor s |\n"
          "|---|---|---|---|---|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        model = arguments.model or f"{folder}/model.lap"
        if not arguments.model:
            subprocess.run([arguments.binary, "bench", "--synthetic", arguments.shape, "--weights",
                            "bf16", "-o", model, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        size = os.path.getsize(model)
        plain_copy(model, f"{folder}/copy", size, size)
        for target in arguments.targets:
            good = measure(arguments, model, folder, target) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
