// The copy, tensor by tensor.
#include "tests/assistant_folder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/file.h"
#include "formats/safetensors.h"

namespace lapidary {

std::string changed_assistant(const TemporaryFolder& folder, const AssistantChange& change) {
  const std::string from = data_path("tiny-assistant"), to = folder.file("assistant");
  std::filesystem::create_directories(to);
  auto config = nlohmann::json::parse(read_text(from + "/config.json"));
  for (const auto& [key, value] : change.text_keys)
    config["text_config"][key] = nlohmann::json::parse(value);
  for (const auto& [key, value] : change.keys) config[key] = nlohmann::json::parse(value);
  write_text_atomically(to + "/config.json", config.dump());

  const SafetensorsSet set = SafetensorsSet::open_folder(from);
  std::vector<SafetensorsOutput> tensors;
  std::vector<std::vector<uint8_t>> data;
  data.reserve(set.entries().size());
  for (const SafetensorsEntry& entry : set.entries()) {
    if (std::find(change.dropped.begin(), change.dropped.end(), entry.name) != change.dropped.end())
      continue;
    std::vector<uint8_t>& bytes = data.emplace_back(entry.bytes);
    set.read(entry, 0, bytes);
    if (entry.name == "masked_embedding.token_ordering")
      std::copy_n(reinterpret_cast<const uint8_t*>(change.token_ordering.data()),
                  8 * change.token_ordering.size(), bytes.begin());
    tensors.push_back({entry.name, entry.dtype, entry.shape, bytes});
  }
  write_safetensors(to + "/model.safetensors", tensors);
  return to;
}

}  // namespace lapidary
