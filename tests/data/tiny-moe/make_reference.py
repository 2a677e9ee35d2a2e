"""Makes this folder: a mixture-of-experts model with random weights, and what PEFT does to it.

usage: make_reference.py    (needs torch, transformers 5.17.0, peft 0.21.2, safetensors)

tokenizer.json is that of nano-e.

reference/lora_init and lora_final are PEFT folders with adapters on the dense matrices (rank 4) and
on the stacks of experts (rank 2, by rank_pattern); lora_batches.safetensors and lora_curve.json are
laid out as in nano-e/reference. PEFT has no DoRA on parameters, so the curve "dora" is of the dense
matrices alone, from lora_init's A. Float32, CPU, eager attention.
"""

import copy
import json
import math
import os
import shutil

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

HERE = os.path.dirname(os.path.abspath(__file__))
REFERENCE = HERE + "/reference"
STEPS, BATCH, LENGTH, ROWS = 12, 4, 24, 16
DENSE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


def make_model():
    config = Gemma4TextConfig(
        vocab_size=8192, vocab_size_per_layer_input=8192, hidden_size=64, intermediate_size=96,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        global_head_dim=32, num_global_key_value_heads=1, attention_k_eq_v=True,
        hidden_size_per_layer_input=0, num_kv_shared_layers=0, use_double_wide_mlp=False,
        enable_moe_block=True, num_experts=8, top_k_experts=2, moe_intermediate_size=24,
        sliding_window=16, max_position_embeddings=512, tie_word_embeddings=True,
        layer_types=["sliding_attention", "full_attention"] * 2, final_logit_softcapping=30.0,
        pad_token_id=0, bos_token_id=2, eos_token_id=1)
    torch.manual_seed(3)
    model = Gemma4ForCausalLM(config)
    with torch.no_grad():  # far from the symmetric start, so that every part matters
        for name, p in model.named_parameters():
            if p.dim() >= 2:
                p.normal_(0, 0.25 if "router" in name else 0.12)
            else:
                p.uniform_(0.7, 1.3)
        for name, b in model.named_buffers():
            if "layer_scalar" in name:
                b.uniform_(0.6, 1.0)
    model.to(torch.bfloat16).save_pretrained(HERE)
    return Gemma4ForCausalLM.from_pretrained(HERE, dtype=torch.float32, attn_implementation="eager").eval()


def save_adapter(model, folder):
    model.save_pretrained(folder)
    os.path.exists(folder + "/README.md") and os.remove(folder + "/README.md")
    path = folder + "/adapter_config.json"
    config = json.load(open(path))
    config["base_model_name_or_path"] = "tiny-moe"
    for key in ("target_modules", "target_parameters"):
        config[key] = sorted(config[key])
    json.dump(config, open(path, "w"), indent=1, sort_keys=True)


def run(model, ids, labels, steps):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    losses, norms = [], []
    for step in range(steps):
        rows = slice(step % (ROWS // BATCH) * BATCH, step % (ROWS // BATCH) * BATCH + BATCH)
        x, y = ids[rows], labels[rows]
        logits = model(input_ids=x, attention_mask=torch.ones_like(x)).logits.float()
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), y[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        norms.append(math.sqrt(sum(p.grad.pow(2).sum().item() for p in trained)))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {"loss": losses, "grad_norm": norms}


def dora_on_dense(base):
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none", target_modules=DENSE,
                        use_dora=True, task_type="CAUSAL_LM")
    model = get_peft_model(copy.deepcopy(base), config)
    start = load_file(REFERENCE + "/lora_init/adapter_model.safetensors")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".lora_A." in name:
                p.copy_(start[name.replace(".default", "")])
    return model


def main():
    shutil.rmtree(REFERENCE, ignore_errors=True)
    os.makedirs(REFERENCE)
    base = make_model()
    torch.manual_seed(5)
    ids = torch.randint(3, 8192, (ROWS, LENGTH))
    labels = ids.clone()
    labels[:, : LENGTH // 2] = -100
    save_file({"input_ids": ids.int(), "labels": labels.int()}, REFERENCE + "/lora_batches.safetensors")
    curves = {}
    for variant in ("lora", "rslora"):
        torch.manual_seed(11)
        config = LoraConfig(
            r=4, lora_alpha=8, lora_dropout=0.0, bias="none", target_modules=DENSE,
            target_parameters=EXPERTS, rank_pattern={name: 2 for name in EXPERTS},
            alpha_pattern={name: 6 for name in EXPERTS}, use_rslora=variant == "rslora",
            task_type="CAUSAL_LM")
        model = get_peft_model(copy.deepcopy(base), config)
        if variant == "lora":
            save_adapter(model, REFERENCE + "/lora_init")
        curves[variant] = run(model, ids, labels, STEPS)
        if variant == "lora":
            save_adapter(model, REFERENCE + "/lora_final")
            with torch.no_grad():
                logits = model(input_ids=ids[:1]).logits[0].float().contiguous()
            save_file({"logits": logits}, REFERENCE + "/lora_final_logits.safetensors")
    curves["dora"] = run(dora_on_dense(base), ids, labels, STEPS)
    json.dump(curves, open(REFERENCE + "/lora_curve.json", "w"), indent=1)
    print({name: (c["loss"][0], c["loss"][-1]) for name, c in curves.items()})


if __name__ == "__main__":
    main()
