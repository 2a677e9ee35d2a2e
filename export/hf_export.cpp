// Shards planned first, so that each header is written before its data; then tensor by tensor.
#include "export/hf_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "export/model_card.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/float_codes.h"
#include "formats/safetensors.h"
#include "kernels/thread_pool.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kBlockValues = int64_t{1} << 20;  // of one thread at a time

bool is_float(Code code) { return traits(code).is_float; }

DType stored_type(Code code) {
  switch (code) {
    case Code::kF32:
      return DType::kF32;
    case Code::kF16:
      return DType::kF16;
    default:
      return DType::kBF16;
  }
}

struct Shard {
  std::string file;
  std::vector<size_t> tensors;  // indices into the source's tensors
};

uint64_t exported_bytes(const SourceTensor& tensor) {
  return static_cast<uint64_t>(tensor.elements()) *
         static_cast<uint64_t>(dtype_bytes(stored_type(tensor.code)));
}

std::vector<Shard> plan_shards(const std::vector<SourceTensor>& tensors, uint64_t shard_bytes) {
  std::vector<Shard> shards;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t more = exported_bytes(tensors[i]);
    if (shards.empty() || (bytes + more > shard_bytes && !shards.back().tensors.empty())) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().tensors.push_back(i);
    bytes += more;
  }
  for (size_t s = 0; s < shards.size(); ++s)
    shards[s].file = shards.size() == 1
                         ? "model.safetensors"
                         : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
  return shards;
}

// One tensor's rows, block by block: all threads fill a batch, which is then appended in order.
class RowWriter {
 public:
  RowWriter(const LapReader& model, int n_threads) : model_(model), pool_(n_threads) {}

  void write(size_t index, SafetensorsWriter& out, const Events& events, Progress& progress) {
    const SourceTensor& tensor = model_.tensors()[index];
    progress.detail = tensor.name;
    const int64_t rows = tensor.rows(), k = tensor.k();
    const int64_t rows_per_block = std::max<int64_t>(1, kBlockValues / k);
    const int64_t value_bytes = dtype_bytes(stored_type(tensor.code));
    const int64_t batch_rows = rows_per_block * pool_.n_threads();
    for (int64_t first = 0; first < rows; first += batch_rows) {
      const int64_t n_rows = std::min(batch_rows, rows - first);
      bytes_.resize(static_cast<size_t>(n_rows * k * value_bytes));
      const int64_t n_blocks = (n_rows + rows_per_block - 1) / rows_per_block;
      errors_.assign(static_cast<size_t>(n_blocks), nullptr);
      pool_.run(n_blocks, [&](int64_t block) {
        const int64_t begin = block * rows_per_block;
        const int64_t count = std::min(rows_per_block, n_rows - begin);
        const auto out_bytes =
            std::span(bytes_).subspan(static_cast<size_t>(begin * k * value_bytes),
                                      static_cast<size_t>(count * k * value_bytes));
        try {
          read(index, first + begin, count, out_bytes);
        } catch (...) {
          errors_[static_cast<size_t>(block)] = std::current_exception();
        }
      });
      for (const std::exception_ptr& error : errors_)
        if (error) std::rethrow_exception(error);
      out.append(bytes_);
      progress.done += static_cast<uint64_t>(n_rows * k);
      progress.bytes_done += bytes_.size();
      events.progress(progress);
    }
  }

 private:
  void read(size_t index, int64_t first, int64_t count, std::span<uint8_t> out) const {
    const SourceTensor& tensor = model_.tensors()[index];
    if (is_float(tensor.code)) return model_.read_raw(index, first, count, out);
    std::vector<float> values(static_cast<size_t>(count * tensor.k()));
    model_.read_rows(index, first, count, values);
    encode_floats(Code::kBF16, values, out);
  }

  const LapReader& model_;
  ThreadPool pool_;
  std::vector<uint8_t> bytes_;
  std::vector<std::exception_ptr> errors_;
};

