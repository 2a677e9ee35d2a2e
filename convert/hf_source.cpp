// HfSource: the description checked at open, the weights read on demand with pread.
#include "convert/hf_source.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "convert/companions.h"
#include "convert/license.h"
#include "convert/tensor_map.h"
#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/provenance.h"
#include "formats/safetensors.h"
#include "formats/token_ordering.h"

namespace lapidary {
namespace {

constexpr uint64_t kLargestConfig = uint64_t{8} << 20;
constexpr size_t kCompareBytes = size_t{4} << 20;

class HfFolder final : public HfSource {
 public:
  HfFolder(const std::string& folder, const std::string& config_file) : folder_(folder) {
    if (!path_exists(folder)) fail(ErrorCode::kNotFound, "'{}': no such folder", folder);
    if (!is_folder(folder))
      fail(ErrorCode::kUsage, "{}: not a folder; give the folder with config.json and its weights",
           folder);
    const std::string config = read_text(folder + "/" + config_file, kLargestConfig);
    weights_ = SafetensorsSet::open_folder(folder);
    with_context(folder, [&] { describe_model(config, config_file); });
  }

  const ModelMetadata& metadata() const override { return metadata_; }
  std::string tokenizer_json() const override { return tokenizer_json_; }
  const std::vector<SourceTensor>& tensors() const override { return mapped_.tensors; }
  const std::vector<std::string>& skipped() const override { return mapped_.skipped; }
  std::string content_hash() const override { return {}; }
  std::string describe() const override { return folder_; }

  void read_raw(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const override {
    const SourceTensor& t = mapped_.tensors[index];
    const int64_t row_bytes = t.k() * traits(t.code).bits / 8;
    LAPIDARY_CHECK(out.size() == static_cast<size_t>(count * row_bytes));
    if (is_integer(entry(index).dtype)) {
      const std::vector<float> values = token_ordering(entry(index));
      std::memcpy(out.data(), values.data() + first * t.k(), out.size());
      return;
    }
    weights_.read(entry(index), static_cast<uint64_t>(first * row_bytes), out);
    if (has_nonfinite(t.code, out))
      fail(ErrorCode::kBadData, "{}: tensor {} holds NaN or infinity in rows {} to {}", folder_,
           t.name, first, first + count - 1);
  }

  void read_rows(size_t index, int64_t first, int64_t count, std::span<float> out) const override {
    const SourceTensor& t = mapped_.tensors[index];
    std::vector<uint8_t> raw(out.size() * static_cast<size_t>(traits(t.code).bits) / 8);
    read_raw(index, first, count, raw);
    decode_floats(t.code, raw, out);
  }

 private:
  // Everything but the weights' values: checked here, once, before anything is written.
  void describe_model(const std::string& config, const std::string& config_file) {
    HfConfig read = read_hf_config(config, config_file);
    metadata_.config = std::move(read.config);
    tokenizer_json_ = read_companions(folder_, &metadata_);
    validate(metadata_.config);
    mapped_ = map_tensors(weights_.entries(), read.family->expected_tensors(metadata_.config),
                          metadata_.config.tied_head);
    check_duplicated_head();

    Provenance provenance;
    provenance.source_kind = "huggingface";
    provenance.source_name = base_name();
    provenance.skipped = mapped_.skipped;
    provenance.license = read_license(folder_ + "/README.md");
    metadata_.provenance = to_json(provenance);
    metadata_.recipe = "{}";
  }

  static bool is_integer(DType dtype) { return dtype == DType::kI64 || dtype == DType::kI32; }

  // The one tensor of whole numbers that any model has.
  std::vector<float> token_ordering(const SafetensorsEntry& entry) const {
    const std::vector<int32_t> ids = weights_.read_ints(entry);
    std::vector<float> values(ids.begin(), ids.end());
    with_context(folder_ + ": tensor " + entry.name,
                 [&] { return token_ordering_from(values, metadata_.config.vocab_size); });
    return values;
  }

  const SafetensorsEntry& entry(size_t index) const {
    return weights_.entries()[mapped_.entries[index]];
  }

  // The folder's own name, also for "models/x/" and ".".
  std::string base_name() const {
    const auto path = std::filesystem::absolute(folder_).lexically_normal();
    return (path.has_filename() ? path : path.parent_path()).filename().string();
  }

  // transformers ignores a stored head when it is tied, so a different one shows a broken file.
  void check_duplicated_head() const {
    if (mapped_.duplicated_head < 0) return;
    const SafetensorsEntry& head = weights_.entries()[mapped_.duplicated_head];
    const auto at = std::find_if(mapped_.tensors.begin(), mapped_.tensors.end(), [](const auto& t) {
      return t.name == "model.embed_tokens.weight";
    });
    const SafetensorsEntry& embedding = entry(at - mapped_.tensors.begin());
    bool same = head.shape == embedding.shape && head.dtype == embedding.dtype;
    std::vector<uint8_t> a(kCompareBytes), b(kCompareBytes);
    for (uint64_t first = 0; same && first < head.bytes; first += kCompareBytes) {
      const size_t n = std::min<uint64_t>(kCompareBytes, head.bytes - first);
      weights_.read(head, first, std::span(a).first(n));
      weights_.read(embedding, first, std::span(b).first(n));
      same = std::equal(a.begin(), a.begin() + n, b.begin());
    }
    if (!same)
      fail(ErrorCode::kBadData,
           "lm_head.weight differs from the embedding although config.json ties them; set "
           "tie_word_embeddings to false if the head is meant");
  }

  std::string folder_;
  SafetensorsSet weights_;
  ModelMetadata metadata_;
  std::string tokenizer_json_;
  MappedTensors mapped_;
};

}  // namespace

std::unique_ptr<HfSource> HfSource::open(const std::string& folder,
                                         const std::string& config_file) {
  return std::make_unique<HfFolder>(folder, config_file);
}

}  // namespace lapidary
