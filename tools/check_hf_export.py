#!/usr/bin/env python3
"""Loads exported Hugging Face folders with transformers and compares them with the original.

    tools/check_hf_export.py ORIGINAL EXPORTED [EXPORTED ...]

Needs torch and transformers (5.17). For each exported folder: every parameter of the loaded model
has the bits of the original's, the logits of a short text are the same, and so are its ids. One
line per folder; exit status 1 when any differs. Quantized exports differ, by the figure printed.
"""
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "The quick brown fox jumps over the lazy dog. 12 + 30 ="


def load(folder):
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, output_loading_info=True)
    missing = report["missing_keys"] or report["unexpected_keys"]
    return model, AutoTokenizer.from_pretrained(folder), missing


def logits(model, ids):
    with torch.no_grad():
        return model.float()(torch.tensor([ids])).logits[0]


def main():
    original, tokenizer, _ = load(sys.argv[1])
    ids = tokenizer(TEXT)["input_ids"]
    parameters = {name: p.clone() for name, p in original.named_parameters()}
    expected = logits(original, ids)
    failed = False
    for folder in sys.argv[2:]:
        model, exported_tokenizer, missing = load(folder)
        same = sum(torch.equal(p, parameters[name]) for name, p in model.named_parameters())
        same_ids = exported_tokenizer(TEXT)["input_ids"] == ids
        difference = (logits(model, ids) - expected).abs().max().item()
        good = same == len(parameters) and same_ids and difference == 0 and not missing
        failed |= not good
        print(f"{folder}: {same} of {len(parameters)} parameters equal, logits differ by "
              f"{difference:.3g}, ids {'equal' if same_ids else 'DIFFER'}"
              + (f", keys {missing}" if missing else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
