// Conversion into a folder that lives as long as the test program.
#include "tests/finetune/fixtures.h"

#include <map>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/lap.h"
#include "quantize/quantize.h"

namespace lapidary {
namespace {

TemporaryFolder& folder_of_models() {
  static TemporaryFolder folder;
  return folder;
}

}  // namespace

std::string converted(const std::string& folder) {
  static std::map<std::string, std::string> done;
  std::string& path = done[folder];
  if (path.empty()) {
    path = folder_of_models().file(std::to_string(done.size()) + ".lap");
    convert(*HfSource::open(folder), path, {});
  }
  return path;
}

std::string quantized(const std::string& folder, const std::string& code) {
  static std::map<std::string, std::string> done;
  std::string& path = done[folder + " " + code];
  if (path.empty()) {
    path = folder_of_models().file(std::to_string(done.size()) + "-" + code + ".lap");
    QuantizeOptions options;
    options.weights = *parse_code(code);
    quantize(*LapReader::open(converted(folder)), path, options, {});
  }
  return path;
}

std::shared_ptr<const Model> load_converted(const std::string& folder) {
  return Model::load(converted(folder));
}

TokenRow batch_rows(const std::string& folder, int64_t first, int64_t count) {
  const auto set = SafetensorsSet::open_file(folder + "/reference/lora_batches.safetensors");
  const auto* ids = set.find("input_ids");
  const int64_t length = ids->shape[1];
  const std::vector<int32_t> all_ids = set.read_ints(*ids);
  const std::vector<int32_t> all_labels = set.read_ints(*set.find("labels"));
  TokenRow row;
  row.ids.assign(all_ids.begin() + first * length, all_ids.begin() + (first + count) * length);
  row.labels.assign(all_labels.begin() + first * length,
                    all_labels.begin() + (first + count) * length);
  row.lengths.assign(static_cast<size_t>(count), length);
  return row;
}

int64_t n_batch_rows(const std::string& folder) {
  return SafetensorsSet::open_file(folder + "/reference/lora_batches.safetensors")
      .find("input_ids")
      ->shape[0];
}

FloatTensor read_tensor(const SafetensorsSet& set, const std::string& name) {
  const auto* entry = set.find(name);
  if (!entry) throw std::runtime_error("no tensor " + name);
  return {entry->shape, set.read_floats(*entry)};
}

}  // namespace lapidary
