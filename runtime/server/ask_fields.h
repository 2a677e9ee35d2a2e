// Fields that several APIs have in common, read into an Ask.
#pragma once

#include <string>
#include <vector>

#include "runtime/server/ask.h"
#include "runtime/server/fields.h"

namespace lapidary::server {

// model, stream, n, temperature, top_p, top_k, min_p, penalties, seed, stop, logit_bias.
void read_sampling(const Fields& body, Ask& ask);
// A string or a list of at most `max_items`; none may be empty.
std::vector<std::string> read_texts(const Fields& value, size_t max_items);
// A prompt of OpenAI's: a text, a list of texts, of tokens, or of lists of tokens.
void read_prompts(const Fields& prompt, size_t max_items, Ask& ask);
// OpenAI's word for it: "none" and "minimal" switch thinking off, any other on. Throws for words
// that are not OpenAI's.
bool thinks(const Fields& effort);

}  // namespace lapidary::server
