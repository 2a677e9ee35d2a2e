// Checkpoints converted once per test program, and the batches of the recorded training curves.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "finetune/finetune.h"
#include "finetune/token_row.h"
#include "formats/safetensors.h"
#include "runtime/model.h"
#include "tests/test_data.h"

namespace lapidary {

// The path of `folder` (a Hugging Face checkpoint) converted to .lap; converted on first use.
std::string converted(const std::string& folder);
// The same in packed weights: "w4", "w8".
std::string quantized(const std::string& folder, const std::string& code);
std::shared_ptr<const Model> load_converted(const std::string& folder);

// Rows [first, first + count) of lora_batches.safetensors as one row of `count` examples.
TokenRow batch_rows(const std::string& folder, int64_t first, int64_t count);

int64_t n_batch_rows(const std::string& folder);

struct FloatTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
FloatTensor read_tensor(const SafetensorsSet& set, const std::string& name);

// Training towards a merge of `master` into `code`, with the merge's own rounding.
MergeAware merge_aware(const std::string& master, const std::string& code, int64_t steps);

// The engine, with the written adapter beside the base, says what the trainer's model said.
void check_probe(const std::string& model, const std::string& output);

}  // namespace lapidary
