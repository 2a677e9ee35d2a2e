// The licence that a model came with.
#pragma once

#include <map>
#include <string>

namespace lapidary {

// "license", "license_name" and "license_link" of a model card's front matter (the lines between
// two "---" at its beginning), those that it has; empty when there is no card.
std::map<std::string, std::string> read_license(const std::string& readme);

}  // namespace lapidary
