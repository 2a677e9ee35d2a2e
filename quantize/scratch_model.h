// A .lap that exists only while it is measured, beside the output. A mapping of it outlives its
// name, so the name goes as soon as the file is loaded.
#pragma once

#include <string>

namespace lapidary {

class ScratchModel {
 public:
  // A name that nobody has: `prefix`.scratch-PID-N.
  explicit ScratchModel(const std::string& prefix);
  ScratchModel(const ScratchModel&) = delete;
  ScratchModel& operator=(const ScratchModel&) = delete;
  ~ScratchModel();  // removes the file, if it is still there

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace lapidary
