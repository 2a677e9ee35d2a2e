// Tasks: JSONL items answered greedily under the chat template, or choices scored by likelihood.
//
// Two forms of item (docs/verify.md):
//   {"task", "system"?, "user", "answer"}: greedy, at most as many tokens as the answer and 8 more,
//     special tokens kept, stop token dropped, trimmed, compared exactly;
//   {"task", "context", "choices", "gold"}: the choice with the largest sum of log-probabilities,
//     appended without delimiter.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "formats/events.h"
#include "runtime/verify/scorer.h"

namespace lapidary {

inline constexpr const char* kPooledName = "pooled";  // no task may be called so

struct TaskItem {
  std::string task;
  std::string system, user, answer;  // generation
  std::string context;               // choice
  std::vector<std::string> choices;
  int gold = -1;  // >= 0: a choice item
};

// Throws kBadData with the line number. `limit_per_task` 0: all.
std::vector<TaskItem> parse_tasks(std::string_view jsonl, int64_t limit_per_task);
std::vector<TaskItem> read_tasks(const std::string& path, int64_t limit_per_task);

// 1 when the item was answered rightly, in item order.
std::vector<uint8_t> score_tasks(Scorer& model, const std::vector<TaskItem>& items,
                                 const Events& events);

struct TaskResult {
  int64_t items = 0;
  double accuracy = 0;
  double interval[2] = {0, 0};  // Wilson, 95 %
};
std::map<std::string, TaskResult> summarize(const std::vector<TaskItem>& items,
                                            const std::vector<uint8_t>& right);

struct TaskComparison {
  int64_t items = 0;
  double base = 0, candidate = 0, difference = 0;
  double interval[2] = {0, 0};                // Tango, 95 %, of candidate - base
  int64_t base_only = 0, candidate_only = 0;  // discordant pairs
};
// One entry per task, and kPooledName over all items.
std::map<std::string, TaskComparison> compare_tasks(const std::vector<TaskItem>& items,
                                                    const std::vector<uint8_t>& base,
                                                    const std::vector<uint8_t>& candidate);

}  // namespace lapidary
