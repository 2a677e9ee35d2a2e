// NFC and its relatives, and lower case.
#pragma once

#include <string>
#include <string_view>

namespace lapidary {

// Unicode normalization forms; `compatibility` for NFKC/NFKD, `compose` for NFC/NFKC.
std::string unicode_normalize(std::string_view text, bool compatibility, bool compose);
// Per character, without context, as `tokenizers` does.
std::string unicode_lowercase(std::string_view text);

}  // namespace lapidary
