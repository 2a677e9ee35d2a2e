// Names and types decided at open, rows read on demand from the mapped file.
#include "convert/gguf_source.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "convert/gguf_config.h"
#include "convert/gguf_tokenizer.h"
#include "formats/dtype.h"
#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/ggml_blocks.h"
#include "formats/gguf_names.h"
#include "formats/json_guard.h"
#include "formats/lap_copy.h"
#include "formats/provenance.h"

namespace lapidary {
namespace {

constexpr int64_t kLatticeK = 32;

bool fits_bf16(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float v) { return bf16_to_float(float_to_bf16(v)) == v; });
}

class GgufFile final : public GgufSource {
 public:
  explicit GgufFile(const std::string& path) : path_(path), file_(path) {
    with_context(path, [&] {
      GgufConfig read = read_gguf_config(file_);
      metadata_ = gguf_model_metadata(file_, std::move(read.config));
      map_tensors(read.family->expected_tensors(metadata_.config));
    });
    write_provenance();
  }

  const ModelMetadata& metadata() const override { return metadata_; }
  std::string tokenizer_json() const override {
    return with_context(path_, [&] { return gguf_tokenizer_json(file_); });
  }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  std::string content_hash() const override { return {}; }
  std::string describe() const override { return path_; }

  void read_rows(size_t index, int64_t first, int64_t count, std::span<float> out) const override {
    const Place& place = places_[index];
    const size_t k = static_cast<size_t>(tensors_[index].k());
    for (int64_t row = 0; row < count; ++row)
      decode(index, first + row, out.subspan(static_cast<size_t>(row) * k, k));
    if (place.gguf.add_one)
      for (float& v : out) v -= 1.0f;
    if (!std::all_of(out.begin(), out.end(), [](float v) { return std::isfinite(v); }))
      fail(ErrorCode::kBadData, "{}: tensor {} holds NaN or infinity in rows {} to {}", path_,
           place.gguf.name, first, first + count - 1);
    forget(index, first, count);
  }

  void read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const override {
    const SourceTensor& t = tensors_[index];
    std::vector<float> values(static_cast<size_t>(count * t.k()));
    LAPIDARY_CHECK(out.size() == values.size() * static_cast<size_t>(traits(t.code).bits) / 8);
    read_rows(index, first, count, values);
    encode_floats(t.code, values, out);  // the same bits where the type is the same
  }

