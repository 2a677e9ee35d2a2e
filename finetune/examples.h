// From records to token ids with marks on what is to be learned.
//
// A conversation is rendered by the model's own chat template, once whole, and once up to each of
// the model's turns to find where the turn begins and ends: what the model must produce itself,
// content, tool calls and the end-of-turn tokens the template writes, is learned; everything else
// is only read.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "finetune/records.h"
#include "formats/model_source.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"

namespace lapidary {

struct Example {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;  // own id where learned, kNotLearned elsewhere
  int64_t n_learned() const;    // labels behind the first token
};

struct ExampleOptions {
  int64_t context = 1024;     // tokens of the longest example
  bool train_on_all = false;  // every token is learned, as plain trainers do
};

struct ExampleSet {
  std::vector<Example> examples;
  int64_t n_cut = 0;       // longer than the context: the end was cut off
  int64_t n_dropped = 0;   // nothing left to learn inside the context
  int64_t n_windows = 0;   // extra examples from texts longer than the context
  int64_t n_unrolled = 0;  // conversations whose turns had to become examples of their own
  int64_t tokens = 0;
};

class ExampleMaker {
 public:
  // `tokenizer` and `metadata` must outlive the maker.
  ExampleMaker(const Tokenizer& tokenizer, const ModelMetadata& metadata,
               const ExampleOptions& options);

  // Throws kBadData naming the line: a conversation without a chat template in the model, a
  // template that refuses it or does not continue its own prompt; or no example that fits the
  // context.
  ExampleSet make(const RecordFile& file) const;

 private:
  void add_record(const Record& record, ExampleSet& set) const;
  void add_text(const Record& record, ExampleSet& set) const;
  void add_conversation(const Record& record, ExampleSet& set) const;
  bool add_whole(const Record& record, ExampleSet& set) const;
  void add_turn(const Record& record, size_t answer, ExampleSet& set) const;
  void add(Example example, ExampleSet& set) const;
  // The first n messages, as text.
  std::string render(const Record& record, size_t n, bool generation_prompt) const;
  std::vector<int32_t> encode(const std::string& text) const;

  const Tokenizer& tokenizer_;
  const ModelMetadata& metadata_;
  ExampleOptions options_;
  std::vector<ChatTemplate> template_;  // one, or none
};

}  // namespace lapidary
