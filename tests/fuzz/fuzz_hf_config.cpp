// Any bytes as a Hugging Face config.json: an Error, or a description that survives writing and
// reading, and whose tensors can be listed.
#include <cstdlib>

#include "convert/family.h"
#include "formats/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  HfConfig read;
  try {
    read = read_hf_config({reinterpret_cast<const char*>(data), size}, "config.json");
  } catch (const Error&) {
    return 0;
  }
  if (model_config_from_json(to_json(read.config)) != read.config) std::abort();
  for (const auto& [name, shape] : read.family->expected_tensors(read.config).shapes)
    for (const int64_t extent : shape)
      if (extent <= 0) std::abort();
  return 0;
}
