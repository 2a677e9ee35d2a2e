// A .lap that exists only while it is measured, beside the output. A mapping of it outlives its
// name, so the name goes as soon as the file is loaded.
#pragma once

#include <memory>
#include <string>

#include "formats/events.h"
#include "formats/model_source.h"

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

// A source's exact weights as a .lap that an engine can load: the file itself, or a folder's copy
// in a scratch file.
class ExactModel {
 public:
  // `source_path` names the .lap or folder that `source` reads. Throws what reading and writing do.
  ExactModel(const ModelSource& source, const std::string& source_path, const std::string& scratch,
             const Events& events);
  const std::string& path() const { return copy_ ? copy_->path() : path_; }

 private:
  std::string path_;
  std::unique_ptr<ScratchModel> copy_;
};

}  // namespace lapidary
