// Small things that every writer needs.
#include "runtime/server/answer.h"

#include <fmt/format.h>

#include <chrono>
#include <iterator>
#include <mutex>
#include <random>

namespace lapidary::server {

void append_event(std::string& out, std::string_view name, std::string_view data) {
  if (!name.empty()) fmt::format_to(std::back_inserter(out), "event: {}\n", name);
  fmt::format_to(std::back_inserter(out), "data: {}\n\n", data);
}

std::string new_id(std::string_view prefix) {
  static std::mutex mutex;
  static std::mt19937_64 random{(uint64_t(std::random_device{}()) << 32) ^ std::random_device{}()};
  std::lock_guard lock(mutex);
  return fmt::format("{}{:016x}{:08x}", prefix, random(), random() & 0xffffffff);
}

int64_t seconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace lapidary::server
