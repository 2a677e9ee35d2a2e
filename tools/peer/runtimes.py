"""The runtimes that interop.py compares: logits of token ids from what `lapidary export` wrote."""
import json
import math
import subprocess
import tempfile

import numpy as np

# Experts whose scores differ by less, relatively, are a tie: two float32 forward passes differ by
# about as much after ten layers.
TIE = 1e-6


class Missing(Exception):
    pass


def run(*command):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Missing(lines[-1])
    return done.stdout


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


class Transformers:
    name = "transformers"

    def __init__(self, folder):
        import torch
        from transformers import AutoModelForCausalLM
        self.torch = torch
        try:
            self.model, info = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True)
        except RuntimeError as error:
            if "is a per-layer attribute" not in str(error):
                raise
            raise Missing("compressed-tensors wants heads of one shape in all layers") from error
        if info["missing_keys"] or info["unexpected_keys"]:
            keys = sorted(info["missing_keys"] or info["unexpected_keys"])
            raise Missing(f"transformers has no module for {keys[0]}")
        self.model.eval()

    def logits(self, ids):
        with self.torch.no_grad():
            return self.model(self.torch.tensor([ids])).logits[0].float().numpy()

    def adapt(self, folder):
        from peft import PeftModel
        self.model = PeftModel.from_pretrained(self.model, folder)


class Mlx:
    name = "mlx-lm"

    def __init__(self, folder):
        import pathlib

        import mlx.core as mx
        from mlx_lm.utils import load_model
        self.mx = mx
        try:
            self.model, _ = load_model(pathlib.Path(folder))
        except ValueError as error:
            raise Missing(str(error).splitlines()[0]) from error
        self.model.set_dtype(mx.float32)

    def logits(self, ids):
        return np.array(self.model(self.mx.array([ids]))[0])

    def adapt(self, folder):
        from mlx_lm.utils import load_adapters
        self.model = load_adapters(self.model, folder)
        self.model.set_dtype(self.mx.float32)
        self.model.eval()


class LlamaCpp:
    """llama.cpp through tools/peer/llama_driver; one process per question."""
    name = "llama.cpp"

    def __init__(self, driver, gguf, lora=None):
        self.driver, self.gguf, self.lora = driver, gguf, [lora] if lora else []

    def score(self, sequences, new_tokens, *flags):
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:
            for ids in sequences:
                print(*ids, file=file)
            file.flush()
            return json.loads(run(self.driver, "score", self.gguf, "2", file.name, str(new_tokens),
                                  *flags, *self.lora))["sequences"]

    def exact(self, ids):
        """Log p of ids[1:] with llama.cpp's roundings taken out, and which of them follow a tie."""
        scored = self.score([ids], 1, "--exact")[0]
        margins = np.array(scored["router_margins"] or [math.inf] * len(ids))
        return np.array(scored["logprobs"]), margins[:-1] < TIE

    def divergence(self, ids, candidate):
        """Mean KLD of `candidate` from this file, over the tokens after BOS."""
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:
            print(*ids[1:], file=file)
            file.flush()
            return json.loads(run(self.driver, "weights", self.gguf, "2", file.name, str(len(ids)),
                                  candidate))["candidates"][0]["kld_mean"]
