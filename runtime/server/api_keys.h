// Keys that clients show. Only their hashes are kept, and compared in constant time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary::server {

class ApiKeys {
 public:
  ApiKeys() = default;  // none: everybody is let in
  // One key a line; empty lines and those that begin with # are skipped. Throws kNotFound, kIo, and
  // kBadData when there is no key or one has spaces.
  static ApiKeys from_file(const std::string& path);
  static ApiKeys of(const std::vector<std::string>& keys);

  bool is_open() const { return hashes_.empty(); }
  // Which key it is; nothing: none of them. Takes the same time for every key.
  std::optional<size_t> find(std::string_view key) const;

 private:
  using Hash = std::array<uint8_t, 32>;
  static Hash hash_of(std::string_view key);
  std::vector<Hash> hashes_;
};

}  // namespace lapidary::server
