// Typed access to the keys of one architecture in a GGUF file, with a memory of what was read: a
// key that nobody asked for may change the arithmetic and is refused by finish().
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf_set.h"

namespace lapidary {

class GgufKeys {
 public:
  GgufKeys(const GgufSet& file, std::string architecture)
      : file_(file), prefix_(std::move(architecture) + ".") {}

  bool has(std::string_view key);
  // A whole number of any integer type, 0 to 2^31 - 1. Without a fallback the key must be there.
  int size(std::string_view key, std::optional<int> fallback = {});
  double real(std::string_view key, std::optional<double> fallback = {});
  std::string text(std::string_view key, const std::string& fallback);
  // One number for all layers, or one each; booleans count as 0 and 1.
  std::vector<int> per_layer(std::string_view key, int n_layers, std::optional<int> fallback = {});
  void ignore(std::initializer_list<std::string_view> keys);
  // Throws kBadData for a key of this architecture that was neither read nor ignored.
  void finish() const;
  [[noreturn]] void wrong(std::string_view key, std::string_view expected) const;

 private:
  const GgufValue* find(std::string_view key, bool must_be_there);

  const GgufSet& file_;
  std::string prefix_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace lapidary
