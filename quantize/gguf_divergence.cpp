// A source whose rows went through blocks, copied into a scratch model.
#include "quantize/gguf_divergence.h"

#include <vector>

#include "formats/file.h"
#include "formats/float_codes.h"
#include "formats/ggml_blocks.h"
#include "formats/lap_copy.h"
#include "kernels/ggml_encode.h"
#include "kernels/thread_pool.h"
#include "quantize/ggml_rounder.h"
#include "quantize/gguf_rounding.h"
#include "quantize/scratch_model.h"

namespace lapidary {
namespace {

// The source, with the values of blocks where `types` has some: those of `rounding`, or its own.
class ThroughBlocks : public ModelSource {
 public:
  ThroughBlocks(const ModelSource& source, const std::map<std::string, GgmlType>& types,
                const GgufRounding& rounding, int n_threads)
      : source_(source), types_(types), pool_(n_threads) {
    for (const auto& [name, path] : rounding.files) files_.emplace(name, ReadFile(path));
  }

  const ModelMetadata& metadata() const override { return source_.metadata(); }
  std::string tokenizer_json() const override { return source_.tokenizer_json(); }
  const std::vector<SourceTensor>& tensors() const override { return source_.tensors(); }
  std::string content_hash() const override { return {}; }
  std::string describe() const override { return source_.describe(); }

  void read_rows(size_t index, int64_t first, int64_t count, std::span<float> out) const override {
    const SourceTensor& t = tensors()[index];
    const auto type = types_.find(t.name);
    const bool in_blocks = type != types_.end() && is_block_type(type->second);
    const auto file = files_.find(t.name);
    if (!in_blocks || file == files_.end()) source_.read_rows(index, first, count, out);
    if (!in_blocks) return;
    const auto width = static_cast<size_t>(t.k());
    const auto row_bytes = static_cast<size_t>(block_bytes(type->second, t.k()));
    std::vector<uint8_t> blocks(static_cast<size_t>(count) * row_bytes);
    if (file != files_.end())
      file->second.read_at(static_cast<uint64_t>(first) * row_bytes, blocks);
    pool_.run(count, [&](int64_t row) {
      const auto values = out.subspan(static_cast<size_t>(row) * width, width);
      const auto its = std::span(blocks).subspan(static_cast<size_t>(row) * row_bytes, row_bytes);
      if (file == files_.end()) encode_blocks(type->second, values, its);
      decode_blocks(type->second, its, values);
    });
  }

  void read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const override {
    const SourceTensor& t = tensors()[index];
    std::vector<float> values(static_cast<size_t>(count * t.k()));
    read_rows(index, first, count, values);
    encode_floats(t.code, values, out);
  }

 private:
  const ModelSource& source_;
  const std::map<std::string, GgmlType>& types_;
  std::map<std::string, ReadFile> files_;
  mutable ThreadPool pool_;
};

}  // namespace

double measure_gguf_types(const ModelSource& source, const std::map<std::string, GgmlType>& types,
                          const std::optional<CalibrationOptions>& calibration,
                          const ProbeOptions& probe, int n_threads, const Events& events) {
  ScratchModel scratch(probe.scratch);
  const auto write = [&](const GgufRounding& rounding) {
    copy_to_lap(ThroughBlocks(source, types, rounding, n_threads), scratch.path(),
                source.metadata(), {}, /*is_source=*/false, events);
  };
  if (!calibration) {
    write({});
  } else {
    round_for_gguf(source, scratch.path(), types, calibration->for_scratch(), n_threads, events,
                   write);
  }
  return measure_file(scratch.path(), probe, n_threads, events);
}

}  // namespace lapidary
