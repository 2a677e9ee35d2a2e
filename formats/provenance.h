// Where a model's weights came from: the "provenance" object of a .lap.
//
//   {"source": {"kind": "huggingface", "name": "gemma-4-e2b", "content_hash": "<32 hex digits>"},
//    "tool": "lapidary 0.1.0", "lossy_steps": ["quantize w4 ..."], "skipped": ["vision_tower:
//    ..."], "license": {"license": "gemma"}}
//
// source.content_hash identifies the float weights everything else was made from, as content_hash()
// gives it for a converted file; it survives quantization, so that an adapter trained on a packed
// model can be merged into its master.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

inline constexpr std::string_view kToolVersion = "lapidary 0.1.0";

struct Provenance {
  std::string source_kind, source_name;
  std::string source_hash;  // 32 hex digits; empty: not known
  std::string tool{kToolVersion};
  std::vector<std::string> lossy_steps;  // in the order they were taken
  std::vector<std::string> skipped;      // tensors of the source left out, by group
  // "license", "license_name", "license_link" of the source's model card, those that it has.
  std::map<std::string, std::string> license;
};

// An unknown source_hash is written as 32 zeros, so that filling it in keeps the text's length.
std::string to_json(const Provenance& provenance);
// Reads what to_json() wrote, and any object: missing fields stay empty. Throws kBadData.
Provenance provenance_from_json(std::string_view json);

}  // namespace lapidary
