// Merging an adapter on stacks of experts: every expert gets its own update, the merged model says
// what base and adapter say together, and the adapter's own reference (PEFT) agrees.
#include <gtest/gtest.h>

#include <cmath>

#include "formats/dtype.h"
#include "formats/lap_copy.h"
#include "quantize/merge.h"
#include "quantize/merged_source.h"
#include "runtime/adapter.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

const std::string kReference = data_path("tiny-moe/reference/");

std::vector<float> rows_of(const ModelSource& source, size_t index) {
  std::vector<float> rows(static_cast<size_t>(source.tensors()[index].elements()));
  source.read_rows(index, 0, source.tensors()[index].rows(), rows);
  return rows;
}

// W + s B A of one element of a stack, in float64; row counts on from expert to expert.
double merged_element(const std::vector<float>& w, const LoraModule& m, int64_t row, int64_t i) {
  double sum = w[static_cast<size_t>(row * m.in + i)];
  const int64_t expert = row / m.out;
  for (int64_t j = 0; j < m.rank; ++j)
    sum += double{m.scale} * m.b[static_cast<size_t>(row * m.rank + j)] *
           m.a[static_cast<size_t>((expert * m.rank + j) * m.in + i)];
  return sum;
}

TEST(MergeExperts, EveryExpertGetsItsOwnUpdateRoundedOnce) {
  TemporaryFolder folder;
  merge(converted_path("tiny-moe"), kReference + "lora_final", folder.file("merged.lap"), {}, {});
  const auto before = LapReader::open(converted_path("tiny-moe"));
  const auto after = LapReader::open(folder.file("merged.lap"));
  const PeftAdapter adapter = read_peft(kReference + "lora_final");
  int64_t n_stacks = 0;
  for (const LoraModule& m : adapter.modules) {
    if (m.n_experts == 0) continue;
    ++n_stacks;
    for (size_t i = 0; i < before->tensors().size(); ++i) {
      if (before->tensors()[i].name != m.module) continue;
      const std::vector<float> w = rows_of(*before, i), got = rows_of(*after, i);
      for (size_t j = 0; j < w.size(); ++j) {
        const auto exact = static_cast<float>(
            merged_element(w, m, static_cast<int64_t>(j) / m.in, static_cast<int64_t>(j) % m.in));
        ASSERT_EQ(got[j], bf16_to_float(float_to_bf16(exact))) << m.module << " " << j;
      }
    }
  }
  EXPECT_EQ(n_stacks, 8);  // four layers, gate_up and down
}

// The merged weights as float32, where nothing is rounded that base and adapter do not round.
std::shared_ptr<const Model> merged_exactly(const PeftAdapter& adapter, const std::string& path) {
  const auto base = LapReader::open(converted_path("tiny-moe"));
  const MergedSource merged(*base, adapter, base->metadata(), /*exact=*/true);
  copy_to_lap(merged, path, base->metadata(), {base->tokenizer_json(), base->tokenizer_tables()},
              /*is_source=*/true, {});
  return Model::load(path);
}

std::vector<float> logits_of_model(const std::shared_ptr<const Model>& model,
                                   const Adapter* adapter) {
  const auto batches = SafetensorsSet::open_file(kReference + "lora_batches.safetensors");
  std::vector<int32_t> ids = batches.read_ints(*batches.find("input_ids"));
  ids.resize(24);  // one row
  EngineOptions options;
  options.n_threads = 2;
  options.max_batch_tokens = options.max_logits = 128;
  options.activations = ActivationType::k16Bit;
  Engine engine(model, options);
  return logits_of(engine, ids, KvCode::kF32, 0, adapter);
}

// Float32 sums in another order; the parity bound of the whole project.
void expect_same_logits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-3f) << i;
}

TEST(MergeExperts, SaysWhatBaseAndAdapterSayTogether) {
  TemporaryFolder folder;
  const PeftAdapter adapter = read_peft(kReference + "lora_final");
  const auto merged = logits_of_model(merged_exactly(adapter, folder.file("m.lap")), nullptr);
  const auto base = converted_model("tiny-moe");
  expect_same_logits(merged,
                     logits_of_model(base, Adapter::load(kReference + "lora_final", *base).get()));
  const auto peft = SafetensorsSet::open_file(kReference + "lora_final_logits.safetensors");
  expect_same_logits(merged, floats_of(peft, "logits"));
}

TEST(MergeExperts, GoStraightToACode) {
  TemporaryFolder folder;
  MergeOptions options;
  options.weights = Code::kW8;
  const std::string path = folder.file("w8.lap");
  merge(converted_path("tiny-moe"), kReference + "lora_final", path, options, {});
  const auto packed = LapReader::open(path), base = LapReader::open(converted_path("tiny-moe"));
  const PeftAdapter adapter = read_peft(kReference + "lora_final");
  const MergedSource exact(*base, adapter, base->metadata(), /*exact=*/true);
  EXPECT_EQ(packed->find("model.layers.1.experts.gate_up_proj")->code, Code::kW8);
  for (size_t i = 0; i < exact.tensors().size(); ++i) {
    const std::vector<float> want = rows_of(exact, i), got = rows_of(*packed, i);
    double error = 0, energy = 0;
    for (size_t j = 0; j < want.size(); ++j) {
      error += std::pow(double{want[j]} - got[j], 2);
      energy += double{want[j]} * want[j];
    }
    EXPECT_LE(error, 2e-4 * energy) << exact.tensors()[i].name;  // w8's loss, as in merge_test.cpp
  }
}

}  // namespace
}  // namespace lapidary
