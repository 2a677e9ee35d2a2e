// The folder of tiny-assistant with something changed: tensors left out or written differently,
// keys of its config set.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/test_data.h"

namespace lapidary {

struct AssistantChange {
  std::map<std::string, std::string> keys;       // of config.json: JSON
  std::map<std::string, std::string> text_keys;  // of its text_config
  std::vector<std::string> dropped;              // tensors
  std::vector<int64_t> token_ordering;           // first entries of the list of tokens
};

// An assistant whose head is the whole vocabulary.
inline AssistantChange without_clusters() {
  return {{{"use_ordered_embeddings", "false"}},
          {},
          {"masked_embedding.centroids.weight", "masked_embedding.token_ordering"},
          {}};
}

// Returns `folder`/assistant, with the files in it.
std::string changed_assistant(const TemporaryFolder& folder, const AssistantChange& change);

}  // namespace lapidary
