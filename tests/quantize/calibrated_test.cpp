// Whole calibrated files: better outputs than plain rounding at the same size, the same bytes
// whatever the threads and interruptions, and what stops a run.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>

#include "formats/file.h"
#include "formats/provenance.h"
#include "quantize/quantize.h"
#include "quantize/tensor_costs.h"
#include "runtime/verify/text_measure.h"
#include "tests/runtime/fixtures.h"

namespace lapidary {
namespace {

QuantizeOptions calibrated(Code code, int64_t max_tokens = 2000) {
  QuantizeOptions options;
  options.weights = code;
  options.n_threads = 2;
  options.calibration.emplace();
  options.calibration->text_name = "builtin";
  options.calibration->max_tokens = max_tokens;
  options.calibration->context = 300;
  return options;
}

std::string hash_of(const std::string& path) { return LapReader::open(path)->content_hash(); }

// Mean squared difference of logits on a text that calibration has not seen.
double logit_error(const std::shared_ptr<const Model>& a, const std::string& b) {
  EngineOptions options{.n_threads = 2, .max_batch_tokens = 256, .max_logits = 256};
  options.activations = ActivationType::k16Bit;
  std::vector<int32_t> ids = a->tokenizer().encode(read_text(data_path("own.txt")));
  ids.resize(256);
  Engine exact(a, options), other(Model::load(b), options);
  const std::vector<float> x = logits_of(exact, ids, KvOptions(KvCode::kF32));
  const std::vector<float> y = logits_of(other, ids, KvOptions(KvCode::kF32));
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  return sum / static_cast<double>(x.size());
}

TEST(Calibrated, LosesLessThanPlainRoundingAtTheSameSize) {
  TemporaryFolder folder;
  const auto source = HfSource::open(data_path("nano-e"));
  QuantizeOptions plain = calibrated(Code::kW4);
  plain.calibration.reset();
  quantize(*source, folder.file("plain"), plain, {});
  const QuantizeReport report =
      quantize(*source, folder.file("fed"), calibrated(Code::kW4, 6000), {});
  EXPECT_EQ(LapReader::open(folder.file("plain"))->bits_per_weight(), report.bits_per_weight);
  const auto exact = converted_model("nano-e");
  EXPECT_LT(logit_error(exact, folder.file("fed")), 0.8 * logit_error(exact, folder.file("plain")));
  int n_calibrated = 0;
  for (const TensorReport& t : report.tensors) {
    if (!t.output_error) continue;
    ++n_calibrated;
    EXPECT_GT(*t.output_error, 0) << t.name;
    EXPECT_LT(*t.output_error, t.relative_error) << t.name;
  }
  // Every packed matrix but the table of per-layer embeddings.
  int n_panels = 0;
  for (const LapTensor& t : LapReader::open(folder.file("fed"))->index())
    n_panels += t.layout == Layout::kPanels;
  EXPECT_EQ(n_calibrated, n_panels);
  const Provenance provenance =
      provenance_from_json(LapReader::open(folder.file("fed"))->metadata().provenance);
  EXPECT_NE(provenance.lossy_steps.back().find("calibrated on 6000 tokens of builtin"),
            std::string::npos);
  EXPECT_EQ(provenance.source_hash, hash_of(converted_path("nano-e")));
}

TEST(Calibrated, WritesTheSameBytesAtAnyNumberOfThreads) {
  TemporaryFolder folder;
  for (const char* name : {"nano-e", "small-moe"}) {
    if (checkpoint_folder(name).empty()) continue;
    const auto source = HfSource::open(checkpoint_folder(name));
    QuantizeOptions options = calibrated(Code::kW3, 700);
    for (const int n : {1, 2}) {
      options.n_threads = n;
      quantize(*source, folder.file(std::to_string(n)), options, {});
    }
    EXPECT_EQ(hash_of(folder.file("1")), hash_of(folder.file("2"))) << name;
    std::filesystem::remove(folder.file("1"));
    std::filesystem::remove(folder.file("2"));
  }
}

// Stops a run after a number of calls.
Events stopping_after(int n_calls, std::atomic<bool>& stop) {
  Events events;
  events.cancelled = &stop;
  events.on_progress = [&stop, n_calls, n = 0](const Progress&) mutable {
    if (++n == n_calls) stop = true;
  };
  return events;
}

TEST(Calibrated, WhatIsOnlyMeasuredLeavesNothingWhenItIsInterrupted) {
  TemporaryFolder folder;
  ProbeOptions probe;
  probe.base = converted_path("nano-e");
  probe.scratch = folder.file("q");
  std::atomic<bool> stop = false;
  // Among the later layers, where a file that is wanted would be kept to be resumed.
  EXPECT_THROW(measure_choice(*LapReader::open(probe.base), calibrated(Code::kW4), probe,
                              stopping_after(90, stop)),
               Error);
  EXPECT_TRUE(stop);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Calibrated, GoesOnAfterAnInterruptionWithTheSameBytes) {
  TemporaryFolder folder;
  const auto source = HfSource::open(data_path("nano-e"));
  const QuantizeOptions options = calibrated(Code::kW4);
  quantize(*source, folder.file("whole"), options, {});
  const std::string out = folder.file("out");
  QuantizeOptions resumed = options;
  resumed.calibration->resume = true;
  // Within an early layer, and among the later ones that share K and V.
  for (const int n_calls : {20, 90}) {
    std::atomic<bool> stop = false;
    const Events events = stopping_after(n_calls, stop);
    try {
      quantize(*source, out, n_calls == 20 ? options : resumed, events);
      FAIL() << "not interrupted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
      EXPECT_NE(std::string(error.what()).find("--resume"), std::string::npos) << error.what();
    }
    EXPECT_FALSE(path_exists(out));
    EXPECT_TRUE(path_exists(out + ".partial/state.json"));
  }
  EXPECT_THROW(quantize(*source, out, options, {}), Error);  // does not say --resume
  QuantizeOptions other = resumed;
  other.calibration->max_tokens = 1999;
  try {
    quantize(*source, out, other, {});
    FAIL() << "took another run's state";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
  }
  EXPECT_TRUE(path_exists(out + ".partial/state.json"));
  quantize(*source, out, resumed, {});
  EXPECT_EQ(hash_of(out), hash_of(folder.file("whole")));
  EXPECT_FALSE(path_exists(out + ".partial"));
}

TEST(Calibrated, StopsWithOneLineAndLeavesNothing) {
  TemporaryFolder folder;
  const auto source = HfSource::open(data_path("nano-e"));
  const std::string out = folder.file("out");
  const auto code_of = [&](const QuantizeOptions& options) {
    try {
      quantize(*source, out, options, {});
      return ErrorCode::kInternal;
    } catch (const Error& error) {
      return error.code();
    }
  };
  QuantizeOptions options = calibrated(Code::kW4);
  options.calibration->memory_bytes = 10 << 20;
  EXPECT_EQ(code_of(options), ErrorCode::kOutOfMemory);
  options = calibrated(Code::kW4);
  options.calibration->context = 1;
  EXPECT_EQ(code_of(options), ErrorCode::kUsage);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Calibrated, TakesATextShorterThanAWindow) {
  TemporaryFolder folder;
  const auto source = HfSource::open(data_path("nano-e"));
  QuantizeOptions options = calibrated(Code::kW6);
  options.calibration->text = "One short line of text.";
  const QuantizeReport report = quantize(*source, folder.file("out"), options, {});
  EXPECT_GT(report.file_bytes, 0u);
}

// 32 experts and a few dozen tokens: some experts see none.
TEST(Calibrated, RoundsExpertsThatNoTokenReached) {
  const std::string checkpoint = checkpoint_folder("small-moe");
  LAPIDARY_SKIP_WITHOUT(checkpoint);
  TemporaryFolder folder;
  const auto source = HfSource::open(checkpoint);
  const QuantizeReport report =
      quantize(*source, folder.file("out"), calibrated(Code::kW4, 12), {});
  for (const TensorReport& t : report.tensors)
    if (t.name.find("experts.down_proj") != std::string::npos) {
      ASSERT_TRUE(t.output_error.has_value());
      EXPECT_LT(t.relative_error, 0.03);  // plain rounding leaves 0.007; nothing went astray
    }
}

TEST(Calibrated, PlansAtLeastWhatItTakes) {
  const auto source = HfSource::open(data_path("nano-e"));
  const QuantizeReport report = plan(*source, calibrated(Code::kW4));
  uint64_t sum = 0;
  for (const MemoryPart& part : report.memory.parts) sum += part.bytes;
  EXPECT_EQ(sum, report.memory.bytes);
  EXPECT_GT(sum, uint64_t{2000} * 192 * 4);
}

}  // namespace
}  // namespace lapidary
