// Any bytes as adapter_config.json: patterns compile and match within their limits, or it is an
// Error; what was accepted is accepted again after writing.
#include <cstdlib>

#include "formats/error.h"
#include "formats/peft_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  try {
    const PeftConfig config =
        parse_peft_config({reinterpret_cast<const char*>(data), size}, "input");
    const PeftConfig again = parse_peft_config(peft_config_json(config), "written");
    if (again.rank != config.rank || again.alpha != config.alpha) std::abort();
    const LoraScales scales(config);
    (void)scales.scale("model.language_model.layers.17.self_attn.q_proj");
  } catch (const Error& e) {
    if (std::string_view(e.what()).starts_with("written")) std::abort();
  }
  return 0;
}
