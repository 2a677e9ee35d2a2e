// Names, removal, and the copy of a folder; files are written atomically.
#include "quantize/scratch_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>

#include "formats/file.h"
#include "formats/lap_copy.h"
#include "formats/tokenizer_tables.h"

namespace lapidary {

ScratchModel::ScratchModel(const std::string& prefix) {
  static std::atomic<int> count{0};
  path_ = fmt::format("{}.scratch-{}-{}", prefix, getpid(), count++);
}

ScratchModel::~ScratchModel() { unlink(path_.c_str()); }

ExactModel::ExactModel(const ModelSource& source, const std::string& source_path,
                       const std::string& scratch, const Events& events)
    : path_(source_path) {
  if (dynamic_cast<const LapReader*>(&source)) return;
  copy_ = std::make_unique<ScratchModel>(scratch);
  const ModelMetadata& metadata = source.metadata();
  const std::string tokenizer = source.tokenizer_json();
  std::vector<uint8_t> tables;
  if (!tokenizer.empty()) tables = compile_tokenizer(tokenizer, metadata.config.vocab_size);
  copy_to_lap(source, copy_->path(), metadata, {tokenizer, tables}, /*is_source=*/false, events);
}

}  // namespace lapidary
