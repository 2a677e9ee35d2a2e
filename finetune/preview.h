// What training will see of the data: rendered examples, with what is learned marked. No LibTorch
// in this header.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "finetune/finetune.h"

namespace lapidary {

struct PreviewPiece {
  std::string text;      // of consecutive tokens; special tokens are spelled out
  bool learned = false;  // the loss is taken on them
};
struct PreviewExample {
  std::string path, form;
  int64_t line = 0, n_tokens = 0, n_learned = 0;
  std::vector<PreviewPiece> pieces;
};

// The first `count` examples of the domain data and of each general file. Throws as finetune().
std::vector<PreviewExample> preview(const FinetuneOptions& options, int64_t count);

}  // namespace lapidary
