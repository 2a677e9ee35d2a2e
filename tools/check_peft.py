"""Checks a folder that `lapidary finetune` wrote against the `peft` package.

usage: check_peft.py HF_BASE_FOLDER ADAPTER_FOLDER [--expect MAX_DIFFERENCE]

Loads the base with transformers in float32, the adapter with peft, and compares the last logits of the
probe that the trainer stored beside the adapter (probe.safetensors). That peft finds a module for every
tensor, and a tensor for every module, is part of the check. Only for adapters trained on the bf16 base:
on a packed base the trainer saw other weights, so the figure shows the base's quantization instead.
Needs: torch transformers peft safetensors (see docs/results.md for the versions used).
"""

import argparse
import json
import sys
import warnings

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("adapter")
    parser.add_argument("--expect", type=float, default=1e-3, help="largest difference of a logit")
    args = parser.parse_args()

    base = AutoModelForCausalLM.from_pretrained(
        args.base, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # peft warns about missing or unexpected keys; that is a failure
        model = PeftModel.from_pretrained(base, args.adapter).eval()

    with safe_open(f"{args.adapter}/adapter_model.safetensors", "pt") as tensors:
        in_file = set(tensors.keys())
    in_model = {
        name.replace(".default", "") for name, _ in model.named_parameters() if "lora_" in name
    }
    in_model = {name.removesuffix(".weight") if "magnitude" in name else name for name in in_model}
    if in_file != in_model:
        print(f"tensors differ: {sorted(in_file ^ in_model)[:6]} ...", file=sys.stderr)
        return 1

    with safe_open(f"{args.adapter}/probe.safetensors", "pt") as probe:
        ids, expected = probe.get_tensor("ids"), probe.get_tensor("logits")
    with torch.no_grad():
        logits = model(input_ids=ids[None].long()).logits[0, -expected.shape[0] :]
        with model.disable_adapter():
            plain = model(input_ids=ids[None].long()).logits[0, -expected.shape[0] :]
    difference = (logits - expected).abs().max().item()
    result = {
        "tensors": len(in_file),
        "max_logit_difference": difference,
        "effect_of_the_adapter": (logits - plain).abs().max().item(),
        "ok": difference <= args.expect,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
