// Adapters beside the model: PEFT's own logits, batches with and without, DoRA, and the base check.
#include "runtime/adapter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

const std::string kReference = data_path("nano-e/reference/");

EngineOptions small_engine() {
  EngineOptions options;
  options.n_threads = 2;
  options.max_batch_tokens = options.max_logits = 128;
  return options;
}

// Row 0 of the fixture's batches.
std::vector<int32_t> first_batch_row() {
  const auto batches = SafetensorsSet::open_file(kReference + "lora_batches.safetensors");
  const SafetensorsEntry* entry = batches.find("input_ids");
  std::vector<int32_t> ids = batches.read_ints(*entry);
  ids.resize(static_cast<size_t>(entry->shape[1]));
  return ids;
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  return largest;
}

TEST(Adapter, GivesTheLogitsOfPeft) {
  const auto model = converted_model("nano-e");
  const auto adapter = Adapter::load(kReference + "lora_final", *model);
  const auto fixture = SafetensorsSet::open_file(kReference + "lora_final_logits.safetensors");
  const std::vector<float> want = floats_of(fixture, "logits");
  Engine engine(model, small_engine());
  std::vector<int32_t> ids = first_batch_row();
  ids.resize(want.size() / static_cast<size_t>(model->config().vocab_size));
  const std::vector<float> logits = logits_of(engine, ids, KvCode::kF32, 0, adapter.get());
  const double off = largest_difference(logits, want);
  std::printf("lora_final         logits max %.2e\n", off);
  EXPECT_LE(off, 1e-3);  // as without adapter, see parity_test.cpp
  EXPECT_GT(largest_difference(logits, logits_of(engine, ids, KvCode::kF32)), 0.1);
}

// Adapters on stacks of experts, against PEFT; a row without one computes what it does alone.
TEST(Adapter, GivesTheLogitsOfPeftOnExperts) {
  const std::string folder = data_path("tiny-moe/reference/");
  const auto model = converted_model("tiny-moe");
  const auto adapter = Adapter::load(folder + "lora_final", *model);
  const auto fixture = SafetensorsSet::open_file(folder + "lora_final_logits.safetensors");
  const auto batches = SafetensorsSet::open_file(folder + "lora_batches.safetensors");
  std::vector<int32_t> ids = batches.read_ints(*batches.find("input_ids"));
  ids.resize(24);
  EngineOptions options = small_engine();
  options.activations = ActivationType::k16Bit;
  Engine engine(model, options);
  const std::vector<float> tuned = logits_of(engine, ids, KvCode::kF32, 0, adapter.get());
  const std::vector<float> plain = logits_of(engine, ids, KvCode::kF32);
  EXPECT_LE(largest_difference(tuned, floats_of(fixture, "logits")), 1e-3);
  EXPECT_GT(largest_difference(tuned, plain), 0.01);

  const auto with = engine.new_sequence(100, KvCode::kF32);
  const auto without = engine.new_sequence(100, KvCode::kF32);
  const BatchItem batch[] = {{without.get(), ids, 23}, {with.get(), ids, 23, adapter.get()}};
  const std::span<const float> both = engine.step(batch);
  const size_t vocab = both.size() / 2;
  EXPECT_TRUE(std::equal(both.begin(), both.begin() + static_cast<int64_t>(vocab),
                         plain.end() - static_cast<int64_t>(vocab)));
  EXPECT_TRUE(std::equal(both.begin() + static_cast<int64_t>(vocab), both.end(),
                         tuned.end() - static_cast<int64_t>(vocab)));
}

TEST(Adapter, ChangesNothingWhileBIsZero) {
  const auto model = converted_model("nano-e");
  const auto adapter = Adapter::load(kReference + "lora_init", *model);
  Engine engine(model, small_engine());
  const std::vector<int32_t> ids = first_batch_row();
  EXPECT_EQ(logits_of(engine, ids, KvCode::kF32, 0, adapter.get()),
            logits_of(engine, ids, KvCode::kF32));
}

TEST(Adapter, ServesOneSequenceOfABatchWithoutTouchingTheOther) {
  const auto model = converted_model("nano-e");
  const auto adapter = Adapter::load(kReference + "lora_final", *model);
  Engine engine(model, small_engine());
  const std::vector<int32_t> ids = first_batch_row();
  const auto plain = engine.new_sequence(100, KvCode::kBF16);
  const auto tuned = engine.new_sequence(100, KvCode::kBF16);
  const int64_t n = static_cast<int64_t>(ids.size());
  const BatchItem batch[] = {{plain.get(), ids, n - 1}, {tuned.get(), ids, n - 1, adapter.get()}};
  const std::span<const float> both = engine.step(batch);
  const std::vector<float> logits(both.begin(), both.end());
  const size_t vocab = logits.size() / 2;
  const auto last = [&](const Adapter* a) {
    std::vector<float> all = logits_of(engine, ids, KvCode::kBF16, 5, a);
    return std::vector<float>(all.end() - static_cast<int64_t>(vocab), all.end());
  };
  EXPECT_EQ(std::vector<float>(logits.begin(), logits.begin() + static_cast<int64_t>(vocab)),
            last(nullptr));
  EXPECT_EQ(std::vector<float>(logits.begin() + static_cast<int64_t>(vocab), logits.end()),
            last(adapter.get()));
}

