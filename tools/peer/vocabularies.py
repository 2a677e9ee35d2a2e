#!/usr/bin/env python3
"""Tokenizes llama.cpp's own tokenizer tests with the vocabularies in its GGUF files.

usage: vocabularies.py LAPIDARY_BINARY LLAMA_SOURCE

Its source tree has vocabularies without weights, texts (.inp) and the ids that the original tokenizers
give (.out). Those of families read here must give the same ids; others must be refused. Prints a Markdown
table; exit status 1 when one differs. Needs only the standard library.
"""
import json
import os
import subprocess
import sys
import tempfile

READ = ["gemma-4", "llama-bpe", "qwen2"]  # the others: another family's split or normalizer
REFUSED = ["llama-spm", "phi-3", "bert-bge", "gpt-2", "starcoder", "deepseek-llm"]


def tokenize(binary, vocabulary, text):
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(text.encode())
        file.flush()
        return subprocess.run([binary, "tokenize", vocabulary, "--text", file.name, "--json"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cases(path):
    """(text, ids) pairs; the texts end with newlines of their own."""
    with open(path + ".inp", encoding="utf-8", newline="") as file:
        texts = file.read().split("\n__ggml_vocab_test__\n")
    with open(path + ".out", encoding="ascii") as file:
        ids = [[int(i) for i in line.split()] for line in file]
    return list(zip(texts, ids))


def main():
    binary, models = sys.argv[1], os.path.join(sys.argv[2], "models")
    good = True
    print("| vocabulary | texts | same ids |\n|---|---|---|")
    for name in READ + REFUSED:
        path = f"{models}/ggml-vocab-{name}.gguf"
        if name in REFUSED:
            done = tokenize(binary, path, "text")
            one_line = done.returncode == 65 and len(done.stderr.splitlines()) == 1
            good &= one_line
            print(f"| {name} | – | {'refused' if one_line else 'NOT REFUSED'} |", flush=True)
            continue
        pairs, same = cases(path), 0
        for text, ids in pairs:
            done = tokenize(binary, path, text)
            same += done.returncode == 0 and json.loads(done.stdout)["ids"] == ids
        good &= same == len(pairs)
        print(f"| {name} | {len(pairs)} | {same} |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
