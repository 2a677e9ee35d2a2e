#!/usr/bin/env python3
"""Makes the assistant of ../nano-e and what transformers computes with it; writes beside itself.

    make.py 260

Made with transformers 5.17.0 and torch 2.11.0 on a CPU, float32. The assistant
(Gemma4AssistantForCausalLM: four layers of width 64, a head over the best 8 of 64 clusters of the
vocabulary) is trained for 260 steps, a few minutes, to say what nano-e would say next, so that
tests see guesses hold and fail; then it is rounded to bf16. Training sums in an order that depends
on the machine: a second run gives other weights of the same worth, and references that belong to
them.

reference.safetensors, for prompt i: `ids.i` int32 [T], all but the last in the target's cache;
`state.i` [d], the target's final state behind the last but one; `tokens.i` int32 [3], drafted one by
one; `logits.i` [3, vocab] of these steps (outside of the chosen clusters their minimum - 1), `next.i`
[d], the state behind the third; and `full_tokens.i`, `full_logits.i` of the same steps with a head
over the whole vocabulary (use_ordered_embeddings false). Sliding layers see the last 128 tokens.
"""
import json
import pathlib
import random
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, Gemma4AssistantConfig, Gemma4AssistantForCausalLM
from transformers import AutoModelForCausalLM, Gemma4TextConfig

HERE = pathlib.Path(__file__).resolve().parent
N_CENTROIDS, N_USED, WIDTH, LENGTH, BATCH = 64, 8, 64, 256, 8
STEPS = int(sys.argv[1])  # of training; 0: only the references are made again
torch.manual_seed(7)
random.seed(7)

target = AutoModelForCausalLM.from_pretrained(HERE.parent / "nano-e", dtype=torch.float32,
                                              attn_implementation="eager").eval()
tokenizer = AutoTokenizer.from_pretrained(HERE.parent / "nano-e")
t = target.config
WINDOW = t.sliding_window
embed = target.get_input_embeddings()


def states_of(ids):
    """The target's final states, K and V, and logits of ids [n, T]."""
    with torch.no_grad():
        out = target(ids, output_hidden_states=True, return_shared_kv_states=True, use_cache=False)
    return out.hidden_states[-1], dict(out.shared_kv_states), out.logits


def new_assistant(ordered):
    text = Gemma4TextConfig(
        vocab_size=t.vocab_size, hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=4,
        layer_types=["sliding_attention"] * 3 + ["full_attention"], num_attention_heads=4,
        num_key_value_heads=1, head_dim=64, per_layer_config={"3": {"head_dim": 128}},
        sliding_window=WINDOW, rope_parameters=t.rope_parameters, num_kv_shared_layers=4,
        hidden_size_per_layer_input=0, vocab_size_per_layer_input=0, enable_moe_block=False,
        use_double_wide_mlp=False, final_logit_softcapping=None, max_position_embeddings=131072,
        bos_token_id=2, eos_token_id=1, pad_token_id=0, tie_word_embeddings=True)
    config = Gemma4AssistantConfig(
        text_config=text, backbone_hidden_size=t.hidden_size, use_ordered_embeddings=ordered,
        num_centroids=N_CENTROIDS, centroid_intermediate_top_k=N_USED)
    config._attn_implementation = "eager"
    return Gemma4AssistantForCausalLM(config).float()


def chunks():
    """Token windows of chats and of prose, without end."""
    items = [json.loads(line) for line in (HERE.parent / "skills.jsonl").read_text().splitlines()]
    random.shuffle(items)
    own = tokenizer((HERE.parent / "own.txt").read_text(), add_special_tokens=False)["input_ids"]
    chats, at = [], 0
    while True:
        item = items[at % len(items)]
        at += 1
        messages = [{"role": "user", "content": item["user"]},
                    {"role": "assistant", "content": item["answer"]}]
        if item.get("system"):
            messages.insert(0, {"role": "system", "content": item["system"]})
        chats += tokenizer(tokenizer.apply_chat_template(messages, tokenize=False),
                           add_special_tokens=False)["input_ids"]
        if len(chats) < LENGTH:
            continue
        yield chats[:LENGTH]
        chats = []
        if at % 3 == 0:
            first = random.randrange(len(own) - LENGTH)
            yield [2] + own[first:first + LENGTH - 1]


def clusters(vectors):
    """A permutation of the tokens in equal clusters: k-means, each cluster taking its nearest free."""
    size = vectors.shape[0] // N_CENTROIDS
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    centers = vectors[torch.randperm(vectors.shape[0])[:N_CENTROIDS]]
    for _ in range(8):
        best = (vectors @ centers.T).argmax(1)
        for c in range(N_CENTROIDS):
            if (best == c).any():
                centers[c] = vectors[best == c].mean(0)
    members, scores = [[] for _ in range(N_CENTROIDS)], vectors @ centers.T
    order = scores.max(1).values.argsort(descending=True).tolist()
    ranked = scores.argsort(dim=1, descending=True).tolist()
    for token in order:
        next(members[c] for c in ranked[token] if len(members[c]) < size).append(token)
    return torch.tensor([token for cluster in members for token in cluster]), centers


