// Puts the stages together: added tokens, normalizer, added tokens again, pre-tokenizer, BPE.
#include "runtime/text/tokenizer.h"

#include <unordered_map>

#include "formats/error.h"
#include "formats/tokenizer_tables.h"
#include "formats/utf8.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/pre_tokenizer.h"
#include "runtime/text/token_decoder.h"

namespace lapidary {
namespace {

// Words up to this long are remembered during one encode(): text repeats its short words.
constexpr size_t kMaxCachedWordBytes = 48;

// Ids of the words of one text, with repeated words looked up.
class WordEncoder {
 public:
  explicit WordEncoder(const Bpe& bpe) : bpe_(bpe) {}

  void encode(std::string_view word, std::vector<int32_t>& ids) {
    if (word.size() > kMaxCachedWordBytes) return bpe_.encode(word, scratch_, ids);
    key_ = word;
    const auto [found, is_new] = cache_.try_emplace(key_);
    if (is_new) bpe_.encode(word, scratch_, found->second);
    ids.insert(ids.end(), found->second.begin(), found->second.end());
  }

 private:
  const Bpe& bpe_;
  Bpe::Scratch scratch_;
  std::string key_;
  std::unordered_map<std::string, std::vector<int32_t>> cache_;
};

}  // namespace

struct Tokenizer::State {
  explicit State(std::span<const uint8_t> tables)
      : view(tables),
        normalizer(view),
        pre_tokenizer(view),
        raw_tokens(view),
        normalized_tokens(view),
        bpe(view, pre_tokenizer.is_byte_level()),
        decoder(view) {
    for (const uint32_t id : view.added_ids()) {
      if (view.flags(id) & kNormalized) {
        std::string text = normalizer.apply(view.piece(id));
        normalized_tokens.insert(text, id);
        if (text != view.piece(id)) normalized_texts.emplace(id, std::move(text));
      } else {
        raw_tokens.insert(view.piece(id), id);
      }
    }
  }
  explicit State(std::vector<uint8_t> bytes) : State(std::span<const uint8_t>(bytes)) {
    owned = std::move(bytes);  // moving keeps the bytes where they are
  }

  // What decoding puts for `id`; empty for nothing. `tokenizers` gives a token that it matches in
  // normalized text as it matched it, and then no longer sees that it is special.
  std::string_view text_of(int32_t id, bool skip_special) const {
    if (id < 0 || static_cast<uint32_t>(id) >= view.vocab_size()) return {};
    const auto index = static_cast<uint32_t>(id);
    const auto found = normalized_texts.find(index);
    if (found != normalized_texts.end()) return found->second;
    return skip_special && (view.flags(index) & kSpecial) ? std::string_view() : view.piece(index);
  }

  std::vector<uint8_t> owned;
  std::unordered_map<uint32_t, std::string> normalized_texts;
  TokenizerView view;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  AddedTokens raw_tokens, normalized_tokens;
  Bpe bpe;
  TokenDecoder decoder;
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(std::span<const uint8_t> tables) : state_(std::make_unique<State>(tables)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, int64_t vocab_size) {
  return Tokenizer(std::make_unique<State>(compile_tokenizer(tokenizer_json, vocab_size)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    append_repaired(text, true, repaired);
    text = repaired;
  }
  std::vector<int32_t> ids;
  const auto add_fixed = [&](std::span<const uint32_t> fixed) {
    if (options.add_special) ids.insert(ids.end(), fixed.begin(), fixed.end());
  };
  WordEncoder encoder(state_->bpe);
  add_fixed(state_->view.before_ids());
  for (const TextPart& raw : state_->raw_tokens.split(text, options.parse_special)) {
    if (raw.id != kNoToken) {
      ids.push_back(static_cast<int32_t>(raw.id));
      continue;
    }
    std::string normalized = state_->normalizer.apply(text.substr(raw.begin, raw.end - raw.begin));
    for (const TextPart& part :
         state_->normalized_tokens.split(normalized, options.parse_special)) {
      if (part.id != kNoToken) {
        ids.push_back(static_cast<int32_t>(part.id));
        continue;
      }
      const bool is_whole = part.begin == 0 && part.end == normalized.size();
      const Words words = state_->pre_tokenizer.split(
          is_whole ? std::move(normalized) : normalized.substr(part.begin, part.end - part.begin));
      for (const auto& [begin, end] : words.ranges)
        encoder.encode(std::string_view(words.text).substr(begin, end - begin), ids);
    }
  }
  add_fixed(state_->view.after_ids());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  TokenDecoder::State state = state_->decoder.start();
  for (const int32_t id : ids)
    if (const auto piece = state_->text_of(id, skip_special); !piece.empty())
      state_->decoder.push(piece, state, text);
  state_->decoder.finish(state, text);
  return text;
}

std::string_view Tokenizer::piece(int32_t id) const {
  return id >= 0 && id < vocab_size() ? state_->view.piece(static_cast<uint32_t>(id))
                                      : std::string_view();
}

std::optional<int32_t> Tokenizer::id_of(std::string_view piece) const {
  const uint32_t id = state_->view.find(piece);
  return id == kNoToken ? std::nullopt : std::optional(static_cast<int32_t>(id));
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() &&
         (state_->view.flags(static_cast<uint32_t>(id)) & kSpecial) != 0;
}

int64_t Tokenizer::vocab_size() const { return state_->view.vocab_size(); }

std::string Tokenizer::token_bytes(int32_t id) const {
  return state_->decoder.bytes(state_->text_of(id, /*skip_special=*/false));
}

std::optional<int32_t> Tokenizer::bos_id() const {
  const auto before = state_->view.before_ids();
  return before.empty() ? std::nullopt : std::optional(static_cast<int32_t>(before.front()));
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer),
      skip_special_(skip_special),
      strips_left_(tokenizer.state_->decoder.start().strips_left) {}

std::string StreamDecoder::push(int32_t id) {
  std::string text;
  const std::string_view piece = tokenizer_->state_->text_of(id, skip_special_);
  if (piece.empty()) return text;
  TokenDecoder::State state{std::move(held_bytes_), strips_left_};
  tokenizer_->state_->decoder.push(piece, state, text);
  held_bytes_ = std::move(state.held_bytes);
  strips_left_ = state.strips_left;
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  TokenDecoder::State state{std::move(held_bytes_), strips_left_};
  tokenizer_->state_->decoder.finish(state, text);
  held_bytes_.clear();
  strips_left_ = state.strips_left;
  return text;
}

}  // namespace lapidary
