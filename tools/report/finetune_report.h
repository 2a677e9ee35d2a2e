// A page about one fine-tuning run, from its log: curves of loss, KL and held-out measures, and the
// adapter that was kept.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lapidary {

struct FinetunePage {
  std::string output_name;
  std::string log;  // log.jsonl
  int64_t kept_step = 0;
  bool stopped_early = false;
  double gate_nats = 0.02, gate_points = 0.02;
  std::vector<std::pair<std::string, std::string>> facts;  // name, value
};

// Throws kBadData for a log that is none.
std::string finetune_html(const FinetunePage& page);

}  // namespace lapidary
