// What an interrupted run needs to continue as if nothing had happened: adapter, optimizer moments,
// the log so far, and the options and data it was started with.
//
// A checkpoint is the folder DIR/checkpoint, replaced as a whole. The position in the data is the
// number of steps: the plan of all batches follows from data, options and seed, which must agree.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "finetune/trainer.h"

namespace lapidary {

struct Checkpoint {
  TrainerState trainer;
  // Everything that decides the run's arithmetic, as "name" -> text; compared when resuming.
  std::map<std::string, std::string> identity;
  std::string log;  // log.jsonl so far
  std::vector<double> losses;
};

// Throws kIo.
void write_checkpoint(const std::string& folder, const Checkpoint& checkpoint);
// Throws kNotFound when there is none, kBadData when it is damaged, and kUsage naming the first
// option that differs from `identity`.
Checkpoint read_checkpoint(const std::string& folder,
                           const std::map<std::string, std::string>& identity);

}  // namespace lapidary
