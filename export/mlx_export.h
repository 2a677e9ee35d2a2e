// A model as a folder that mlx-lm reads on Apple machines: floats, or integers of 4 or 8 bits.
//
// Per quantized matrix: weight uint32 [rows, k * bits / 32], low bits first, and scales, biases
// [rows, k / group]; a weight is scale * index + bias. Embeddings, head and experts are quantized
// like every matrix; experts stand under `switch_glu`, gate and up apart. w4x, w8x (and w8 that is
// not rotated) keep their integers and scales, with bias = -8 or -128 scales; other codes are
// rounded to the nearest, and report and README say so. Source: mlx 0.32 (mlx.core.quantize),
// mlx-lm 0.32 (utils.load_model, models/gemma4_text.py).
#pragma once

#include <optional>
#include <string>

#include "export/folder_writer.h"
#include "export/model_card.h"

namespace lapidary {

struct MlxOptions {
  std::optional<int> bits;       // 4, 8, or 0 for floats; nothing: the nearest to each code
  std::optional<int64_t> group;  // 32, 64, 128; nothing: 32 where integers are taken over, else 64
  FolderOptions folder;
  ModelCard card;  // what the caller knows; the rest is filled in
};

// Throws kUsage when `folder` exists and is not to be replaced; kBadData when the family's config
// cannot describe the model; kIo.
FolderReport export_mlx(const LapReader& model, const std::string& folder,
                        const MlxOptions& options, const Events& events);

}  // namespace lapidary
