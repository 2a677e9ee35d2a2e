// Typed access to a config.json that remembers which keys were used.
//
// A key nobody asked for may change the arithmetic, so finish() makes every one that is not on a
// reviewed list an Error. Null counts as absent. Messages name the file, the key and its value.
// Only files of convert/ include this header; the JSON library stays in config_reader.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

class ConfigReader {
 public:
  // `where` names the file in messages. Throws kBadData unless `json` is one object.
  ConfigReader(std::string_view json, std::string where);

  // Present and not null. Does not count as use.
  bool has(std::string_view key) const;

  // Throw kBadData when the key is absent (first form) or has another type or range.
  int size(std::string_view key) const;  // 1 .. 2^24
  int size(std::string_view key, int fallback) const;
  int count(std::string_view key, int fallback) const;  // 0 .. 2^24
  int64_t length(std::string_view key) const;           // 1 .. 2^40
  double number(std::string_view key) const;            // finite
  double number(std::string_view key, double fallback) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string text(std::string_view key) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  std::vector<std::string> texts(std::string_view key) const;
  std::vector<int32_t> ids(std::string_view key) const;  // a number or a list; absent: empty
  ConfigReader object(std::string_view key) const;
  std::vector<std::string> keys() const;

  // Absent, null, false, zero or empty. Counts as use.
  bool neutral(std::string_view key) const;
  // Throws kBadData unless the key is neutral: other values change the arithmetic in a way that is
  // not supported. `why` ends the message.
  void refuse(std::string_view key, std::string_view why) const;
  // Throw kBadData about the value of `key`: it contradicts something, or is not supported.
  [[noreturn]] void wrong(std::string_view key, std::string_view expected) const;
  [[noreturn]] void unsupported(std::string_view key, std::string_view supported) const;
  // Marks keys as known to have no influence here.
  void ignore(std::initializer_list<std::string_view> keys) const;
  // Throws kBadData for the first key neither used nor ignored nor in `ignored`.
  void finish(std::span<const std::string_view> ignored) const;

 private:
  struct Node;
  explicit ConfigReader(std::shared_ptr<Node> node);
  std::shared_ptr<Node> node_;
};

}  // namespace lapidary