// DoRA's magnitudes at `factor` times the norms of the rows of W + sBA.
PeftAdapter dora_on_o_proj(const Model& model, double factor) {
  PeftAdapter peft = read_peft(kReference + "lora_final");
  std::erase_if(peft.modules, [](const LoraModule& m) { return !m.module.ends_with("o_proj"); });
  peft.config.dora = true;
  for (LoraModule& m : peft.modules) {
    std::vector<float> w(static_cast<size_t>(m.out * m.in));
    kernels().dequantize_rows(*model.find_matrix(m.module), 0, m.out, w.data());
    for (int64_t r = 0; r < m.out; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < m.in; ++c) {
        double value = w[static_cast<size_t>(r * m.in + c)];
        for (int64_t i = 0; i < m.rank; ++i)
          value += double{m.scale} * double{m.b[static_cast<size_t>(r * m.rank + i)]} *
                   double{m.a[static_cast<size_t>(i * m.in + c)]};
        sum += value * value;
      }
      m.magnitude.push_back(static_cast<float>(factor * std::sqrt(sum)));
    }
  }
  return peft;
}

TEST(Adapter, ScalesRowsByDorasMagnitudes) {
  const auto model = converted_model("nano-e");
  PeftAdapter lora = dora_on_o_proj(*model, 1.0);
  const auto same = Adapter::make(lora, *model, "same");
  const auto doubled = Adapter::make(dora_on_o_proj(*model, 2.0), *model, "doubled");
  for (const LayerWeights& layer : model->layers)
    for (const float factor : doubled->find(layer.o)->row_factor)
      ASSERT_NEAR(factor, 2.0f, 1e-5f);  // a float32 magnitude over a double norm

  for (LoraModule& m : lora.modules) m.magnitude.clear();
  lora.config.dora = false;
  const auto plain = Adapter::make(lora, *model, "plain");
  Engine engine(model, small_engine());
  const std::vector<int32_t> ids = first_batch_row();
  const std::vector<float> want = logits_of(engine, ids, KvCode::kF32, 0, plain.get());
  // Factors of 1 change rounding only. So do factors of 2 on all of o_proj, whose output is normed
  // (up to the norm's eps); a factor on W x alone or on B A x alone would show.
  EXPECT_LE(largest_difference(logits_of(engine, ids, KvCode::kF32, 0, same.get()), want), 1e-3);
  EXPECT_LE(largest_difference(logits_of(engine, ids, KvCode::kF32, 0, doubled.get()), want), 1e-2);
  EXPECT_GT(largest_difference(logits_of(engine, ids, KvCode::kF32), want), 0.05);
}

// Adapters of different ranks and kinds in one batch: each row computes what it does alone.
TEST(Adapter, SeveralServeOneBatchWithoutTouchingEachOther) {
  const auto model = converted_model("nano-e");
  PeftAdapter narrow = read_peft(kReference + "lora_final");
  narrow.config.rank = 1;
  for (LoraModule& m : narrow.modules) {  // the first rank alone, at twice the scale
    std::vector<float> b;
    for (int64_t row = 0; row < m.out; ++row) b.push_back(m.b[static_cast<size_t>(row * m.rank)]);
    m.b = std::move(b);
    m.a.resize(static_cast<size_t>(m.in));
    m.rank = 1;
    m.scale *= 2;
  }
  const std::shared_ptr<const Adapter> adapters[] = {
      nullptr, Adapter::load(kReference + "lora_final", *model),
      Adapter::make(dora_on_o_proj(*model, 1.1), *model, "dora"),
      Adapter::make(narrow, *model, "narrow")};
  Engine engine(model, small_engine());
  std::vector<int32_t> ids = first_batch_row();
  ids.resize(20);
  const auto last = static_cast<int64_t>(ids.size()) - 1;
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<BatchItem> batch;
  for (const auto& adapter : adapters) {
    sequences.push_back(engine.new_sequence(100, KvCode::kBF16));
    batch.push_back({sequences.back().get(), ids, last, adapter.get()});
  }
  const std::span<const float> all = engine.step(batch);
  const std::vector<float> together(all.begin(), all.end());
  const size_t vocab = together.size() / std::size(adapters);
  std::vector<std::vector<float>> alone;
  for (size_t i = 0; i < std::size(adapters); ++i) {
    std::vector<float> logits = logits_of(engine, ids, KvCode::kBF16, 0, adapters[i].get());
    alone.emplace_back(logits.end() - static_cast<int64_t>(vocab), logits.end());
    EXPECT_TRUE(std::equal(alone[i].begin(), alone[i].end(), together.begin() + i * vocab)) << i;
    for (size_t j = 0; j < i; ++j) EXPECT_NE(alone[i], alone[j]) << i << " " << j;
  }
}

TEST(Adapter, IsTiedToItsBase) {
  const auto model = converted_model("nano-e");
  PeftAdapter peft = read_peft(kReference + "lora_init");
  EXPECT_NO_THROW(Adapter::make(peft, *model, "foreign: no hash recorded"));
  peft.base_hash = model->file().content_hash();
  EXPECT_NO_THROW(Adapter::make(peft, *model, "its own base"));
  peft.base_hash = std::string(32, '1');
  try {
    Adapter::make(peft, *model, "folder");
    FAIL() << "accepted another base";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    EXPECT_NE(std::string(e.what()).find("folder"), std::string::npos);
  }
  peft.base_source_hash = model->file().content_hash();  // a quantization of this very model
  EXPECT_NO_THROW(Adapter::make(peft, *model, "another code of the same weights"));
}

TEST(Adapter, IsRefusedByAnotherModelAndItsEngine) {
  const auto model = converted_model("nano-e"), other = converted_model("tiny-gemma3");
  EXPECT_THROW(Adapter::load(kReference + "lora_final", *other), Error);
  const auto adapter = Adapter::load(kReference + "lora_final", *model);
  Engine engine(other, small_engine());
  const std::vector<int32_t> ids = {2, 3};
  EXPECT_THROW(logits_of(engine, ids, KvCode::kF32, 0, adapter.get()), Error);
}

}  // namespace
}  // namespace lapidary
