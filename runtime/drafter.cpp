// The index of prompt lookup grows with the text; a token is entered once per length of run.
#include "runtime/drafter.h"

#include <algorithm>

namespace lapidary {
namespace {

// Of the `n` tokens before `end`. Different runs may share a value: a wrong guess is harmless.
uint64_t run_hash(std::span<const int32_t> tokens, int64_t end, int n) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (int64_t i = end - n; i < end; ++i)
    hash = (hash ^ static_cast<uint32_t>(tokens[static_cast<size_t>(i)])) * 0x100000001b3u;
  return hash;
}

}  // namespace

void LookupDrafter::guess(const DraftContext& context, int64_t most, std::vector<int32_t>& draft) {
  const std::span<const int32_t> tokens = context.tokens;
  const int64_t size = std::ssize(tokens);
  // Runs that end before the last token: what follows them is known.
  for (; n_indexed_ < size; ++n_indexed_)
    for (int n = kShortest; n <= kLongest; ++n)
      if (n_indexed_ >= n) behind_[n - kShortest][run_hash(tokens, n_indexed_, n)] = n_indexed_;
  for (int n = kLongest; n >= kShortest; --n) {
    if (size < n) continue;
    const auto found = behind_[n - kShortest].find(run_hash(tokens, size, n));
    if (found == behind_[n - kShortest].end()) continue;
    // A guess that runs into its own beginning repeats it: texts that go in circles are quick.
    const int64_t period = size - found->second;
    for (int64_t i = 0; i < most; ++i)
      draft.push_back(tokens[static_cast<size_t>(found->second + i % period)]);
    return;
  }
}

void DraftLength::record(int64_t n_guessed, int64_t n_held) {
  if (n_guessed == 0) return;
  if (n_held == 0) {
    length_ = 1;
    n_pauses_ = next_pause_;
    next_pause_ = std::min(2 * next_pause_, kLongestPause);
    return;
  }
  next_pause_ = 1;
  length_ = std::clamp<int64_t>(n_held == n_guessed ? n_guessed + 2 : n_held + 1, 1, most_);
}

}  // namespace lapidary
