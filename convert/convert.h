// convert: a model source, tensor by tensor, into a .lap with the codes it has. Memory stays at one
// buffer, whatever the model's size.
#pragma once

#include <string>
#include <vector>

#include "formats/events.h"
#include "formats/model_source.h"

namespace lapidary {

struct ConvertReport {
  uint64_t file_bytes = 0;
  int64_t n_tensors = 0, n_parameters = 0;
  std::string content_hash;
  double seconds = 0;
  std::vector<std::string> skipped;
};
ConvertReport convert(const ModelSource& source, const std::string& output, const Events& events);

}  // namespace lapidary
