// Merging: the arithmetic against a plain computation, PEFT's trained adapter into its master, and
// the adapters that must be refused.
#include "quantize/merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/dtype.h"
#include "formats/peft.h"
#include "formats/provenance.h"
#include "quantize/merged_source.h"
#include "tests/quantize/memory_source.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

LoraModule random_module(const std::string& name, int64_t rank, int64_t out, int64_t in) {
  LoraModule module;
  module.module = name;
  module.rank = rank;
  module.in = in;
  module.out = out;
  module.scale = 1.5f;
  std::mt19937 random(7);
  const auto value = [&] { return static_cast<float>(random() % 2001) / 1000.0f - 1.0f; };
  for (int64_t i = 0; i < rank * in; ++i) module.a.push_back(value());
  for (int64_t i = 0; i < out * rank; ++i) module.b.push_back(value());
  return module;
}

// W + s B A of one element, in float64.
double merged_element(const std::vector<float>& w, const LoraModule& m, int64_t row, int64_t i) {
  double sum = w[row * m.in + i];
  for (int64_t j = 0; j < m.rank; ++j)
    sum += double{m.scale} * m.b[row * m.rank + j] * m.a[j * m.in + i];
  return sum;
}

std::vector<float> rows_of(const ModelSource& source, size_t index) {
  std::vector<float> rows(static_cast<size_t>(source.tensors()[index].elements()));
  source.read_rows(index, 0, source.tensors()[index].rows(), rows);
  return rows;
}

TEST(MergedSource, AddsTheScaledProduct) {
  MemorySource base;
  base.add_random("a.weight", {6, 10});
  base.add_random("b.weight", {6, 10});
  PeftAdapter adapter;
  adapter.modules = {random_module("b", 3, 6, 10)};
  const MergedSource merged(base, adapter, base.metadata(), /*exact=*/true);
  EXPECT_EQ(rows_of(merged, 0), rows_of(base, 0));
  const std::vector<float> w = rows_of(base, 1), got = rows_of(merged, 1);
  for (int64_t row = 0; row < 6; ++row)
    for (int64_t i = 0; i < 10; ++i)
      EXPECT_EQ(got[row * 10 + i],
                static_cast<float>(merged_element(w, adapter.modules[0], row, i)));
  // Any piece of it reads the same.
  std::vector<float> piece(20);
  merged.read_rows(1, 3, 2, piece);
  EXPECT_TRUE(std::equal(piece.begin(), piece.end(), got.begin() + 30));
}

TEST(MergedSource, DoraKeepsTheLearnedLengthOfEveryRow) {
  MemorySource base;
  base.add_random("a.weight", {6, 10});
  PeftAdapter adapter;
  adapter.modules = {random_module("a", 2, 6, 10)};
  adapter.modules[0].magnitude = {1, 2, 3, 4, 5, 6};
  const MergedSource merged(base, adapter, base.metadata(), /*exact=*/true);
  const std::vector<float> w = rows_of(base, 0), got = rows_of(merged, 0);
  for (int64_t row = 0; row < 6; ++row) {
    double squares = 0;
    for (int64_t i = 0; i < 10; ++i)
      squares += std::pow(merged_element(w, adapter.modules[0], row, i), 2);
    for (int64_t i = 0; i < 10; ++i) {
      const double expected =
          (row + 1) * merged_element(w, adapter.modules[0], row, i) / std::sqrt(squares);
      EXPECT_NEAR(got[row * 10 + i], expected, 1e-6 * std::fabs(expected) + 1e-9);  // float32
    }
  }
}

TEST(MergedSource, AModuleWithoutATensorOrOfAnotherShapeIsRefused) {
  MemorySource base;
  base.add_random("a.weight", {6, 10});
  PeftAdapter adapter;
  adapter.modules = {random_module("c", 2, 6, 10)};
  EXPECT_THROW(MergedSource(base, adapter, base.metadata(), false), Error);
  adapter.modules = {random_module("a", 2, 10, 6)};
  EXPECT_THROW(MergedSource(base, adapter, base.metadata(), false), Error);
}

class Merge : public testing::Test {
 protected:
  Merge() { convert(*HfSource::open(data_path("nano-e")), base(), Events{}); }
  std::string base() const { return folder_.file("base.lap"); }
  std::string out() const { return folder_.file("merged.lap"); }
  std::string trained() const { return data_path("nano-e/reference/lora_final"); }

