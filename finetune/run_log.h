// What a run tells of itself while it goes on: OUTPUT/log.jsonl and a TensorBoard event file.
//
// Both grow step by step, so that they can be watched; the whole text is also kept here, because a
// checkpoint holds it and the finished folder is written anew. The log has no times in it: a
// resumed run ends with the same bytes. The event file has, since TensorBoard wants them.
#pragma once

#include <cstdint>
#include <string>

#include "finetune/finetune.h"
#include "finetune/gate.h"
#include "finetune/trainer.h"

namespace lapidary {

struct LogLine {
  int64_t step = 0;  // from 1
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  double kl = -1;                          // to the base; below 0: not asked for
  int64_t tokens = 0, general_tokens = 0;  // so far, this step included
};
std::string to_json_line(const LogLine& line);  // with the newline

// Steps and losses that a log.jsonl tells of. Throws kBadData.
FinetuneReport report_of_log(const std::string& log);
uint64_t resident_bytes();  // of this process, now

inline constexpr const char* kEventFile = "events.out.tfevents.0.lapidary";

class RunLog {
 public:
  // `folder` need not exist until the first line. With `silent`, nothing is written there.
  RunLog(std::string folder, bool silent) : folder_(std::move(folder)), silent_(silent) {}

  // What a checkpoint knows. The files are cut back to it, whatever they went on to.
  void restore(std::string text, std::string events);
  void add(const LogLine& line, double tokens_per_second);
  void add(const Evaluation& evaluation);
  void keep(const Evaluation& evaluation);  // the same, written with the next line

  const std::string& text() const { return text_; }
  const std::string& events() const { return events_; }  // the event file's bytes

 private:
  void take(const std::string& text, const std::string& events);
  void append(const std::string& text, const std::string& events);

  std::string folder_, text_, events_;
  bool silent_, open_ = false;
};

}  // namespace lapidary