std::string index_json(const std::vector<SourceTensor>& tensors, const std::vector<Shard>& shards) {
  Json map;
  uint64_t bytes = 0;
  for (const Shard& shard : shards)
    for (const size_t i : shard.tensors) {
      map[tensors[i].name] = shard.file;
      bytes += exported_bytes(tensors[i]);
    }
  return Json{{"metadata", {{"total_size", bytes}}}, {"weight_map", map}}.dump(2) + "\n";
}

// What transformers' AutoTokenizer asks for beside tokenizer.json.
std::string tokenizer_config(const LapReader& model) {
  const ModelConfig& config = model.metadata().config;
  const Json tokenizer = Json::parse(model.tokenizer_json());
  const auto content = [&](int32_t id) -> Json {
    if (id < 0) return nullptr;
    for (const Json& token : tokenizer.value("added_tokens", Json::array()))
      if (token.is_object() && token.value("id", -1) == id) return token.value("content", Json());
    return nullptr;
  };
  Json json;
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  json["bos_token"] = content(config.bos_id);
  json["eos_token"] = content(config.eos_ids.empty() ? -1 : config.eos_ids.front());
  json["pad_token"] = content(config.pad_id);
  json["clean_up_tokenization_spaces"] = false;
  json["model_max_length"] = config.max_context;
  return json.dump(2) + "\n";
}

void write_companions(const LapReader& model, const std::string& folder, const std::string& title,
                      const HfExportOptions& options, bool dequantized) {
  const ModelMetadata& metadata = model.metadata();
  const auto write = [&](const char* name, const std::string& text) {
    write_text_atomically(folder + "/" + name, text);
  };
  write("config.json", hf_config_json(metadata.config, options.dialect));
  const std::string tokenizer = model.tokenizer_json();
  if (!tokenizer.empty()) {
    write("tokenizer.json", tokenizer);
    write("tokenizer_config.json", tokenizer_config(model));
  }
  if (!metadata.chat_template.empty()) write("chat_template.jinja", metadata.chat_template);
  if (!metadata.generation_config.empty() && metadata.generation_config != "{}")
    write("generation_config.json", Json::parse(metadata.generation_config).dump(2) + "\n");
  ModelCard card;
  card.title = title;
  card.library = "transformers";
  card.content_hash = model.content_hash();
  card.dequantized = dequantized;
  card.usage =
      "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
      "model = AutoModelForCausalLM.from_pretrained(\"path/to/this/folder\")\n"
      "tokenizer = AutoTokenizer.from_pretrained(\"path/to/this/folder\")\n```";
  write("README.md", model_card(metadata, card));
}

}  // namespace

HfExportReport export_hf(const LapReader& model, const std::string& folder,
                         const HfExportOptions& options, const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<SourceTensor>& tensors = model.tensors();
  HfExportReport report;
  uint64_t n_values = 0;
  bool dequantized = false;
  for (const SourceTensor& tensor : tensors) {
    report.tensors.push_back({tensor.name, tensor.code, is_float(tensor.code)});
    report.bytes += exported_bytes(tensor);
    n_values += static_cast<uint64_t>(tensor.elements());
    dequantized |= !is_float(tensor.code);
  }

  AtomicFolder output(folder, options.overwrite);
  const std::string title = std::filesystem::path(folder).filename().string();
  write_companions(model, output.temporary(), title, options, dequantized);
  const std::vector<Shard> shards = plan_shards(tensors, options.shard_bytes);
  report.n_shards = static_cast<int>(shards.size());
  RowWriter rows(model, options.n_threads);
  Progress progress{"weights", 0, n_values};
  for (const Shard& shard : shards) {
    std::vector<SafetensorsTensor> header;
    for (const size_t i : shard.tensors)
      header.push_back({tensors[i].name, stored_type(tensors[i].code), tensors[i].shape});
    SafetensorsWriter writer(output.temporary() + "/" + shard.file, header);
    for (const size_t i : shard.tensors) rows.write(i, writer, events, progress);
    writer.commit();
  }
  if (shards.size() > 1)
    write_text_atomically(output.temporary() + "/model.safetensors.index.json",
                          index_json(tensors, shards));
  output.commit();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lapidary
