// Whole files: the plan's rules, the loss that is reported against the loss that is stored, and
// sameness over sources and thread counts.
#include "quantize/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/file.h"
#include "formats/provenance.h"
#include "tests/quantize/memory_source.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

constexpr Code kPackedCodes[] = {Code::kW8,  Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kW4x,
                                 Code::kW8x, Code::kT3, Code::kT4, Code::kT5, Code::kT6};

const TensorReport& tensor(const QuantizeReport& report, const std::string& name) {
  for (const TensorReport& t : report.tensors)
    if (t.name == name) return t;
  throw std::runtime_error("no tensor " + name);
}

// ||W - W'||^2 / ||W||^2 as a reader of the two sources sees it.
double read_loss(const ModelSource& a, const ModelSource& b, size_t index) {
  const SourceTensor& t = a.tensors()[index];
  EXPECT_EQ(t.name, b.tensors()[index].name);
  std::vector<float> x(static_cast<size_t>(t.elements())), y(x);
  a.read_rows(index, 0, t.rows(), x);
  b.read_rows(index, 0, t.rows(), y);
  double error = 0, energy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(double{x[i]} - y[i], 2);
    energy += double{x[i]} * x[i];
  }
  return energy > 0 ? error / energy : error;
}

QuantizeOptions with(Code code) {
  QuantizeOptions options;
  options.weights = code;
  options.n_threads = 2;
  return options;
}

TEST(Quantize, PlanGivesEveryTensorTheCodeOfTheRules) {
  const auto source = HfSource::open(data_path("nano-e"));
  const QuantizeReport report = plan(*source, with(Code::kW4));
  EXPECT_EQ(tensor(report, "model.embed_tokens.weight").code, Code::kW4);
  EXPECT_EQ(tensor(report, "model.embed_tokens_per_layer.weight").code, Code::kW4);
  EXPECT_EQ(tensor(report, "model.per_layer_model_projection.weight").code, Code::kW8);
  EXPECT_EQ(tensor(report, "model.layers.0.mlp.down_proj.weight").code, Code::kW4);
  EXPECT_EQ(tensor(report, "model.layers.0.per_layer_projection.weight").code, Code::kBF16);
  EXPECT_EQ(tensor(report, "model.layers.0.per_layer_input_gate.weight").code, Code::kW4);
  EXPECT_EQ(tensor(report, "model.norm.weight").code, Code::kBF16);
  EXPECT_EQ(tensor(report, "model.layers.0.layer_scalar").code, Code::kBF16);
}

TEST(Quantize, TheFirstMatchingPatternDecides) {
  const auto source = HfSource::open(data_path("nano-e"));
  QuantizeOptions options = with(Code::kW4);
  options.keep = {{"*.layers.0.mlp.*", Code::kW8},
                  {"*down_proj*", Code::kBF16},
                  {"*norm*", Code::kW3},
                  {"*per_layer_model_projection*", Code::kW5}};
  const QuantizeReport report = plan(*source, options);
  EXPECT_EQ(tensor(report, "model.layers.0.mlp.down_proj.weight").code, Code::kW8);
  EXPECT_EQ(tensor(report, "model.layers.1.mlp.down_proj.weight").code, Code::kBF16);
  EXPECT_EQ(tensor(report, "model.layers.1.mlp.up_proj.weight").code, Code::kW4);
  EXPECT_EQ(tensor(report, "model.norm.weight").code, Code::kBF16);  // vectors are never packed
  EXPECT_EQ(tensor(report, "model.per_layer_model_projection.weight").code, Code::kW5);
}

TEST(Quantize, OfThreeBitsAnEmbeddingThatIsTheHeadHasFour) {
  constexpr const char* kEmbedding = "model.embed_tokens.weight";
  const auto tied = HfSource::open(data_path("nano-e"));
  const auto untied = HfSource::open(data_path("tiny-llama3"));
  for (const auto& [code, finer] : {std::pair{Code::kT3, Code::kT4}, {Code::kW3, Code::kW4}}) {
    QuantizeOptions options = with(code);
    EXPECT_EQ(tensor(plan(*tied, options), kEmbedding).code, finer);
    EXPECT_EQ(tensor(plan(*tied, options), "model.layers.3.mlp.up_proj.weight").code, code);
    EXPECT_EQ(tensor(plan(*untied, options), kEmbedding).code, code);
    EXPECT_EQ(tensor(plan(*untied, options), "lm_head.weight").code, code);
    options.keep = {{kEmbedding, code}};
    EXPECT_EQ(tensor(plan(*tied, options), kEmbedding).code, code);
    options.keep.clear();
    options.finer_head = false;
    EXPECT_EQ(tensor(plan(*tied, options), kEmbedding).code, code);
  }
  for (const Code code : {Code::kT4, Code::kW4, Code::kW8})
    EXPECT_EQ(tensor(plan(*tied, with(code)), kEmbedding).code, code);
}

