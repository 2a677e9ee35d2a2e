// A LoRA adapter for other runtimes: llama.cpp's GGUF adapters and mlx-lm's folders.
//
// Both hold one scale for all modules, ours one per module (alpha / r, or alpha / sqrt(r)); what
// differs is folded into B. Weights stay float32. Stacks of experts go along: in GGUF under the
// names of the model's stacks, in MLX with gate and up apart. Sources: llama.cpp's
// convert_lora_to_gguf.py and src/llama-adapter.cpp; mlx-lm's tuner/utils.py (load_adapters),
// tuner/lora.py and tuner/dora.py.
#pragma once

#include <string>

#include "formats/model_source.h"
#include "formats/peft.h"

namespace lapidary {

struct AdapterReport {
  size_t n_modules = 0;
  uint64_t bytes = 0;  // of all tensors
};

// One file. `base` is read for the experts' scales. Throws kBadData when the adapter does not fit
// it, or is a DoRA, which llama.cpp cannot hold; kIo.
AdapterReport export_adapter_gguf(const PeftAdapter& adapter, const ModelSource& base,
                                  const std::string& file);

// A folder with adapters.safetensors, adapter_config.json and a README. LoRA, and DoRA except on
// experts. Modules of smaller rank are filled up with zeros. Throws kBadData, kUsage when `folder`
// exists, kIo.
AdapterReport export_adapter_mlx(const PeftAdapter& adapter, const ModelSource& base,
                                 const std::string& folder, bool overwrite);

}  // namespace lapidary
