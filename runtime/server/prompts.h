// An Ask seen by one model: its prompts as tokens, its sampling options.
#pragma once

#include <string>
#include <vector>

#include "runtime/server/ask.h"
#include "runtime/server/served_model.h"

namespace lapidary::server {

struct Prompts {
  std::vector<std::vector<int32_t>> tokens;
  std::string chat_text;  // of a chat, as rendered
};

// Throws ApiError 400 for what the template refuses.
Prompts make_prompts(const Ask& ask, const ServedModel& model);
// Throws ApiError 400, blaming `param`, for an empty prompt, an unknown token, and a prompt that
// leaves less than `room` tokens of the context.
void check_prompts(const Prompts& prompts, const ServedModel& model, int64_t room,
                   const char* param);

// The wish over the model's defaults; another seed each time unless one is wished for.
SamplingOptions sampling_of(const SamplingWish& wish, SamplingOptions defaults);

}  // namespace lapidary::server