  void read_integers(size_t index, int64_t first, int64_t count, std::span<uint8_t> indices,
                     std::span<uint16_t> scales) const override {
    const GgufTensor& t = file_.tensor(places_[index].tensor);
    const GgmlTraits& type = traits(t.type);
    size_t block = 0;
    for (int64_t row = 0; row < count; ++row) {
      const std::span<const uint8_t> bytes = row_bytes(index, first + row);
      for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(type.block_bytes), ++block) {
        const uint8_t* b = bytes.data() + at;
        scales[block] = static_cast<uint16_t>(b[0] | b[1] << 8);
        if (!std::isfinite(f16_to_float(scales[block])))
          fail(ErrorCode::kBadData, "{}: tensor {} has a scale that is not finite in row {}", path_,
               t.name, first + row);
        uint8_t* q = indices.data() + block * kLatticeK;
        for (size_t i = 0; i < kLatticeK; ++i)
          q[i] = t.type == GgmlType::kQ8_0 ? static_cast<uint8_t>(b[2 + i] + 128)
                                           : b[2 + i % 16] >> (i < 16 ? 0 : 4) & 15;
      }
    }
    forget(index, first, count);
  }

 private:
  struct Place {
    size_t tensor;  // of file_
    GgufPlace gguf;
  };

  void map_tensors(const ExpectedTensors& expected) {
    std::map<std::string, std::pair<std::string, GgufPlace>> wanted;
    for (const auto& [name, shape] : expected.shapes) {
      GgufPlace place = gguf_place(metadata_.config, name);
      wanted.emplace(place.name, std::pair(name, place));
    }
    std::set<std::string> unused{"rope_freqs.weight"};
    for (const auto& [name, group] : expected.unused)
      if (group.starts_with("K and V")) unused.insert(gguf_place(metadata_.config, name).name);
    for (size_t i = 0; i < file_.size(); ++i) {
      const GgufTensor& t = file_.tensor(i);
      const auto found = wanted.find(t.name);
      if (found == wanted.end()) {
        if (unused.contains(t.name)) continue;
        fail(ErrorCode::kBadData, "tensor {} has no place in a {} model", excerpt(t.name),
             metadata_.config.family);
      }
      const auto& [name, place] = found->second;
      const std::vector<int64_t>& shape = expected.shapes.at(name);
      if (t.shape != shape)
        fail(ErrorCode::kBadData, "tensor {} has shape [{}], expected [{}]", t.name,
             fmt::join(t.shape, ", "), fmt::join(shape, ", "));
      places_.push_back({i, place});
      tensors_.push_back({name, shape, Code::kBF16});
      tensors_.back().code = code_of(places_.size() - 1);
    }
    for (const auto& [name, place] : wanted)
      if (find_tensor(file_, name) < 0)
        fail(ErrorCode::kBadData, "tensor {} is missing; is this a whole model?", name);
  }

  Code code_of(size_t index) {
    const SourceTensor& t = tensors_[index];
    const GgufTensor& stored = file_.tensor(places_[index].tensor);
    switch (stored.type) {
      case GgmlType::kBF16:
        return Code::kBF16;
      case GgmlType::kF16:
        return Code::kF16;
      case GgmlType::kF32:
        return !places_[index].gguf.matrix && is_bf16(index) ? Code::kBF16 : Code::kF32;
      case GgmlType::kQ8_0:
      case GgmlType::kQ4_0:
        if (can_be_lattice(t)) {
          ++kept_[std::string(traits(stored.type).name)];
          return stored.type == GgmlType::kQ8_0 ? Code::kW8x : Code::kW4x;
        }
        [[fallthrough]];
      default:
        ++dequantized_[std::string(traits(stored.type).name)];
        return Code::kBF16;
    }
  }

  bool can_be_lattice(const SourceTensor& t) const {
    const int64_t group = t.name == kPleTensor ? metadata_.config.ple_width : t.k();
    return t.shape.size() > 1 && group % kLatticeK == 0 &&
           (t.name == kPleTensor || t.k() >= 64);  // narrower matrices stay floats
  }

  bool is_bf16(size_t index) const {
    std::vector<float> values(static_cast<size_t>(tensors_[index].elements()));
    read_rows(index, 0, tensors_[index].rows(), values);
    return fits_bf16(values);
  }

  std::span<const uint8_t> row_bytes(size_t index, int64_t row) const {
    return file_.rows(places_[index].tensor, gguf_row(places_[index].gguf, row), 1);
  }
  void decode(size_t index, int64_t row, std::span<float> out) const {
    decode_blocks(file_.tensor(places_[index].tensor).type, row_bytes(index, row), out);
  }
  // Interleaved rows of a chunk lie in the same heads, so about the same bytes are forgotten.
  void forget(size_t index, int64_t first, int64_t count) const {
    file_.release(places_[index].tensor, first, count);
  }

  void write_provenance() {
    Provenance provenance;
    provenance.source_kind = "gguf";
    provenance.source_name = std::filesystem::path(path_).filename().string();
    for (const auto& [type, n] : kept_)
      provenance.lossy_steps.push_back(
          fmt::format("source: {} tensors quantized to {}, kept exactly", n, type));
    for (const auto& [type, n] : dequantized_)
      provenance.lossy_steps.push_back(
          fmt::format("source: {} tensors quantized to {}, dequantized to bf16", n, type));
    metadata_.provenance = to_json(provenance);
  }

  std::string path_;
  GgufSet file_;
  ModelMetadata metadata_;
  std::vector<SourceTensor> tensors_;
  std::vector<Place> places_;                      // like tensors_
  std::map<std::string, int> kept_, dequantized_;  // tensors by type
};

}  // namespace

std::unique_ptr<GgufSource> GgufSource::open(const std::string& path) {
  return std::make_unique<GgufFile>(path);
}

}  // namespace lapidary
