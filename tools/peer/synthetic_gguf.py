#!/usr/bin/env python3
"""Writes a GGUF file of a true Gemma 4 shape with random Q4_0 weights, to time llama.cpp on.

usage: synthetic_gguf.py e2b|26b-a4b OUT.gguf [--layers N] [--words]

The twin of `lapidary bench --synthetic`: every matrix (embeddings and per-layer embeddings included)
is Q4_0, norms and the router are float32, so that both runtimes move the same model. --layers keeps
the first N layers, rounded up to a whole attention period. Without --words there is no tokenizer: the
benchmark feeds token numbers. One megabyte of random blocks is repeated: its bytes are as costly to
read and multiply as any, but compression ratios of this file mean nothing. Standard library only.
Keys and tensor names: llama.cpp's src/llama-arch.cpp and src/models/gemma4.cpp.
"""
import argparse
import math
import os
import random
import struct

SHAPES = {  # hyperparameters as in the released config.json files
    "e2b": dict(layers=35, hidden=1536, mlp=6144, heads=8, kv_heads=1, global_kv_heads=1, period=5,
                window=512, shared=20, double_wide=True, ple=256, experts=0, context=131072),
    "26b-a4b": dict(layers=30, hidden=2816, mlp=2112, heads=16, kv_heads=8, global_kv_heads=2,
                    period=6, window=1024, shared=0, double_wide=False, ple=0, experts=128, top_k=8,
                    expert_mlp=704, v_on_global=False, context=262144),
}
VOCABULARY, HEAD, GLOBAL_HEAD = 262144, 256, 512
F32, Q4_0 = 0, 2                                     # ggml_type
U32, I32, FLOAT, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # gguf_type
ALIGNMENT = 32


def cut(shape, layers):
    """Keeps whole attention periods, so that the last layer stays global."""
    if layers and layers < shape["layers"]:
        keep = math.ceil(layers / shape["period"]) * shape["period"]
        shape = dict(shape, layers=keep, shared=max(0, min(shape["shared"], keep - 2 * shape["period"])))
    return shape


def metadata(name, s):
    layers = range(s["layers"])
    sliding = [(i + 1) % s["period"] != 0 for i in layers]
    first_shared = s["layers"] - s["shared"]
    g = "gemma4."
    pairs = [
        ("general.architecture", STRING, "gemma4"), ("general.name", STRING, f"synthetic {name}"),
        ("general.file_type", U32, 2), ("tokenizer.ggml.model", STRING, "no_vocab"),
        (g + "vocab_size", U32, VOCABULARY), (g + "context_length", U32, s["context"]),
        (g + "embedding_length", U32, s["hidden"]), (g + "block_count", U32, s["layers"]),
        (g + "feed_forward_length", I32,
         [s["mlp"] * (2 if s["double_wide"] and i >= first_shared else 1) for i in layers]),
        (g + "attention.head_count", U32, s["heads"]),
        (g + "attention.head_count_kv", I32,
         [s["kv_heads"] if near else s["global_kv_heads"] for near in sliding]),
        (g + "attention.key_length", U32, GLOBAL_HEAD), (g + "attention.value_length", U32, GLOBAL_HEAD),
        (g + "attention.key_length_swa", U32, HEAD), (g + "attention.value_length_swa", U32, HEAD),
        (g + "attention.layer_norm_rms_epsilon", FLOAT, 1e-6),
        (g + "attention.sliding_window", U32, s["window"]),
        (g + "attention.sliding_window_pattern", BOOL, sliding),
        (g + "attention.shared_kv_layers", U32, s["shared"]),
        (g + "embedding_length_per_layer_input", U32, s["ple"]),
        (g + "final_logit_softcapping", FLOAT, 30.0),
        (g + "rope.freq_base", FLOAT, 1e6), (g + "rope.freq_base_swa", FLOAT, 1e4),
        (g + "rope.dimension_count", U32, GLOBAL_HEAD), (g + "rope.dimension_count_swa", U32, HEAD),
    ]
    if s["experts"]:
        pairs += [(g + "expert_count", U32, s["experts"]), (g + "expert_used_count", U32, s["top_k"]),
                  (g + "expert_feed_forward_length", U32, s["expert_mlp"])]
    return pairs


def words():
    """A vocabulary of made-up words, for programs that cannot serve without one."""
    control, unknown, normal, byte = 3, 2, 1, 6
    tokens, types = ["<unk>", "<eos>", "<bos>"], [unknown, control, control]
    for i in range(256):
        tokens.append(f"<0x{i:02X}>")
        types.append(byte)
    for i in range(len(tokens), VOCABULARY):
        tokens.append(f"\u2581w{i}")
        types.append(normal)
    g = "tokenizer.ggml."
    return [(g + "model", STRING, "llama"), (g + "tokens", STRING, tokens),
            (g + "scores", FLOAT, [-float(i) for i in range(VOCABULARY)]), (g + "token_type", I32, types),
            (g + "unknown_token_id", U32, 0), (g + "eos_token_id", U32, 1), (g + "bos_token_id", U32, 2),
            (g + "add_bos_token", BOOL, False)]


