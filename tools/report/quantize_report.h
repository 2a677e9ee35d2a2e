// The page that `quantize --report` writes: sizes, loss on text, who got how many bits and why.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "quantize/budget.h"
#include "quantize/quantize.h"
#include "runtime/verify/text_measure.h"

namespace lapidary {

struct QuantizePage {
  std::string source_name, output_name;
  uint64_t source_bytes = 0;  // of tensors
  QuantizeReport report;
  std::optional<Allocation> allocation;
  std::optional<TextComparison> text;  // source against output
  std::string text_source;             // "built-in text", or the file
  std::string made_by;
};

std::string quantize_html(const QuantizePage& page);

}  // namespace lapidary