  // lora_final with other hashes, in a folder of its own.
  std::string with_hashes(const std::string& base_hash, const std::string& source_hash) {
    PeftAdapter adapter = read_peft(trained());
    adapter.base_hash = base_hash;
    adapter.base_source_hash = source_hash;
    const std::string path = folder_.file("adapter");
    std::filesystem::remove_all(path);
    std::filesystem::create_directory(path);
    write_peft(path, adapter);
    return path;
  }
  std::string refusal(const std::string& base_path, const std::string& adapter) const {
    try {
      merge(base_path, adapter, out(), {}, Events{});
    } catch (const Error& e) {
      EXPECT_FALSE(std::filesystem::exists(out()));
      return e.what();
    }
    ADD_FAILURE() << "merged";
    return {};
  }
  TemporaryFolder folder_;
};

TEST_F(Merge, TrainedAdapterIsRoundedOnceIntoTheMaster) {
  const MergeReport report = merge(base(), trained(), out(), {}, Events{});
  EXPECT_EQ(report.merged_modules, 60);  // 10 layers x 7, less k and v of the 5 sharing layers
  const auto before = LapReader::open(base()), after = LapReader::open(out());
  EXPECT_EQ(report.content_hash, after->content_hash());
  EXPECT_NE(report.content_hash, before->content_hash());
  const PeftAdapter adapter = read_peft(trained());
  size_t n_changed = 0;
  for (size_t i = 0; i < before->tensors().size(); ++i) {
    const SourceTensor& t = before->tensors()[i];
    EXPECT_EQ(after->tensors()[i].code, t.code);
    const std::vector<float> w = rows_of(*before, i), got = rows_of(*after, i);
    const LoraModule* module = nullptr;
    for (const LoraModule& m : adapter.modules)
      if (m.module + ".weight" == t.name) module = &m;
    if (!module) {
      EXPECT_EQ(got, w) << t.name;
      continue;
    }
    ++n_changed;
    for (size_t j = 0; j < w.size(); ++j) {
      const double exact = merged_element(w, *module, j / module->in, j % module->in);
      ASSERT_EQ(got[j], bf16_to_float(float_to_bf16(static_cast<float>(exact)))) << t.name;
    }
  }
  EXPECT_EQ(n_changed, adapter.modules.size());
  const Provenance provenance = provenance_from_json(after->metadata().provenance);
  EXPECT_EQ(provenance.source_hash, after->content_hash());
  ASSERT_EQ(provenance.lossy_steps.size(), 1u);
  EXPECT_NE(provenance.lossy_steps[0].find("lora_final"), std::string::npos);
}

TEST_F(Merge, StraightToACodeLosesLessThanByWayOfBf16) {
  MergeOptions options;
  options.weights = Code::kW8;
  merge(base(), trained(), out(), options, Events{});
  const auto direct = LapReader::open(out());
  const auto before = LapReader::open(base());
  const PeftAdapter adapter = read_peft(trained());
  const MergedSource exact(*before, adapter, before->metadata(), /*exact=*/true);
  for (size_t i = 0; i < exact.tensors().size(); ++i) {
    const std::vector<float> want = rows_of(exact, i), got = rows_of(*direct, i);
    double error = 0, energy = 0;
    for (size_t j = 0; j < want.size(); ++j) {
      error += std::pow(double{want[j]} - got[j], 2);
      energy += double{want[j]} * want[j];
    }
    EXPECT_LE(error, 2e-4 * energy) << exact.tensors()[i].name;  // w8's loss, heavy tails included
  }
  EXPECT_EQ(direct->find("model.layers.0.mlp.up_proj.weight")->code, Code::kW8);
}

TEST_F(Merge, TheBaseIsRecognisedByEitherHash) {
  const std::string hash = LapReader::open(base())->content_hash();
  const std::string other(32, 'a');
  EXPECT_NO_THROW(merge(base(), with_hashes(hash, ""), out(), {}, Events{}));
  EXPECT_NO_THROW(merge(base(), with_hashes(other, hash), out(), {}, Events{}));
}

TEST_F(Merge, AnAdapterOfAnotherBaseIsRefused) {
  const std::string message = refusal(base(), with_hashes(std::string(32, 'a'), ""));
  EXPECT_NE(message.find("another model"), std::string::npos) << message;
}

TEST_F(Merge, APackedBaseIsRefusedWithAdvice) {
  const std::string packed = folder_.file("w8.lap");
  QuantizeOptions options;
  options.weights = Code::kW8;
  quantize(*LapReader::open(base()), packed, options, Events{});
  const std::string message = refusal(packed, trained());
  EXPECT_NE(message.find("master"), std::string::npos) << message;
}

TEST_F(Merge, AnAdapterForAnotherArchitectureIsRefused) {
  const std::string other = folder_.file("other.lap");
  convert(*HfSource::open(data_path("tiny-qwen3")), other, Events{});
  refusal(other, trained());
}

}  // namespace
}  // namespace lapidary
