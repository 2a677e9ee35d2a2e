// The first lines of each file, made into examples as for training.
#include "finetune/preview.h"

#include "finetune/data_set.h"
#include "finetune/token_row.h"
#include "formats/error.h"
#include "formats/line_reader.h"
#include "runtime/model.h"

namespace lapidary {
namespace {

PreviewExample show(const Example& example, const Tokenizer& tokenizer) {
  PreviewExample shown;
  shown.n_tokens = static_cast<int64_t>(example.ids.size());
  shown.n_learned = example.n_learned();
  for (size_t begin = 0, end; begin < example.ids.size(); begin = end) {
    const bool learned = example.labels[begin] != kNotLearned;
    for (end = begin; end < example.ids.size(); ++end)
      if ((example.labels[end] != kNotLearned) != learned) break;
    shown.pieces.push_back(
        {tokenizer.decode(std::span(example.ids).subspan(begin, end - begin)), learned});
  }
  return shown;
}

void preview_file(const std::string& path, int64_t count, const ExampleMaker& maker,
                  const Tokenizer& tokenizer, std::vector<PreviewExample>& all) {
  LineReader reader(path);
  ExampleCounts counts;
  std::string line;
  while (counts.n_examples < count && reader.next(line)) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    with_context(fmt::format("{} line {}", path, reader.line_number()), [&] {
      const Record record = parse_record(line);
      maker.make(record, counts, [&](const Example& example) {
        if (counts.n_examples > count) return;  // a record may give several
        PreviewExample& shown = all.emplace_back(show(example, tokenizer));
        shown.path = path;
        shown.form = form_name(record.form);
        shown.line = reader.line_number();
      });
    });
  }
  if (reader.line_number() == 0)
    fail(ErrorCode::kBadData, "{}: no examples; the file is empty", path);
  if (counts.n_examples == 0)
    fail(ErrorCode::kBadData,
         "{}: no example has anything to learn within the context; use a larger --context", path);
}

}  // namespace

std::vector<PreviewExample> preview(const FinetuneOptions& options, int64_t count) {
  const auto model = Model::load(options.model);
  if (!model->has_tokenizer())
    fail(ErrorCode::kBadData, "{}: has no tokenizer; convert the model again", options.model);
  const ExampleMaker maker(
      model->tokenizer(), model->file().metadata(),
      {options.context, options.train_on_all, parse_too_long(options.too_long)});
  std::vector<PreviewExample> all;
  preview_file(options.data, count, maker, model->tokenizer(), all);
  for (const std::string& general : options.general)
    preview_file(parse_general(general).path, count, maker, model->tokenizer(), all);
  return all;
}

}  // namespace lapidary
