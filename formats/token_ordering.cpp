// The check of the list.
#include "formats/token_ordering.h"

#include "formats/error.h"

namespace lapidary {

std::vector<int32_t> token_ordering_from(std::span<const float> values, int64_t vocab_size) {
  if (std::ssize(values) != vocab_size)
    fail(ErrorCode::kBadData, "{} tokens in clusters, expected {}", values.size(), vocab_size);
  std::vector<bool> seen(values.size());
  std::vector<int32_t> ids;
  ids.reserve(values.size());
  for (const float value : values) {
    if (!(value >= 0 && value < static_cast<float>(vocab_size)) ||
        value != static_cast<float>(static_cast<int32_t>(value)))
      fail(ErrorCode::kBadData, "token {} at {}, expected ids from 0 to {}", value, ids.size(),
           vocab_size - 1);
    const auto id = static_cast<int32_t>(value);
    if (seen[static_cast<size_t>(id)])
      fail(ErrorCode::kBadData, "token {} is in the clusters twice, expected every token once", id);
    seen[static_cast<size_t>(id)] = true;
    ids.push_back(id);
  }
  return ids;
}

}  // namespace lapidary
