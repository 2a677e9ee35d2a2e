// Names and removal only; whoever writes the file does so atomically.
#include "quantize/scratch_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>

namespace lapidary {

ScratchModel::ScratchModel(const std::string& prefix) {
  static std::atomic<int> count{0};
  path_ = fmt::format("{}.scratch-{}-{}", prefix, getpid(), count++);
}

ScratchModel::~ScratchModel() { unlink(path_.c_str()); }

}  // namespace lapidary
