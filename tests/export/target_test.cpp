// Files made for another runtime: whatever quantize decided is what that runtime's file holds,
// tensor by tensor and value by value.
#include "quantize/target.h"

#include <gtest/gtest.h>

#include "convert/gguf_source.h"
#include "export/compressed_tensors.h"
#include "export/gguf_export.h"
#include "export/hf_export.h"
#include "export/mlx_export.h"
#include "formats/dtype.h"
#include "formats/ggml_blocks.h"
#include "quantize/budget.h"
#include "quantize/gguf_rounding.h"
#include "quantize/gguf_types.h"
#include "quantize/tensor_costs.h"
#include "tests/export/made_models.h"

namespace lapidary {
namespace {

const char* const kFixtures[] = {"nano-e", "tiny-gemma3", "tiny-llama3", "tiny-qwen3"};
constexpr Target kTargets[] = {Target::kLlamaCpp, Target::kVllm, Target::kMlx};

std::vector<float> as_bf16(std::vector<float> values) {
  for (float& v : values) v = bf16_to_float(float_to_bf16(v));
  return values;
}

class MadeFor : public ::testing::Test {
 protected:
  std::unique_ptr<LapReader> quantized_for(const std::string& fixture, Target target, Code code,
                                           bool calibrated = false) {
    QuantizeOptions options;
    options.weights = code;
    options.target = target;
    options.n_threads = 2;
    if (calibrated) {
      options.calibration.emplace();
      options.calibration->max_tokens = 600;
      options.calibration->context = 200;
    }
    report_ = quantize(*HfSource::open(data_path(fixture)), folder_.file("q.lap"), options, {});
    return LapReader::open(folder_.file("q.lap"));
  }

  // Names of tensors that export rounded.
  std::string rounded(const LapReader& model, Target target) {
    std::string names;
    const auto add = [&](const auto& report) {
      for (const auto& t : report.tensors)
        if (!t.exact) names += " " + t.name;
    };
    CompressedTensorsOptions ct;
    MlxOptions mlx;
    for (FolderOptions* folder : {&ct.folder, &mlx.folder}) *folder = {1u << 30, true, 2};
    if (target == Target::kLlamaCpp)
      add(export_gguf(model, folder_.file("q.gguf"), {.type = {}, .n_threads = 2}, {}));
    else if (target == Target::kVllm)
      add(export_compressed_tensors(model, folder_.file("ct"), ct, {}));
    else
      add(export_mlx(model, folder_.file("mlx"), mlx, {}));
    return names;
  }