TEST(Quantize, PlannedSizesAreTheWrittenOnes) {
  const auto source = HfSource::open(data_path("nano-e"));
  TemporaryFolder out;
  const QuantizeReport planned = plan(*source, with(Code::kW4));
  const QuantizeReport done = quantize(*source, out.file("q.lap"), with(Code::kW4), Events{});
  const auto lap = LapReader::open(out.file("q.lap"));
  EXPECT_EQ(planned.bytes, done.bytes);
  EXPECT_EQ(planned.bits_per_weight, done.bits_per_weight);
  EXPECT_DOUBLE_EQ(done.bits_per_weight, lap->bits_per_weight());
  EXPECT_EQ(done.file_bytes, std::filesystem::file_size(out.file("q.lap")));
  EXPECT_EQ(done.content_hash, lap->content_hash());
  EXPECT_TRUE(lap->verify(Events{}).empty());
  for (size_t i = 0; i < lap->index().size(); ++i)
    EXPECT_EQ(lap->index()[i].bytes, planned.tensors[i].bytes) << planned.tensors[i].name;
}

TEST(Quantize, ReportedLossIsTheLossOfTheStoredFile) {
  for (const char* fixture : {"tiny-gemma4-omni", "tiny-llama3"}) {  // widths 64, 128, 352; PLE
    const auto source = HfSource::open(data_path(fixture));
    for (const Code code : kPackedCodes) {
      TemporaryFolder out;
      const QuantizeReport report = quantize(*source, out.file("q.lap"), with(code), Events{});
      const auto lap = LapReader::open(out.file("q.lap"));
      for (size_t i = 0; i < report.tensors.size(); ++i) {
        const TensorReport& t = report.tensors[i];
        const double read = read_loss(*source, *lap, i);
        // The rotation there and back rounds float32 values: 1e-6 of each, its square is nothing
        // beside the losses, but cross terms reach a thousandth of w8's.
        EXPECT_NEAR(t.relative_error, read, 2e-3 * read + 1e-12) << t.name;
        if (traits(t.code).is_float) {
          EXPECT_EQ(read, 0.0) << t.name;
        }
        EXPECT_EQ(t.code, lap->index()[i].code);
      }
    }
  }
}

// The measured losses of trained weights; windows as in rounding_test, wider for real tensors.
TEST(Quantize, TrainedWeightsLoseWhatTheCodeCosts) {
  const auto source = HfSource::open(data_path("nano-e"));
  const std::pair<Code, double> expected[] = {
      {Code::kW8, 5e-5},   {Code::kW6, 7.5e-4}, {Code::kW5, 2.2e-3}, {Code::kW4, 7.2e-3},
      {Code::kW3, 3.0e-2}, {Code::kT6, 4.0e-4}, {Code::kT4, 5.0e-3}, {Code::kT3, 1.9e-2}};
  for (const auto& [code, loss] : expected) {
    TemporaryFolder out;
    QuantizeOptions options = with(code);
    options.finer_head = false;
    const QuantizeReport report = quantize(*source, out.file("q.lap"), options, Events{});
    for (const char* name : {"model.embed_tokens.weight", "model.layers.3.mlp.up_proj.weight",
                             "model.layers.7.self_attn.q_proj.weight"}) {
      EXPECT_LT(tensor(report, name).relative_error, 1.3 * loss) << name << code_name(code);
      EXPECT_GT(tensor(report, name).relative_error, 0.6 * loss) << name << code_name(code);
    }
  }
}

TEST(Quantize, AFolderAndItsConvertedFileGiveTheSameWeights) {
  const auto source = HfSource::open(data_path("nano-e"));
  TemporaryFolder out;
  const ConvertReport converted = convert(*source, out.file("m.lap"), Events{});
  const auto master = LapReader::open(out.file("m.lap"));
  const auto a = quantize(*source, out.file("a.lap"), with(Code::kW4), Events{});
  const auto b = quantize(*master, out.file("b.lap"), with(Code::kW4), Events{});
  EXPECT_EQ(a.content_hash, b.content_hash);
  // Both remember the same master.
  for (const char* name : {"a.lap", "b.lap"}) {
    const auto lap = LapReader::open(out.file(name));
    const Provenance provenance = provenance_from_json(lap->metadata().provenance);
    EXPECT_EQ(provenance.source_hash, converted.content_hash) << name;
    EXPECT_EQ(provenance.lossy_steps.size(), 1u);
  }
}

