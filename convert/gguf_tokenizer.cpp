// Written as text piece by piece: a quarter of a million tokens and twice as many merges would be
// large as a tree of JSON values.
#include "convert/gguf_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "convert/sentencepiece_merges.h"
#include "formats/error.h"
#include "formats/gguf_vocabulary.h"
#include "formats/json_guard.h"
#include "formats/utf8.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

// Gemma: spaces become U+2581, and the text is one word after another up to and with its space.
constexpr std::string_view kByteFallbackParts =
    R"("normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},)"
    R"("pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious",)"
    R"("invert":false},"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":)"
    R"({"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"}]},)";

template <class T>
const T* find(const GgufSet& file, const std::string& key) {
  const GgufValue* value = file.find("tokenizer.ggml." + key);
  return value ? std::get_if<T>(value) : nullptr;
}

template <class T>
const T& require(const GgufSet& file, const std::string& key) {
  const T* value = find<T>(file, key);
  if (!value) fail(ErrorCode::kBadData, "key tokenizer.ggml.{} is missing", key);
  return *value;
}

std::string quoted(const std::string& text) {
  if (!is_valid_utf8(text))
    fail(ErrorCode::kBadData, "the vocabulary has a token that is not UTF-8 ({} bytes)",
         text.size());
  return Json(text).dump();
}

std::string byte_level_parts(const GgufPattern& pattern) {
  const Json byte_level{{"type", "ByteLevel"},
                        {"add_prefix_space", false},
                        {"trim_offsets", false},
                        {"use_regex", false}};
  Json split{{"type", "Split"},
             {"pattern", {{"Regex", pattern.pattern}}},
             {"behavior", "Isolated"},
             {"invert", false}};
  const Json pre{{"type", "Sequence"}, {"pretokenizers", Json::array({split, byte_level})}};
  return fmt::format(R"("normalizer":{},"pre_tokenizer":{},"decoder":{},)",
                     pattern.nfc ? R"({"type":"NFC"})" : "null", pre.dump(), byte_level.dump());
}

const GgufPattern& find_pattern(const GgufSet& file) {
  const auto& name = require<std::string>(file, "pre");
  for (const GgufPattern& pattern : gguf_patterns())
    if (pattern.name == name || (name == "llama3" && pattern.name == "llama-bpe")) return pattern;
  fail(ErrorCode::kBadData, "tokenizer.ggml.pre is \"{}\"; llama-bpe and qwen2 are supported",
       excerpt(name));
}

class Writer {
 public:
  explicit Writer(const GgufSet& file)
      : file_(file), tokens_(require<std::vector<std::string>>(file, "tokens")) {
    types_.assign(tokens_.size(), kNormalToken);
    const auto* types = find<std::vector<int32_t>>(file, "token_type");
    if (types && types->size() != tokens_.size())
      fail(ErrorCode::kBadData, "{} tokens, but {} token types", tokens_.size(), types->size());
    if (types) types_ = *types;
  }