  TemporaryFolder folder_;
  QuantizeReport report_;
};

TEST_F(MadeFor, ExportRoundsNothingAgain) {
  for (const Target target : kTargets)
    for (const Code code : {Code::kW4, Code::kW8})
      for (const char* fixture : kFixtures) {
        const auto model = quantized_for(fixture, target, code);
        int n_packed = 0;
        for (const LapTensor& t : model->index()) n_packed += !traits(t.code).is_float;
        EXPECT_GT(n_packed, 10) << fixture;
        EXPECT_EQ(rounded(*model, target), "") << target_name(target) << " " << fixture;
      }
}

// Out to GGUF and back: the values of every tensor, calibrated ones included.
TEST_F(MadeFor, CalibratedWeightsAreTheGgufFilesWeights) {
  for (const char* fixture : {"nano-e", "tiny-llama3"}) {
    const auto model = quantized_for(fixture, Target::kLlamaCpp, Code::kW4, true);
    int n_calibrated = 0;
    for (const TensorReport& t : report_.tensors) n_calibrated += t.output_error.has_value();
    EXPECT_GT(n_calibrated, 10);
    EXPECT_EQ(rounded(*model, Target::kLlamaCpp), "");
    const auto back = GgufSource::open(folder_.file("q.gguf"));
    for (size_t i = 0; i < back->tensors().size(); ++i) {
      const SourceTensor& t = back->tensors()[i];
      std::vector<float> there(static_cast<size_t>(t.elements()));
      back->read_rows(i, 0, t.rows(), there);
      EXPECT_EQ(there, values(*model, t.name)) << fixture << " " << t.name;
    }
  }
}

// What was measured under a limit is what the file, written and read back, loses.
TEST_F(MadeFor, AGgufFileWithinALimitLosesWhatWasMeasured) {
  const auto model = converted(data_path("nano-e"), folder_);
  const std::string path = folder_.file("m.lap");
  for (const bool calibrated : {false, true}) {
    GgufTypeOptions how;
    how.max_kld = 0.1;
    how.n_tokens = 256;
    how.scratch = folder_.file("scratch");
    how.n_threads = 2;
    how.keep = {{"*.o_proj.weight", GgmlType::kQ4_0}};
    if (calibrated) {
      how.calibration.emplace();
      how.calibration->max_tokens = 600;
      how.calibration->context = 200;
    }
    const GgufTypes chosen = choose_gguf_types(*model, path, how, {});
    ASSERT_TRUE(chosen.measured_kld);
    EXPECT_LE(*chosen.measured_kld, 0.1);
    EXPECT_GT(*chosen.measured_kld, 0.05);
    EXPECT_EQ(chosen.types.at("model.layers.1.self_attn.o_proj.weight"), GgmlType::kQ4_0);

    GgufExportOptions options;
    options.types = chosen.types;
    const auto write = [&](const GgufRounding& rounding) {
      options.rounded = rounding.files;
      export_gguf(*model, folder_.file("b.gguf"), options, {});
    };
    if (calibrated)
      round_for_gguf(*model, folder_.file("b.gguf"), options.types, *how.calibration, 2, {}, write);
    else
      write({});
    convert(*GgufSource::open(folder_.file("b.gguf")), folder_.file("b.lap"), {});
    ProbeOptions probe;
    probe.base = path;
    probe.tokens = budget_tokens(path, "");
    probe.n_tokens = how.n_tokens;
    // Q8_0 comes back exactly, where the measurement had it in bf16; another path, other sums.
    EXPECT_NEAR(measure_file(folder_.file("b.lap"), probe, 2, {}), *chosen.measured_kld,
                0.01 * *chosen.measured_kld);
  }
}

// Blocks rounded with feedback stand in the file row by row, interleaved heads of q and k included.
TEST_F(MadeFor, BlocksRoundedForGgufArriveAsTheyAre) {
  for (const char* fixture : {"tiny-llama3", "nano-e", "tiny-moe"}) {
    const auto model = converted(data_path(fixture), folder_);
    GgufTypeOptions how;
    how.weights = GgmlType::kIQ4_NL;
    how.keep = {{"*.o_proj.weight", GgmlType::kQ5_0}};
    GgufExportOptions options;
    options.types = choose_gguf_types(*model, folder_.file("m.lap"), how, {}).types;
    CalibrationOptions calibration;
    calibration.max_tokens = 300;
    calibration.context = 100;
    std::map<std::string, std::vector<float>> expected;
    round_for_gguf(*model, folder_.file("b.gguf"), options.types, calibration, 2, {},
                   [&](const GgufRounding& rounding) {
                     options.rounded = rounding.files;
                     for (const auto& [name, path] : rounding.files) {
                       const ReadFile file(path);
                       std::vector<uint8_t> blocks(file.size_bytes());
                       file.read_at(0, blocks);
                       const GgmlTraits& t = traits(options.types.at(name));
                       expected[name].resize(blocks.size() / static_cast<size_t>(t.block_bytes) *
                                             static_cast<size_t>(t.block_values));
                       decode_blocks(t.type, blocks, expected[name]);
                     }
                     export_gguf(*model, folder_.file("b.gguf"), options, {});
                   });
    EXPECT_GT(expected.size(), 5u) << fixture;
    const auto back = GgufSource::open(folder_.file("b.gguf"));
    size_t n_seen = 0;
    for (size_t i = 0; i < back->tensors().size(); ++i) {
      const SourceTensor& t = back->tensors()[i];
      const auto found = expected.find(t.name);
      if (found == expected.end()) continue;
      std::vector<float> there(static_cast<size_t>(t.elements()));
      back->read_rows(i, 0, t.rows(), there);
      EXPECT_EQ(there, found->second) << fixture << " " << t.name;
      ++n_seen;
    }
    EXPECT_EQ(n_seen, expected.size());
  }
}

// Feedback would move integers that were trained; a master on the lattice has nothing to round.
TEST_F(MadeFor, LatticesStayWhatTheyAreUnderCalibration) {
  const auto first = quantized_for("nano-e", Target::kLlamaCpp, Code::kW4);
  HfExportOptions hf;
  hf.folder.overwrite = true;
  export_hf(*first, folder_.file("hf"), hf, {});
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const std::vector<float> before = as_bf16(values(*first, name));
  QuantizeOptions options;
  options.target = Target::kLlamaCpp;
  options.allow_requantize = true;
  options.calibration.emplace();
  options.calibration->max_tokens = 600;
  quantize(*HfSource::open(folder_.file("hf")), folder_.file("again.lap"), options, {});
  // Neighbouring scales may have the same bf16 products.
  EXPECT_EQ(as_bf16(values(*LapReader::open(folder_.file("again.lap")), name)), before);
}

TEST_F(MadeFor, CodesThatNobodyElseHoldsAreRefused) {
  for (const Target target : kTargets)
    for (const Code code : {Code::kT4, Code::kW3, Code::kW5, Code::kW6}) {
      EXPECT_EQ(held_code(Target::kLapidary, code), code);
      EXPECT_THROW(held_code(target, code), Error);
    }
  EXPECT_EQ(parse_target("vllm"), Target::kVllm);
  EXPECT_FALSE(parse_target("lapidary"));
}

}  // namespace
}  // namespace lapidary