def tensors(s):
    """(name, dimensions with the contiguous one first, type)"""
    hidden, out = s["hidden"], []
    matrix = lambda name, *dims: out.append((name + ".weight", dims, Q4_0))
    vector = lambda name, n: out.append((name, (n,), F32))
    matrix("token_embd", hidden, VOCABULARY)
    vector("output_norm.weight", hidden)
    vector("rope_freqs.weight", GLOBAL_HEAD // 2)
    if s["ple"]:
        matrix("per_layer_token_embd", s["ple"] * s["layers"], VOCABULARY)
        matrix("per_layer_model_proj", hidden, s["ple"] * s["layers"])
        vector("per_layer_proj_norm.weight", s["ple"])
    for i in range(s["layers"]):
        b = f"blk.{i}."
        near, shared = (i + 1) % s["period"] != 0, i >= s["layers"] - s["shared"]
        head = HEAD if near else GLOBAL_HEAD
        kv = head * (s["kv_heads"] if near else s["global_kv_heads"])
        mlp = s["mlp"] * (2 if s["double_wide"] and shared else 1)
        matrix(b + "attn_q", hidden, s["heads"] * head)
        matrix(b + "attn_output", s["heads"] * head, hidden)
        vector(b + "attn_q_norm.weight", head)
        if not shared:
            matrix(b + "attn_k", hidden, kv)
            vector(b + "attn_k_norm.weight", head)
            if near or s.get("v_on_global", True):
                matrix(b + "attn_v", hidden, kv)
        matrix(b + "ffn_gate", hidden, mlp)
        matrix(b + "ffn_up", hidden, mlp)
        matrix(b + "ffn_down", mlp, hidden)
        vector(b + "layer_output_scale.weight", 1)
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            vector(b + norm + ".weight", hidden)
        if s["ple"]:
            matrix(b + "inp_gate", hidden, s["ple"])
            matrix(b + "proj", s["ple"], hidden)
            vector(b + "post_norm.weight", hidden)
        if s["experts"]:
            out.append((b + "ffn_gate_inp.weight", (hidden, s["experts"]), F32))
            vector(b + "ffn_gate_inp.scale", hidden)
            vector(b + "ffn_down_exps.scale", s["experts"])
            matrix(b + "ffn_gate_up_exps", hidden, 2 * s["expert_mlp"], s["experts"])
            matrix(b + "ffn_down_exps", s["expert_mlp"], hidden, s["experts"])
            for norm in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
                vector(b + norm + ".weight", hidden)
    return out


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack(
        {U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?"}[kind], value)


def pair(key, kind, value):
    if not isinstance(value, list):
        return text(key) + struct.pack("<I", kind) + scalar(kind, value)
    head = text(key) + struct.pack("<IIQ", ARRAY, kind, len(value))
    return head + b"".join(scalar(kind, v) for v in value)


def size(dims, kind):
    return math.prod(dims) * 4 if kind == F32 else math.prod(dims) // 32 * 18


def float_vector(name, dims):
    """Norms of one; frequency factors that leave three quarters of a global head unrotated; a small
    random router, so that every expert is chosen at times."""
    n = math.prod(dims)
    if name == "rope_freqs.weight":
        return struct.pack(f"<{n}f", *([1.0] * (n // 4) + [1e30] * (n - n // 4)))
    if name.endswith("ffn_gate_inp.weight"):
        generator = random.Random(name)
        return struct.pack(f"<{n}f", *(generator.gauss(0, 0.5) for _ in range(n)))
    return struct.pack(f"<{n}f", *([1.0] * n))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=SHAPES)
    parser.add_argument("out")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--words", action="store_true", help="with a vocabulary of made-up words")
    arguments = parser.parse_args()
    shape = cut(SHAPES[arguments.model], arguments.layers)
    pairs, infos = metadata(arguments.model, shape), tensors(shape)
    if arguments.words:
        pairs = [entry for entry in pairs if entry[0] != "tokenizer.ggml.model"] + words()

    head = struct.pack("<4sIQQ", b"GGUF", 3, len(infos), len(pairs))
    head += b"".join(pair(*entry) for entry in pairs)
    offset = 0
    for name, dims, kind in infos:
        head += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        offset += -(-size(dims, kind) // ALIGNMENT) * ALIGNMENT
    head += bytes(-len(head) % ALIGNMENT)

    generator = random.Random(0)  # scale 0.0043 gives weights of deviation 0.02
    blocks = b"".join(struct.pack("<e16s", 0.0043, generator.randbytes(16)) for _ in range(58254))
    temporary = arguments.out + ".part"
    with open(temporary, "wb") as file:
        file.write(head)
        for name, dims, kind in infos:
            left = size(dims, kind)
            padding = -left % ALIGNMENT
            if kind == F32:
                file.write(float_vector(name, dims))
                left = 0
            while left:
                left -= file.write(blocks[:left])
            file.write(bytes(padding))
    os.replace(temporary, arguments.out)


if __name__ == "__main__":
    main()