  std::string write(bool byte_fallback) {
    const GgufPattern* pattern = byte_fallback ? nullptr : &find_pattern(file_);
    out_ = R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)";
    add_added_tokens();
    out_ += "],";
    out_ += pattern ? byte_level_parts(*pattern) : kByteFallbackParts;
    add_post_processor(byte_fallback);
    out_ += R"("model":{"type":"BPE","dropout":null,"unk_token":)";
    const auto* unknown = find<uint32_t>(file_, "unknown_token_id");
    out_ += unknown && *unknown < tokens_.size() ? quoted(tokens_[*unknown]) : "null";
    out_ +=
        fmt::format(R"(,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":{},)"
                    R"("byte_fallback":{},"ignore_merges":{},"vocab":{{)",
                    byte_fallback, byte_fallback, pattern && pattern->ignore_merges);
    add_vocabulary(byte_fallback);
    out_ += R"(},"merges":[)";
    if (find<std::string>(file_, "model")->compare("llama") == 0)
      add_scored_merges();
    else
      add_merges();
    out_ += "]}}";
    return std::move(out_);
  }

 private:
  bool is_added(size_t i) const {
    return types_[i] == kControlToken || types_[i] == kUserDefinedToken ||
           types_[i] == kUnknownToken;
  }
  // Rows of the embedding that stand for nothing; llama.cpp wants a name for each.
  bool is_padding(size_t i) const {
    return types_[i] == kUnusedToken && tokens_[i] == fmt::format("[PAD{}]", i);
  }
  void separate(char opening) {
    if (out_.back() != opening) out_ += ',';
  }

  void add_added_tokens() {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (!is_added(i)) continue;
      separate('[');
      const bool special = types_[i] != kUserDefinedToken || is_visible_marker(tokens_[i]);
      out_ +=
          fmt::format(R"({{"id":{},"content":{},"single_word":false,"lstrip":false,"rstrip":false,)"
                      R"("normalized":false,"special":{}}})",
                      i, quoted(tokens_[i]), special);
    }
  }

  // Added tokens are no part of byte-level vocabularies; those with byte fallback contain them.
  void add_vocabulary(bool byte_fallback) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (is_padding(i) || (is_added(i) && !byte_fallback)) continue;
      separate('{');
      out_ += fmt::format("{}:{}", quoted(tokens_[i]), i);
    }
  }

  // SentencePiece: scores in place of merges.
  void add_scored_merges() {
    const auto& scores = require<std::vector<float>>(file_, "scores");
    if (scores.size() != tokens_.size())
      fail(ErrorCode::kBadData, "{} tokens, but {} scores", tokens_.size(), scores.size());
    for (const auto& [left, right] : sentencepiece_merges(tokens_, scores)) {
      separate('[');
      out_ += fmt::format("[{},{}]", quoted(std::string(left)), quoted(std::string(right)));
    }
  }

  // "left right"; a part may itself begin with a space.
  void add_merges() {
    for (const std::string& merge : require<std::vector<std::string>>(file_, "merges")) {
      const size_t space = merge.find(' ', 1);
      if (space == std::string::npos || space + 1 == merge.size())
        fail(ErrorCode::kBadData, "merge \"{}\" is not two parts", excerpt(merge));
      separate('[');
      out_ +=
          fmt::format("[{},{}]", quoted(merge.substr(0, space)), quoted(merge.substr(space + 1)));
    }
  }

  void add_post_processor(bool byte_fallback) {
    const auto* add_bos = find<bool>(file_, "add_bos_token");
    const auto* bos = find<uint32_t>(file_, "bos_token_id");
    // Models with byte fallback start with BOS unless told otherwise.
    const bool wanted = add_bos ? *add_bos : byte_fallback;
    if (!wanted || !bos || *bos >= tokens_.size()) {
      out_ += R"("post_processor":null,)";
      return;
    }
    const std::string& text = tokens_[*bos];
    quoted(text);  // checks it
    const Json first{{"SpecialToken", {{"id", text}, {"type_id", 0}}}};
    const auto sequence = [](const char* id, int type) {
      return Json{{"Sequence", {{"id", id}, {"type_id", type}}}};
    };
    const Json post{
        {"type", "TemplateProcessing"},
        {"single", Json::array({first, sequence("A", 0)})},
        {"pair", Json::array({first, sequence("A", 0), sequence("B", 1)})},
        {"special_tokens",
         {{text, {{"id", text}, {"ids", Json::array({*bos})}, {"tokens", Json::array({text})}}}}}};
    out_ += fmt::format(R"("post_processor":{},)", post.dump());
  }

  const GgufSet& file_;
  const std::vector<std::string>& tokens_;
  std::vector<int32_t> types_;
  std::string out_;
};

}  // namespace

std::string gguf_tokenizer_json(const GgufSet& file) {
  const auto* kind = find<std::string>(file, "model");
  if (!kind || *kind == "no_vocab") return {};
  if (*kind != "gemma4" && *kind != "llama" && *kind != "gpt2")
    fail(ErrorCode::kBadData,
         "tokenizer.ggml.model is \"{}\"; gemma4 (byte fallback), llama (SentencePiece) and gpt2 "
         "(byte level) are supported; convert the Hugging Face folder instead",
         excerpt(*kind));
  // Gemma's SentencePiece models put no space before the text; Llama 1 and 2 do, and are no family
  // that is read here.
  const auto* prefix = find<bool>(file, "add_space_prefix");
  if (*kind == "llama" && (!prefix || *prefix))
    fail(ErrorCode::kBadData,
         "tokenizer.ggml.add_space_prefix is {}; SentencePiece vocabularies are read as Gemma has "
         "them, with false; convert the Hugging Face folder instead",
         prefix ? "true" : "missing");
  return Writer(file).write(*kind != "gpt2");
}

}  // namespace lapidary
