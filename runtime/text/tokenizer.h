// Text to ids and back, byte-exact with Hugging Face's `tokenizers`.
//
// Reads compiled tables (formats/tokenizer_tables.h) in place. encode() is near-linear: a heap over
// a linked list, so a megabyte without a space is fine. Thread-safe after construction.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

struct EncodeOptions {
  bool add_special = false;   // what the post-processor adds (BOS)
  bool parse_special = true;  // text of a special token becomes its id
};

class Tokenizer {
 public:
  // Borrows `tables`; they must outlive the tokenizer. Throws kBadData.
  explicit Tokenizer(std::span<const uint8_t> tables);
  // Owns its tables: compiles tokenizer.json.
  static Tokenizer from_json(std::string_view tokenizer_json, int64_t vocab_size);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Bytes of `text` that are not UTF-8 count as U+FFFD, one per malformed part.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  // Bytes that are not UTF-8 come out as U+FFFD, as `tokenizers` does. Unknown ids give nothing.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;
  std::string_view piece(int32_t id) const;  // vocabulary text; empty if none
  // The bytes that the token puts into decoded text, perhaps a part of a character. Of a token that
  // is not special, decode() of a whole text is these bytes joined (if they are UTF-8).
  std::string token_bytes(int32_t id) const;
  std::optional<int32_t> id_of(std::string_view piece) const;  // added or vocabulary token
  bool is_special(int32_t id) const;
  int64_t vocab_size() const;
  std::optional<int32_t> bos_id() const;  // what the post-processor puts first

 private:
  friend class StreamDecoder;
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Decodes ids one by one. What push() and finish() return adds up to decode() of all ids: an
// unfinished UTF-8 character is held back, and a run of byte tokens until it ends. Borrows the
// tokenizer.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special);
  std::string push(int32_t id);  // text that became certain
  std::string finish();          // what was held back

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string held_bytes_;
  uint32_t strips_left_;
};

}  // namespace lapidary
