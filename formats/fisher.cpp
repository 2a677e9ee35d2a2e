// Pairs of vectors in a safetensors file; the reader checks every number.
#include "formats/fisher.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/error.h"
#include "formats/safetensors.h"

namespace lapidary {
namespace {

constexpr std::string_view kFormat = "lapidary-fisher-1", kRows = ".rows", kColumns = ".columns";

std::span<const uint8_t> bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
}

std::vector<float> read_vector(const SafetensorsSet& file, const std::string& path,
                               const SafetensorsEntry& entry) {
  if (entry.dtype != DType::kF32 || entry.shape.size() != 1 || entry.shape[0] < 1)
    fail(ErrorCode::kBadData, "{}: {} is no vector of float32", path, entry.name);
  std::vector<float> values = file.read_floats(entry);
  for (const float value : values)
    if (!std::isfinite(value) || value < 0)
      fail(ErrorCode::kBadData, "{}: {} holds {}; sums of squares are finite and not negative",
           path, entry.name, value);
  return values;
}

}  // namespace

const FisherTensor* FisherStatistics::find(std::string_view name) const {
  const auto found = std::ranges::find(tensors, name, &FisherTensor::name);
  return found == tensors.end() ? nullptr : &*found;
}

void write_fisher(const std::string& path, const FisherStatistics& statistics) {
  std::vector<SafetensorsOutput> outputs;
  for (const FisherTensor& t : statistics.tensors)
    for (const auto& [suffix, values] :
         {std::pair(kRows, &t.rows), std::pair(kColumns, &t.columns)})
      outputs.push_back({t.name + std::string(suffix),
                         DType::kF32,
                         {static_cast<int64_t>(values->size())},
                         bytes_of(*values)});
  write_safetensors(path, outputs,
                    {{"format", std::string(kFormat)},
                     {"model", statistics.model_hash},
                     {"source", statistics.source_hash},
                     {"tokens", std::to_string(statistics.tokens)}});
}

FisherStatistics read_fisher(const std::string& path) {
  const SafetensorsSet file = SafetensorsSet::open_file(path);
  const auto field = [&](const char* name) {
    const auto found = file.file_metadata().find(name);
    return found == file.file_metadata().end() ? std::string() : found->second;
  };
  if (field("format") != kFormat)
    fail(ErrorCode::kBadData, "{}: not a file of `finetune --fisher` (format \"{}\", expected {})",
         path, field("format"), kFormat);
  FisherStatistics statistics;
  statistics.model_hash = field("model");
  statistics.source_hash = field("source");
  const std::string tokens = field("tokens");
  const auto [end, error] =
      std::from_chars(tokens.data(), tokens.data() + tokens.size(), statistics.tokens);
  if (error != std::errc() || end != tokens.data() + tokens.size() || statistics.tokens < 1)
    fail(ErrorCode::kBadData, "{}: \"tokens\" is \"{}\", no number above 0", path, tokens);
  for (const SafetensorsEntry& entry : file.entries()) {
    if (!entry.name.ends_with(kRows)) {
      if (entry.name.ends_with(kColumns)) continue;
      fail(ErrorCode::kBadData, "{}: {} ends neither in {} nor in {}", path, entry.name, kRows,
           kColumns);
    }
    FisherTensor& t = statistics.tensors.emplace_back();
    t.name = entry.name.substr(0, entry.name.size() - kRows.size());
    t.rows = read_vector(file, path, entry);
    const SafetensorsEntry* columns = file.find(t.name + std::string(kColumns));
    if (!columns) fail(ErrorCode::kBadData, "{}: {} has rows but no columns", path, t.name);
    t.columns = read_vector(file, path, *columns);
  }
  if (file.entries().size() != 2 * statistics.tensors.size())
    fail(ErrorCode::kBadData, "{}: holds columns without rows", path);
  return statistics;
}

}  // namespace lapidary