def train(model):
    u, s, v = torch.linalg.svd(embed.weight.detach(), full_matrices=False)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(u[:, :WIDTH] * s[:WIDTH] / s[:WIDTH].mean())
        model.lm_head.weight = model.model.embed_tokens.weight
    ordering, _ = clusters(model.model.embed_tokens.weight.detach())
    model.masked_embedding.token_ordering.copy_(ordering)
    cluster_of = torch.empty(t.vocab_size, dtype=torch.long)
    cluster_of[ordering] = torch.arange(t.vocab_size) // (t.vocab_size // N_CENTROIDS)

    # Row p - 1 guesses behind token p, from the state behind token p - 1 and the cache of tokens < p.
    query = torch.arange(1, LENGTH)[:, None]
    key = torch.arange(LENGTH)[None, :]
    masks = {"full_attention": key < query,
             "sliding_attention": (key < query) & (key >= query - WINDOW)}
    masks = {kind: torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))[None, None]
             for kind, mask in masks.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS, pct_start=0.1)
    windows = chunks()
    for step in range(STEPS):
        ids = torch.tensor([next(windows) for _ in range(BATCH)])
        states, shared, logits = states_of(ids)
        said = logits.argmax(-1)
        g, loss = states[:, :-1], 0.0
        for ahead in range(2):
            # The second guess stands on the first: its own state, the token that really came.
            n = LENGTH - 1 - ahead
            x = torch.cat([embed(ids[:, 1 + ahead:]), g[:, :n]], -1)
            y = model.model(
                inputs_embeds=model.pre_projection(x), use_cache=False, shared_kv_states=shared,
                attention_mask={kind: mask[:, :, :n] for kind, mask in masks.items()},
                position_ids=query[:n].T).last_hidden_state
            want = said[:, 1 + ahead:].reshape(-1)
            for scores, label in ((model.lm_head(y), want),
                                  (model.masked_embedding.centroids(y), cluster_of[want])):
                loss = loss + torch.nn.functional.cross_entropy(scores.flatten(0, 1), label)
            if ahead == 0:
                hits = (model.lm_head(y).flatten(0, 1).argmax(-1) == want).float().mean()
            g = model.post_projection(y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 20 == 0 or step == STEPS - 1:
            print(f"{step}: loss {loss.item():.3f}, first guess right {hits.item():.3f}", flush=True)


def draft(model, ids, n):
    """n guesses behind ids, of which the target's cache holds all but the last."""
    states, shared, _ = states_of(ids[None, :-1])
    shared["sliding_attention"] = tuple(x[:, :, -WINDOW:] for x in shared["sliding_attention"])
    g, token, tokens, logits = states[:, -1:], ids[None, -1:], [], []
    first = g
    for _ in range(n):
        with torch.no_grad():
            out = model(inputs_embeds=torch.cat([embed(token), g], -1), shared_kv_states=shared,
                        position_ids=torch.tensor([[len(ids) - 1]]))
        logits.append(out.logits[0, 0])
        token = out.logits.argmax(-1)
        tokens.append(token.item())
        g = out.last_hidden_state
    return {"state": first[0, 0], "tokens": torch.tensor(tokens, dtype=torch.int32),
            "logits": torch.stack(logits), "next": g[0, 0]}


if STEPS > 0:
    model = new_assistant(ordered=True)
    train(model)
    model.to(torch.bfloat16).save_pretrained(HERE)
model = Gemma4AssistantForCausalLM.from_pretrained(HERE, dtype=torch.float32,
                                                   attn_implementation="eager").eval()
full = new_assistant(ordered=False).eval()
full.load_state_dict({k: v for k, v in model.state_dict().items() if "masked" not in k})

prompts = json.loads((HERE.parent / "nano-e/reference/prompts.json").read_text())["prompts"]
items = [json.loads(line) for line in (HERE.parent / "skills.jsonl").read_text().splitlines()]
needle = next(item for item in items if item["task"] == "needle")
texts = [prompts[0]["prompt"] + prompts[0]["greedy"], needle["user"] + needle["answer"]]
data = {}
for i, text in enumerate(texts):
    ids = torch.tensor(tokenizer(text)["input_ids"])
    data[f"ids.{i}"] = ids.to(torch.int32)
    for key, value in draft(model, ids, 3).items():
        data[f"{key}.{i}"] = value.contiguous()
    without = draft(full, ids, 3)
    data[f"full_tokens.{i}"], data[f"full_logits.{i}"] = without["tokens"], without["logits"]
    print(len(ids), data[f"tokens.{i}"].tolist(), without["tokens"].tolist())
save_file(data, HERE / "reference.safetensors")