TEST(Quantize, ThreadCountsDoNotChangeABit) {
  const auto source = HfSource::open(data_path("tiny-gemma4-omni"));
  TemporaryFolder out;
  for (const Code code : {Code::kW3, Code::kT4}) {
    QuantizeOptions options = with(code);
    std::string first;
    for (const int n_threads : {1, 2, 5}) {
      options.n_threads = n_threads;
      quantize(*source, out.file("q.lap"), options, Events{});
      const std::string bytes = read_text(out.file("q.lap"));
      if (first.empty()) first = bytes;
      EXPECT_EQ(bytes, first) << n_threads;
    }
  }
}

TEST(Quantize, APackedSourceIsRefusedUnlessAllowed) {
  const auto source = HfSource::open(data_path("tiny-qwen3"));
  TemporaryFolder out;
  quantize(*source, out.file("w8.lap"), with(Code::kW8), Events{});
  const auto packed = LapReader::open(out.file("w8.lap"));
  QuantizeOptions options = with(Code::kW4);
  try {
    quantize(*packed, out.file("w4.lap"), options, Events{});
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("--allow-requantize"), std::string::npos);
  }
  EXPECT_FALSE(path_exists(out.file("w4.lap")));
  options.allow_requantize = true;
  quantize(*packed, out.file("w4.lap"), options, Events{});
  const auto lap = LapReader::open(out.file("w4.lap"));
  EXPECT_EQ(provenance_from_json(lap->metadata().provenance).lossy_steps.size(), 2u);
}

// --- crafted sources: odd shapes, stacks, hostile values ---

TEST(Quantize, OddShapesAreStoredAndReadBack) {
  for (const Code code : kPackedCodes) {
    for (const bool rotate : {true, false}) {
      MemorySource source;
      for (const auto& [rows, k] : {std::pair{1, 64}, {5, 65}, {16, 352}, {17, 704}, {33, 1023}})
        source.add_random(fmt::format("model.m{}x{}.weight", rows, k), {rows, k});
      source.add_random("model.layers.0.experts.down_proj", {3, 20, 96});
      source.add_random("model.narrow.weight", {7, 63});
      TemporaryFolder out;
      QuantizeOptions options = with(code);
      options.rotate = rotate;
      const auto report = quantize(source, out.file("q.lap"), options, Events{});
      const auto lap = LapReader::open(out.file("q.lap"));
      for (size_t i = 0; i < report.tensors.size(); ++i) {
        const double read = read_loss(source, *lap, i);
        EXPECT_NEAR(report.tensors[i].relative_error, read, 2e-3 * read + 1e-12)
            << report.tensors[i].name << " " << code_name(code);
        EXPECT_LT(read, 0.05) << report.tensors[i].name << " " << code_name(code);
      }
      EXPECT_EQ(report.tensors.back().code, Code::kF32);  // narrower than 64: kept
    }
  }
}

TEST(Quantize, ZeroRowsCostNothing) {
  MemorySource source;
  source.add("model.zero.weight", {20, 128}, std::vector<float>(20 * 128));
  TemporaryFolder out;
  for (const Code code : kPackedCodes) {
    const auto report = quantize(source, out.file("q.lap"), with(code), Events{});
    EXPECT_EQ(report.tensors[0].relative_error, 0.0);
    EXPECT_EQ(read_loss(source, *LapReader::open(out.file("q.lap")), 0), 0.0);
  }
}

TEST(Quantize, WeightsTooLargeForTheScalesAreAnErrorThatNamesTheTensor) {
  MemorySource source;
  std::vector<float> values(64 * 64, 1.0f);
  values[100] = 1e30f;
  source.add("model.huge.weight", {64, 64}, values);
  TemporaryFolder out;
  try {
    quantize(source, out.file("q.lap"), with(Code::kW4), Events{});
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("model.huge.weight"), std::string::npos);
  }
  EXPECT_TRUE(std::filesystem::is_empty(out.path()));
}

TEST(Quantize, ALatticeMasterSurvivesW4xExactly) {
  MemorySource source;
  std::vector<float> values(16 * 256);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = 0.0078125f * static_cast<float>(static_cast<int>(i * 7 % 16) - 8);
  source.add("model.lattice.weight", {16, 256}, values);
  TemporaryFolder out;
  const auto report = quantize(source, out.file("q.lap"), with(Code::kW4x), Events{});
  EXPECT_EQ(report.tensors[0].relative_error, 0.0);
  EXPECT_EQ(read_loss(source, *LapReader::open(out.file("q.lap")), 0), 0.0);
}

}  // namespace
}  // namespace lapidary
