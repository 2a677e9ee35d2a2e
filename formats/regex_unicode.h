// What Unicode has added since the tables of the PCRE2 that we meet (10.42: Unicode 14).
//
// `tokenizers` classifies characters by Unicode 16. A letter that PCRE2 does not know would be
// split off as punctuation, so the translated patterns name the newer characters. A newer PCRE2
// knows them already, and then naming them changes nothing.
#pragma once

#include <string>
#include <string_view>

namespace lapidary {

// Members for a character class, like "\x{1c89}\x{a7cb}-\x{a7cc}"; empty for most properties.
// `property`: a category (L, Lu, ...) or a script.
std::string unicode_additions(std::string_view property);

}  // namespace lapidary
