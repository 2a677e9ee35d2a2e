// Which tokens belong to which cluster of an assistant's vocabulary.
//
// The list holds every token id once: the first vocab_size / n_centroids of them are cluster 0, and
// so on. Files keep it as float32, which is exact: ids lie below 2^24.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lapidary {

// The ids of a stored list. Throws kBadData unless every token below vocab_size is there once.
std::vector<int32_t> token_ordering_from(std::span<const float> values, int64_t vocab_size);

}  // namespace lapidary
