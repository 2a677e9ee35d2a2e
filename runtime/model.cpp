// Loading a file: its tensors where they are mapped, none left over.
#include "runtime/model.h"

#include "formats/error.h"
#include "runtime/assistant_fit.h"
#include "runtime/model_loader.h"

namespace lapidary {
namespace {

class LapStore : public TensorStore {
 public:
  explicit LapStore(const LapReader& file) : file_(file) {}
  const LapTensor* find(const std::string& name) const override { return file_.find(name); }
  MatrixView matrix(const LapTensor& tensor, int64_t expert) const override {
    return file_.matrix(tensor, expert);
  }
  std::vector<float> floats(const LapTensor& tensor) const override { return file_.floats(tensor); }
  const ReadFile* file() const override { return &file_.file(); }
  std::string describe() const override { return file_.describe(); }

 private:
  const LapReader& file_;
};

}  // namespace

std::shared_ptr<const Model> Model::load(const std::string& path) {
  std::unique_ptr<LapReader> file = LapReader::open(path);
  const ModelConfig config = file->metadata().config;
  if (config.is_assistant())
    fail(ErrorCode::kUsage,
         "{}: an assistant, which only guesses tokens of another model; give that one, and this as "
         "--draft-model",
         path);
  return load(std::move(file), config);
}

std::shared_ptr<const Model> Model::load_assistant(const std::string& path, const Model& target) {
  std::unique_ptr<LapReader> file = LapReader::open(path);
  const ModelConfig config =
      with_context(path, [&] { return beside_target(file->metadata().config, target.config()); });
  std::shared_ptr<const Model> assistant = load(std::move(file), config);
  if (assistant->has_tokenizer() && target.has_tokenizer())
    with_context(path, [&] { check_same_tokens(assistant->tokenizer(), target.tokenizer()); });
  return assistant;
}

std::shared_ptr<const Model> Model::load(std::unique_ptr<LapReader> file,
                                         const ModelConfig& config) {
  validate(file->metadata().config);
  auto model = std::make_shared<Model>(config);
  const LapStore store(*file);
  ModelLoader loader(*model, store);
  loader.load();
  for (const LapTensor& tensor : file->index())
    if (!loader.taken().contains(tensor.name))
      fail(ErrorCode::kBadData, "{}: tensor {} is not part of the model that the config describes",
           file->describe(), tensor.name);
  model->file_ = std::move(file);
  if (const std::span<const uint8_t> tables = model->file_->tokenizer_tables(); !tables.empty())
    model->tokenizer_ = std::make_unique<Tokenizer>(
        with_context(model->file_->describe(), [&] { return Tokenizer(tables); }));
  return model;
}

const MatrixView* Model::find_matrix(std::string_view module) const {
  const auto found = matrices_.find(std::string(module));
  return found == matrices_.end() ? nullptr : found->second;
}

}  // namespace lapidary
