// What a model reads while it is calibrated: a text of our own, or the user's file.
//
// The built-in text (calibration_text/) is a mixture, because Hessians taken from one kind of text
// fit that kind only: prose, code in many languages, tables, logs, mathematics, some twenty-five
// natural languages, and conversations with and without tools. Conversations are kept as messages
// and rendered through the model's own chat template, so that calibration sees the special tokens
// that the model sees in use; a template that refuses one (no system role, no tools) gets it as
// plain text. It shares no passage with runtime/verify/builtin_text.txt, which verdicts are
// measured on.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/model_source.h"
#include "runtime/text/tokenizer.h"

namespace lapidary {

struct CalibrationDocument {
  std::string_view text;
  bool chat = false;  // text is {"messages": [...], "tools"?: [...]}
};

// Interleaved, so that any beginning of the list holds some of every kind.
std::vector<CalibrationDocument> builtin_calibration_documents();

// Token ids of the whole built-in text, without BOS (whoever cuts windows puts one before each).
std::vector<int32_t> builtin_calibration_tokens(const Tokenizer& tokenizer,
                                                const ModelMetadata& metadata);
// Those of the user's text: plain text, or JSON lines of conversations like chat documents above.
// Throws kBadData for fewer than 2 tokens and for a line that is no conversation.
std::vector<int32_t> calibration_tokens(const Tokenizer& tokenizer, const ModelMetadata& metadata,
                                        std::string_view text);

}  // namespace lapidary
