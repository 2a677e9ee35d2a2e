// General data that the base model makes itself, to be mixed in so that it stays what it was.
//
// What a model says on its own is nearer to what it can do than any foreign text. Prompts are the
// user turns of a given file, or the model's own: continued from the bare header of a user turn.
// Answers are sampled under the model's own template. Ding & Wang 2025 (arXiv 2506.09428)
// regenerate instructions so. The same seed gives the same conversations.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "formats/events.h"
#include "runtime/model.h"

namespace lapidary {

struct ReplayOptions {
  int64_t count = 0;
  std::string prompts;     // a file of records (finetune/records.h), or empty
  int64_t context = 1024;  // prompt and answer together
  uint64_t seed = 0;
  int n_threads = 0;
  float temperature = 0.7f;
};

// Writes JSONL of messages to `path`, whole or not at all. Throws kBadData when the model has no
// chat template, or makes nothing that can be used; kIo.
void make_replay(const ReplayOptions& options, std::shared_ptr<const Model> model,
                 const std::string& path, const Events& events);

}  // namespace lapidary
