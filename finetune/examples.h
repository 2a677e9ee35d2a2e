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

// What becomes of a conversation longer than the context. Longer texts are always divided.
enum class TooLong : uint8_t { kCut, kDrop, kRefuse };
// "cut", "drop", "refuse". Throws kUsage.
TooLong parse_too_long(std::string_view name);

struct ExampleOptions {
  int64_t context = 1024;     // tokens of the longest example
  bool train_on_all = false;  // every token is learned, as plain trainers do
  TooLong too_long = TooLong::kCut;
};

struct ExampleCounts {
  int64_t n_examples = 0;
  int64_t n_cut = 0;       // longer than the context: the end was cut off
  int64_t n_dropped = 0;   // too long, or nothing left to learn inside the context
  int64_t n_windows = 0;   // extra examples from texts longer than the context
  int64_t n_unrolled = 0;  // conversations whose turns had to become examples of their own
  int64_t tokens = 0;
};
using TakeExample = std::function<void(Example)>;

class ExampleMaker {
 public:
  // `tokenizer` and `metadata` must outlive the maker.
  ExampleMaker(const Tokenizer& tokenizer, const ModelMetadata& metadata,
               const ExampleOptions& options);

  // Gives `use` the examples of one record, none to several. Throws kBadData: a conversation
  // without a chat template in the model, a template that refuses it or does not continue its own
  // prompt, an example too long where that is refused.
  void make(const Record& record, ExampleCounts& counts, const TakeExample& use) const;

 private:
  struct Sink;
  void add_text(const Record& record, Sink& sink) const;
  void add_conversation(const Record& record, Sink& sink) const;
  bool add_whole(const Record& record, Sink& sink) const;
  void add_turn(const Record& record, size_t answer, Sink& sink) const;
  void add(Example example, Sink& sink) const;
  // The first n messages, as text.
  std::string render(const Record& record, size_t n, bool generation_prompt) const;
  std::vector<int32_t> encode(const std::string& text) const;

  const Tokenizer& tokenizer_;
  const ModelMetadata& metadata_;
  ExampleOptions options_;
  std::vector<ChatTemplate> template_;  // one, or none
};

}  // namespace lapidary
