// The files of a finished run beside the weights: log lines, the probe, the PEFT folder itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "finetune/trainer.h"

namespace lapidary {

struct LogLine {
  int64_t step = 0;  // from 1
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  int64_t tokens = 0, general_tokens = 0;  // so far, this step included
};
std::string to_json_line(const LogLine& line);  // with the newline

// How PEFT will find the modules again. A model taken out of a multimodal checkpoint keeps its
// language model under "model.language_model." there, and bare target names would match the towers
// as well.
void name_for_peft(PeftConfig& config, const ModelMetadata& metadata);

struct RunOutput {
  PeftAdapter adapter;
  std::string log, recipe;
  std::vector<int32_t> probe_ids;
  std::vector<float> probe_logits;  // of the last positions, [n, vocab]
  int64_t vocab_size = 0;
};
inline constexpr const char* kProbeText = "The quick brown fox jumps over the lazy dog. 12 + 30 =";
inline constexpr int64_t kProbePositions = 8;  // few, so that a large vocabulary stays small

// Writes everything and commits. Throws kIo, kUsage when `folder` exists and not `overwrite`.
void write_output(const std::string& folder, bool overwrite, const RunOutput& output);

}  // namespace lapidary
