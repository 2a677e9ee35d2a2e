"""LoRA training steps of Lapidary beside transformers and PEFT: the same model, rows and ranks.

usage: compare_finetune.py --lapidary BIN --driver BIN [--model DIR] [--shape small|e2b-width]
                           [--rows N] [--tokens N] [--steps N] [--rounds N] [--rank R]
                           [--shares LIST] [--under COMMAND]

Prints a Markdown table: seconds per step and tokens per second, for each share of labelled tokens.
Both train the seven projections in bfloat16 with recomputed activations on all cores; PEFT on the
bf16 checkpoint, Lapidary on the same checkpoint converted, and packed in 4 bits. Sides take turns,
--rounds times; a figure is the median over the steps of all turns but the first of each, which
makes buffers and compiles kernels. --under runs each turn of all sides under a command, such as one
that waits until the machine is idle. Needs torch, transformers and peft.
"""

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

# Gemma 4 E's structure (per-layer inputs, half of the layers without K and V of their own), as wide
# as E2B's eighth part; random weights: a step's time does not depend on them.
SHAPES = {
    "small": dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=10, num_attention_heads=4,
                  num_key_value_heads=1, head_dim=128, global_head_dim=256, num_kv_shared_layers=5,
                  use_double_wide_mlp=True, hidden_size_per_layer_input=128, vocab_size=32768,
                  vocab_size_per_layer_input=32768, sliding_window=512, enable_moe_block=False,
                  tie_word_embeddings=True, final_logit_softcapping=30.0,
                  layer_types=(["sliding_attention"] * 4 + ["full_attention"]) * 2),
    # E2B's own widths, six of its layers, an eighth of its vocabulary.
    "e2b-width": dict(hidden_size=1536, intermediate_size=6144, num_hidden_layers=6,
                      num_attention_heads=8, num_key_value_heads=1, head_dim=256,
                      global_head_dim=512, num_kv_shared_layers=3, use_double_wide_mlp=True,
                      hidden_size_per_layer_input=256, vocab_size=32768,
                      vocab_size_per_layer_input=32768, sliding_window=512,
                      enable_moe_block=False, tie_word_embeddings=True,
                      final_logit_softcapping=30.0,
                      layer_types=(["sliding_attention"] * 2 + ["full_attention"]) * 2),
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_model(shape, folder):
    import torch
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    torch.manual_seed(1)
    config = Gemma4TextConfig(**SHAPES[shape], max_position_embeddings=8192)
    Gemma4ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             "../../tests/data/nano-e/tokenizer.json")
    with open(tokenizer, encoding="utf-8") as source, open(folder + "/tokenizer.json", "w") as copy:
        copy.write(source.read())


def peft_steps(args, share):
    """Seconds of each step, and this process' peak memory."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0,
                                             target_modules=TARGETS, task_type="CAUSAL_LM"))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                  weight_decay=0.0)
    seconds = []
    for _ in range(args.steps + 1):
        ids = torch.randint(0, model.config.vocab_size, (args.rows, args.tokens))
        labels = ids.clone()
        labels[:, : int(args.tokens * (1 - share))] = -100
        start = time.perf_counter()
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def driver_steps(args, model, share):
    run = subprocess.run(
        [args.driver, model, "--rows", str(args.rows), "--tokens", str(args.tokens), "--steps",
         str(args.steps + 1), "--rank", str(args.rank), "--labelled", str(share)],
        check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def turn(args, share, float_model, packed):
    """Every side once, one after another: a list of (name, result)."""
    peft = subprocess.run(
        [sys.executable, __file__, "--lapidary", "-", "--driver", "-", "--model", args.model,
         "--rows", str(args.rows), "--tokens", str(args.tokens), "--steps", str(args.steps),
         "--rank", str(args.rank), "--peft-share", str(share)],
        check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return [("transformers + PEFT, bf16", json.loads(peft)),
            ("Lapidary, bf16 base", driver_steps(args, float_model, share)),
            ("Lapidary, w4 base", driver_steps(args, packed, share))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lapidary", required=True)
    parser.add_argument("--driver", required=True)
    parser.add_argument("--model", help="a Hugging Face folder instead of --shape")
    parser.add_argument("--shape", default="small", choices=sorted(SHAPES))
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--shares", default="1.0,0.4")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--under", default="", help="a command that each turn runs under")
    parser.add_argument("--peft-share", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--turn", nargs=3, help=argparse.SUPPRESS)  # share and the two .lap files
    args = parser.parse_args()
    if args.turn:
        print(json.dumps(turn(args, float(args.turn[0]), *args.turn[1:])))
        return 0
    if args.peft_share is not None:
        print(json.dumps(peft_steps(args, args.peft_share)))
        return 0

    with tempfile.TemporaryDirectory() as folder:
        if not args.model:
            args.model = folder + "/model"
            make_model(args.shape, args.model)
        float_model, packed = folder + "/float.lap", folder + "/w4.lap"
        for command in (["convert", args.model, "-o", float_model],
                        ["quantize", float_model, "--weights", "w4", "-o", packed]):
            subprocess.run([args.lapidary, *command, "--quiet"], check=True,
                           stdout=subprocess.DEVNULL)
        tokens = args.rows * args.tokens
        print(f"{os.path.basename(args.model)}: {args.rows} x {args.tokens} tokens, rank {args.rank}\n")
        print("| labelled | | s per step | tokens/s | beside PEFT | peak memory |\n|--:|---|--:|--:|--:|--:|")
        for share in map(float, args.shares.split(",")):
            turns = []
            for _ in range(args.rounds):
                command = [*shlex.split(args.under), sys.executable, __file__, *sys.argv[1:],
                           "--model", args.model, "--turn", str(share), float_model, packed]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                turns.append(json.loads(done.stdout.splitlines()[-1]))
            peft = None
            for sides in zip(*turns):
                s = statistics.median(t for _, r in sides for t in r["seconds"][1:])
                peft = peft or s
                peak = max(r["peak_bytes"] for _, r in sides)
                print(f"| {share:.0%} | {sides[0][0]} | {s:.2f} | {tokens / s:.0f} | "
                      f"{peft / s:.2f} | {peak / 2**30:.2f} GiB |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
