// Conversion into a folder that lives as long as the test program.
#include "tests/finetune/fixtures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/lap.h"
#include "quantize/merge_rounding.h"
#include "quantize/quantize.h"
#include "runtime/adapter.h"
#include "runtime/engine.h"

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

MergeAware merge_aware(const std::string& master, const std::string& code, int64_t steps) {
  MergeAware m;
  m.code = code;
  m.steps = steps;
  m.pack = [master, code](const std::string& path, const Events& events) {
    QuantizeOptions options;
    options.weights = *parse_code(code);
    quantize(*LapReader::open(master), path, options, events);
  };
  const auto rounding = std::make_shared<const MergeRounding>(LapReader::open(master));
  m.round = [rounding](const auto&... arguments) { rounding->round_panel(arguments...); };
  return m;
}

void check_probe(const std::string& model_path, const std::string& output) {
  const auto model = Model::load(model_path);
  const auto adapter = Adapter::load(output, *model);
  const auto probe = SafetensorsSet::open_file(output + "/probe.safetensors");
  const std::vector<int32_t> ids = probe.read_ints(*probe.find("ids"));
  const FloatTensor expected = read_tensor(probe, "logits");
  EngineOptions options;
  options.activations = ActivationType::k16Bit;
  Engine engine(model, options);
  const auto sequence = engine.new_sequence(static_cast<int64_t>(ids.size()), KvCode::kF32);
  const BatchItem item{sequence.get(), ids, static_cast<int64_t>(ids.size()) - expected.shape[0],
                       adapter.get()};
  const auto logits = engine.step({&item, 1});
  ASSERT_EQ(logits.size(), expected.values.size());
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i)
    worst = std::max(worst, std::abs(double{logits[i]} - expected.values[i]));
  EXPECT_LT(worst, 1e-3);  // the project's parity bound for float32
}

}  // namespace lapidary
