// Matching of what is there with what should be.
#include "convert/tensor_map.h"

#include <algorithm>
#include <set>

#include "formats/error.h"

namespace lapidary {
namespace {

// Parts of multimodal checkpoints, with the first part of their names below "model.".
constexpr std::string_view kTowers[] = {"vision_tower", "audio_tower", "embed_vision",
                                        "embed_audio", "vision_embedder"};

struct Prefix {
  std::string_view on_disk, canonical;
};
// Longest first: the first match is taken.
constexpr Prefix kPrefixes[] = {{"model.language_model.", "model."},
                                {"language_model.model.", "model."},
                                {"language_model.lm_head.", "lm_head."}};

std::string canonical_name(const std::string& name) {
  for (const Prefix& prefix : kPrefixes)
    if (name.starts_with(prefix.on_disk))
      return std::string(prefix.canonical) + name.substr(prefix.on_disk.size());
  return name;
}

// The tower a tensor belongs to; empty: none.
std::string_view tower_of(std::string_view name) {
  if (name.starts_with("model.")) name.remove_prefix(6);
  for (const std::string_view tower : kTowers)
    if (name.starts_with(tower) && name.substr(tower.size()).starts_with('.')) return tower;
  return {};
}

Code float_code(const SafetensorsEntry& entry) {
  switch (entry.dtype) {
    case DType::kBF16:
      return Code::kBF16;
    case DType::kF16:
      return Code::kF16;
    case DType::kF32:
      return Code::kF32;
    default:
      fail(ErrorCode::kBadData,
           "tensor {} has dtype {}, expected BF16, F16 or F32; give the unquantized checkpoint",
           entry.name, dtype_name(entry.dtype));
  }
}

Code integer_code(const SafetensorsEntry& entry) {
  if (entry.dtype != DType::kI64 && entry.dtype != DType::kI32)
    fail(ErrorCode::kBadData, "tensor {} has dtype {}, expected I64 or I32", entry.name,
         dtype_name(entry.dtype));
  return Code::kF32;
}

// [] and [1] both say "one number".
bool same_shape(const std::vector<int64_t>& found, const std::vector<int64_t>& expected) {
  return found == expected || (found.empty() && expected == std::vector<int64_t>{1});
}

}  // namespace

MappedTensors map_tensors(const std::vector<SafetensorsEntry>& entries,
                          const ExpectedTensors& expected, bool tied_head) {
  MappedTensors mapped;
  std::set<std::string> seen;
  std::map<std::string, int64_t> left_out;
  for (size_t i = 0; i < entries.size(); ++i) {
    const SafetensorsEntry& entry = entries[i];
    const std::string name = canonical_name(entry.name);
    if (const std::string_view tower = tower_of(name); !tower.empty()) {
      ++left_out[std::string(tower) + ": {}, kept for later"];
      continue;
    }
    if (!seen.insert(name).second)
      fail(ErrorCode::kBadData, "tensor {} is there twice, the second time as {}", name,
           entry.name);
    if (const auto unused = expected.unused.find(name); unused != expected.unused.end()) {
      ++left_out[unused->second + ": {}, never used"];
      continue;
    }
    if (tied_head && name == "lm_head.weight") {
      mapped.duplicated_head = static_cast<int64_t>(i);
      ++left_out["lm_head: {}, the same as embed_tokens"];
      continue;
    }
    const auto found = expected.shapes.find(name);
    if (found == expected.shapes.end())
      fail(ErrorCode::kBadData,
           "tensor {} does not belong to the model that config.json describes; are both from the "
           "same model?",
           entry.name);
    if (!same_shape(entry.shape, found->second))
      fail(ErrorCode::kBadData, "tensor {} has shape [{}], expected [{}]", entry.name,
           fmt::join(entry.shape, ", "), fmt::join(found->second, ", "));
    const bool is_integer = expected.integers.contains(name);
    mapped.tensors.push_back(
        {name, found->second, is_integer ? integer_code(entry) : float_code(entry)});
    mapped.entries.push_back(i);
  }
  if (mapped.tensors.size() != expected.shapes.size()) {
    for (const auto& [name, shape] : expected.shapes)
      if (!seen.contains(name))
        fail(ErrorCode::kBadData, "tensor {} is missing ({} of {} are there); are all shards here?",
             name, mapped.tensors.size(), expected.shapes.size());
  }
  for (const auto& [line, n] : left_out)
    mapped.skipped.push_back(
        fmt::format(fmt::runtime(line), fmt::format("{} tensor{}", n, n == 1 ? "" : "s")));
  return mapped;
}

}  // namespace lapidary
