// What an interrupted run needs to continue as if nothing had happened: adapter, optimizer moments,
// the best adapter so far, the log, and the options and data it was started with.
//
// Checkpoints are folders FOLDER/step-N, each written under a temporary name, synced and renamed;
// the newest few are kept. So whenever the process dies, the newest is whole, or the one before it
// is. The position in the data is the number of steps: the plan of all batches follows from data,
// options and seed, which must agree.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "finetune/trainer.h"
#include "formats/events.h"

namespace lapidary {

struct Checkpoint {
  TrainerState trainer;
  std::vector<LoraModule> best;  // of the evaluation to keep; empty: none yet
  // Everything that decides the run's arithmetic, as "name" -> text; compared when resuming.
  std::map<std::string, std::string> identity;
  std::string log;     // log.jsonl so far
  std::string events;  // of the event file
  std::vector<double> losses;
  int64_t tokens = 0, general_tokens = 0;
};

// Removes all but the newest `keep`, and what a dead process left half written. Throws kIo.
void write_checkpoint(const std::string& folder, const Checkpoint& checkpoint, int64_t keep);
bool has_checkpoint(const std::string& folder);
// The newest one; a damaged one is noted and the one before it taken. Throws kNotFound when there
// is none, kBadData when all are damaged, and kUsage naming the first option that differs from
// `identity`, but for --lr and --clip: a change of those is noted.
Checkpoint read_checkpoint(const std::string& folder,
                           const std::map<std::string, std::string>& identity,
                           const Events& events);

}  // namespace lapidary
