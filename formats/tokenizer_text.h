// tokenizer.json as text, for those who want what stands beside its vocabulary.
#pragma once

#include <string>

namespace lapidary {

// The object without "model", which is most of it and where key after key is slow to parse into an
// ordered object; empty when `text` is not JSON.
std::string tokenizer_without_model(const std::string& text);

}  // namespace lapidary
