// The source itself: shapes from the family's own list of tensors, values from a counter.
#include "convert/synthetic.h"

#include <random>

#include "convert/family.h"
#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/provenance.h"

namespace lapidary {
namespace {

// Knuth's MMIX generator, of which only the upper bits are used.
using Generator =
    std::linear_congruential_engine<uint64_t, 6364136223846793005u, 1442695040888963407u, 0>;

class SyntheticSource final : public ModelSource {
 public:
  explicit SyntheticSource(const SyntheticModel& model) : name_("synthetic " + model.shape) {
    HfConfig read = read_hf_config(synthetic_config(model), name_);
    for (auto& [name, shape] : read.family->expected_tensors(read.config).shapes)
      tensors_.push_back({name, shape, Code::kBF16});
    metadata_.config = std::move(read.config);
    metadata_.generation_config = metadata_.recipe = "{}";
    tokenizer_json_ = synthetic_tokenizer(model.vocab_size);
    Provenance provenance;
    provenance.source_kind = "synthetic";
    provenance.source_name = model.shape;
    metadata_.provenance = to_json(provenance);
  }

  const ModelMetadata& metadata() const override { return metadata_; }
  std::string tokenizer_json() const override { return tokenizer_json_; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  std::string content_hash() const override { return {}; }
  std::string describe() const override { return name_; }

  // Norms and scalars are 1. Matrices are uniform with the given deviation; a row depends on its
  // number and its tensor only.
  void read_rows(size_t index, int64_t first, int64_t count, std::span<float> out) const override {
    const SourceTensor& t = tensors_[index];
    LAPIDARY_CHECK(static_cast<int64_t>(out.size()) == count * t.k());
    if (t.shape.size() == 1) return std::fill(out.begin(), out.end(), 1.0f);
    // 2^-31 maps the upper 32 bits to 0 .. 2, and sqrt(3) makes deviation 1 of -1 .. 1.
    constexpr float kScale = 0x1p-31f * 1.7320508f * kSyntheticDeviation;
    for (int64_t row = 0; row < count; ++row) {
      Generator next(hash_row(index, first + row));
      for (float& value : out.subspan(static_cast<size_t>(row * t.k()), static_cast<size_t>(t.k())))
        value = (static_cast<float>(next() >> 32) - 0x1p31f) * kScale;
    }
  }

  void read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const override {
    std::vector<float> values(static_cast<size_t>(count * tensors_[index].k()));
    read_rows(index, first, count, values);
    encode_floats(Code::kBF16, values, out);
  }

 private:
  static uint64_t hash_row(size_t index, int64_t row) {
    return (static_cast<uint64_t>(index) << 40 | static_cast<uint64_t>(row)) * 0x9E3779B97F4A7C15u;
  }

  std::string name_, tokenizer_json_;
  ModelMetadata metadata_;
  std::vector<SourceTensor> tensors_;
};

}  // namespace

std::unique_ptr<ModelSource> synthetic_source(const SyntheticModel& model) {
  return std::make_unique<SyntheticSource>(model);
}

}  // namespace lapidary
