// Three keys of a YAML block, one line each; anything else in it is left alone.
#include "convert/license.h"

#include <sstream>
#include <string_view>

#include "formats/error.h"
#include "formats/file.h"

namespace lapidary {
namespace {

constexpr uint64_t kMaxCardBytes = uint64_t{4} << 20;
constexpr size_t kMaxValue = 300;

std::string trimmed(std::string_view text) {
  constexpr std::string_view kAround = " \t\r\"'";
  const size_t first = text.find_first_not_of(kAround);
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(kAround) - first + 1));
}

}  // namespace

std::map<std::string, std::string> read_license(const std::string& readme) {
  std::map<std::string, std::string> license;
  if (!path_exists(readme) || is_folder(readme)) return license;
  std::string card;
  try {
    card = read_text(readme, kMaxCardBytes);
  } catch (const Error&) {
    return license;  // a card too large or unreadable says nothing; the weights still convert
  }
  std::istringstream lines(card);
  std::string line;
  if (!std::getline(lines, line) || trimmed(line) != "---") return license;
  while (std::getline(lines, line) && trimmed(line) != "---")
    for (const char* key : {"license", "license_name", "license_link"}) {
      const std::string start = std::string(key) + ":";
      if (!line.starts_with(start)) continue;
      const std::string value = trimmed(std::string_view(line).substr(start.size()));
      if (!value.empty() && value.size() <= kMaxValue) license[key] = value;
    }
  return license;
}

}  // namespace lapidary
