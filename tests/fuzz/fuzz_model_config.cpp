// Any bytes as a .lap file's architecture: an Error, or a config that survives writing and reading.
#include <cstdlib>

#include "formats/error.h"
#include "formats/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  ModelConfig config;
  try {
    config = model_config_from_json({reinterpret_cast<const char*>(data), size});
  } catch (const Error&) {
    return 0;
  }
  if (model_config_from_json(to_json(config)) != config) std::abort();
  return 0;
}
