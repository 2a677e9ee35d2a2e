// A Scorer without a model: logits come from a rule over the tokens so far. Its tokenizer is
// nano-e's.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/error.h"
#include "formats/file.h"
#include "runtime/verify/scorer.h"
#include "tests/test_data.h"

namespace lapidary {

inline const Tokenizer& nano_tokenizer() {
  static const Tokenizer tokenizer =
      Tokenizer::from_json(read_text(data_path("nano-e/tokenizer.json")), 8192);
  return tokenizer;
}

class FakeScorer final : public Scorer {
 public:
  // Fills the logits that follow `history`; the row is zero before.
  using Rule = std::function<void(std::span<const int32_t> history, std::span<float> row)>;

  explicit FakeScorer(Rule rule, int64_t chunk = 16) : rule_(std::move(rule)), max_chunk_(chunk) {
    metadata_.config.vocab_size = 8192;
    metadata_.config.bos_id = 2;
    metadata_.config.eos_ids = {1, 6};  // <eos>, <turn|>
    metadata_.config.max_context = 2048;
    metadata_.chat_template = read_text(data_path("nano-e/chat_template.jinja"));
  }

  const Tokenizer& tokenizer() const override { return nano_tokenizer(); }
  int64_t vocab_size() const override { return metadata_.config.vocab_size; }
  int64_t max_chunk() const override { return max_chunk_; }
  std::string identity() const override { return "fake"; }
  const ModelMetadata& metadata() const override { return metadata_; }

  void begin(int64_t capacity) override {
    if (!history_.empty()) sequences.push_back(history_);
    history_.clear();
    capacity_ = capacity;
  }
  std::span<const float> append(std::span<const int32_t> tokens, int64_t n) override {
    EXPECT_LE(static_cast<int64_t>(tokens.size()), max_chunk_);
    EXPECT_LE(static_cast<int64_t>(history_.size() + tokens.size()), capacity_);
    logits_.assign(static_cast<size_t>(n * vocab_size()), 0.0f);
    const size_t first_wanted = tokens.size() - static_cast<size_t>(n);
    for (size_t i = 0; i < tokens.size(); ++i) {
      history_.push_back(tokens[i]);
      if (i >= first_wanted)
        rule_(history_,
              std::span(logits_).subspan((i - first_wanted) * vocab_size(), vocab_size()));
    }
    ++n_appends;
    return logits_;
  }

  // What went through the model: finished sequences, then the present one.
  std::vector<std::vector<int32_t>> seen() const {
    auto all = sequences;
    if (!history_.empty()) all.push_back(history_);
    return all;
  }

  ModelMetadata metadata_;
  std::vector<std::vector<int32_t>> sequences;
  int n_appends = 0;

 private:
  Rule rule_;
  int64_t max_chunk_, capacity_ = 0;
  std::vector<int32_t> history_;
  std::vector<float> logits_;
};

}  // namespace lapidary
