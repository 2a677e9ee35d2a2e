// A model as a folder of compressed-tensors, for vLLM: integers of 4 or 8 bits with one bf16 scale
// per group of inputs or per row ("pack-quantized", symmetric, weights only).
//
// Per matrix: weight_packed int32 [rows, k * bits / 32], low bits first, each value plus
// 2^(bits - 1); weight_scale [rows, groups]; weight_shape int64 [2]. Experts become one module
// each. w4x and w8x (and w8 that is not rotated) keep their integers and scales; other codes and
// floats are rounded to the nearest, and report and README say so. Source: the compressed-tensors
// package 0.20 (compressors/pack_quantized), and vLLM's compressed_tensors scheme WNA16, which
// reads it. The cache: self_attn.k_scale and v_scale [1] of every layer, those that share another's
// K and V too (compressed_tensors/modeling/kvcache, vLLM's CompressedTensorsKVCacheMethod).
#pragma once

#include <string>
#include <vector>

#include "export/folder_writer.h"
#include "export/integer_scheme.h"
#include "export/model_card.h"
#include "formats/kv_range.h"

namespace lapidary {

struct CompressedTensorsOptions {
  IntegerChoice integers;
  // One per layer: asks the runtime for an FP8 cache, the only packed one that vLLM reads from a
  // checkpoint, whose one scale per layer for K and for V maps these to the largest E4M3 number.
  // Empty: no kv_cache_scheme.
  std::vector<KvRange> fp8_cache = {};
  FolderOptions folder;
  ModelCard card;  // what the caller knows; the rest is filled in
};

// Throws kUsage when `folder` exists and is not to be replaced, or when no matrix would be
// quantized; kBadData when the family's config cannot describe the model; kIo.
FolderReport export_compressed_tensors(const LapReader& model, const std::string& folder,
                                       const CompressedTensorsOptions& options,
                                       const Events& events);

}  // namespace lapidary
