// The models that export tests write out: converted and quantized fixtures, and their values.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/lap.h"
#include "quantize/quantize.h"
#include "tests/test_data.h"

namespace lapidary {

inline std::unique_ptr<LapReader> converted(const std::string& source,
                                            const TemporaryFolder& folder) {
  convert(*HfSource::open(source), folder.file("m.lap"), Events{});
  return LapReader::open(folder.file("m.lap"));
}

inline std::unique_ptr<LapReader> quantized(const std::string& source, Code code,
                                            const TemporaryFolder& folder,
                                            std::vector<std::pair<std::string, Code>> keep = {}) {
  QuantizeOptions options;
  options.weights = code;
  options.keep = std::move(keep);
  quantize(*HfSource::open(source), folder.file("q.lap"), options, Events{});
  return LapReader::open(folder.file("q.lap"));
}

inline std::vector<float> values(const LapReader& model, size_t index) {
  const SourceTensor& t = model.tensors()[index];
  std::vector<float> out(static_cast<size_t>(t.elements()));
  model.read_rows(index, 0, t.rows(), out);
  return out;
}

inline std::vector<float> values(const LapReader& model, const std::string& name) {
  for (size_t i = 0; i < model.tensors().size(); ++i)
    if (model.tensors()[i].name == name) return values(model, i);
  throw std::runtime_error("no tensor " + name);
}

}  // namespace lapidary
