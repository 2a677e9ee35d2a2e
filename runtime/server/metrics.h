// Counters for Prometheus: what the HTTP side sees; schedulers count for themselves.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>

#include "runtime/server/served_model.h"

namespace lapidary::server {

// Observations in seconds, by upper bounds.
class Histogram {
 public:
  static constexpr std::array<double, 14> kBounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                  0.25,  0.5,    1,     2.5,  5,     10,   60};
  void observe(double seconds);
  void append(const char* name, const char* help, std::string& out) const;

 private:
  std::array<std::atomic<uint64_t>, kBounds.size() + 1> counts_{};
  std::atomic<double> sum_{0};
};

struct Metrics {
  Histogram time_to_first_token, time_between_tokens, answer_seconds;

  void count_request(const std::string& path, int status);
  // The text format, version 0.0.4.
  std::string text(const ModelDirectory& models) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> requests_;
};

}  // namespace lapidary::server
