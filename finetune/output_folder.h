// The folder of a run: what stands in it while it goes on, and the files of a finished one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "finetune/trainer.h"

namespace lapidary {

// How PEFT will find the modules again. A model taken out of a multimodal checkpoint keeps its
// language model under "model.language_model." there, and bare target names would match the towers
// as well.
void name_for_peft(PeftConfig& config, const ModelMetadata& metadata);

// The folder holds a run that has not ended: checkpoints, or a log without an adapter.
bool is_unfinished_run(const std::string& folder);
// Removes what a process that died while it wrote `folder` left beside it.
void remove_left_overs(const std::string& folder);

struct RunOutput {
  PeftAdapter adapter;
  std::string log, events, recipe;

  std::vector<int32_t> probe_ids;
  std::vector<float> probe_logits;  // of the last positions, [n, vocab]
  int64_t vocab_size = 0;
};
inline constexpr const char* kProbeText = "The quick brown fox jumps over the lazy dog. 12 + 30 =";
inline constexpr int64_t kProbePositions = 8;  // few, so that a large vocabulary stays small

// Writes everything and commits. Throws kIo, kUsage when `folder` exists and not `overwrite`.
void write_output(const std::string& folder, bool overwrite, const RunOutput& output);

}  // namespace lapidary
