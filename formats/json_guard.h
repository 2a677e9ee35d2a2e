// A first look at foreign JSON, before a DOM parser sees it.
//
// DOM parsers keep the last of two members with one name and say nothing; deep nesting costs memory
// long before it means anything. Both are refused here, so that what follows may be plain code.
// Libraries' JSON types stay out of headers, hence text in and nothing out.
#pragma once

#include <string>
#include <string_view>

namespace lapidary {

// Throws kBadData, starting with `where`, when `text` is not one JSON value in valid UTF-8, nests
// deeper than `max_depth`, or has an object with a repeated key.
void guard_json(std::string_view text, const std::string& where, int max_depth = 64);

// At most 80 bytes of `text`, cut between UTF-8 characters, for messages about hostile values.
std::string excerpt(std::string_view text);

}  // namespace lapidary
