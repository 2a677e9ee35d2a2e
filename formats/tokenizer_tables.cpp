// Compiles tokenizer.json: checks vocabulary, merges and added tokens, builds the two hash tables,
// and lays everything out as formats/tokenizer_layout.h says.
#include "formats/tokenizer_tables.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "formats/tokenizer_components.h"
#include "formats/tokenizer_layout.h"

namespace lapidary {
namespace {

using nlohmann::json;

// Longer ones are hostile: matching costs time proportional to the longest added token.
constexpr size_t kMaxAddedTokenBytes = 4096;

struct Compiler {
  uint32_t vocab_size = 0;
  uint32_t model_flags = 0;
  uint32_t unknown_id = kNoToken;
  std::vector<std::string_view> pieces;  // by id; views into the parsed JSON
  std::vector<uint8_t> flags;
  std::vector<uint32_t> vocab_slots;
  std::vector<MergeSlot> merge_slots;
  std::vector<uint32_t> merged_ids;  // by rank
  std::vector<uint32_t> added_ids;

  uint32_t find(std::string_view piece) const {
    const size_t mask = vocab_slots.size() - 1;
    for (size_t slot = hash_piece(piece) & mask;; slot = (slot + 1) & mask) {
      const uint32_t id = vocab_slots[slot];
      if (id == kNoToken || pieces[id] == piece) return id;
    }
  }
  // Half full at most, so that probes stay short.
  void insert(uint32_t id) {
    const size_t mask = vocab_slots.size() - 1;
    size_t slot = hash_piece(pieces[id]) & mask;
    while (vocab_slots[slot] != kNoToken) slot = (slot + 1) & mask;
    vocab_slots[slot] = id;
  }

  uint32_t check_id(const json& value, std::string_view piece) const;
  void read_vocab(const json& vocab);
  void read_merge(uint32_t rank, std::string_view left, std::string_view right);
  void read_merges(const json& merges);
  void read_model(const json& model);
  void read_added(const json& added);
};

uint32_t Compiler::check_id(const json& value, std::string_view piece) const {
  if (!value.is_number_unsigned())
    fail(ErrorCode::kBadData, "the id of token '{}' is no non-negative integer", piece);
  const uint64_t id = value.get<uint64_t>();
  if (id >= vocab_size)
    fail(ErrorCode::kBadData,
         "token '{}' has id {}, but the model's vocabulary has {} rows; this "
         "tokenizer belongs to another model",
         piece, id, vocab_size);
  return static_cast<uint32_t>(id);
}

void Compiler::read_vocab(const json& vocab) {
  for (const auto& [piece, value] : vocab.items()) {
    const uint32_t id = check_id(value, piece);
    if (piece.empty()) fail(ErrorCode::kBadData, "id {} is an empty token", id);
    if (flags[id] != 0)
      fail(ErrorCode::kBadData, "tokens '{}' and '{}' share id {}", pieces[id], piece, id);
    pieces[id] = piece;
    flags[id] = kInModel;
    insert(id);
  }
}

void Compiler::read_merge(uint32_t rank, std::string_view left, std::string_view right) {
  const uint32_t ids[2] = {find(left), find(right)};
  const std::string joined = std::string(left) + std::string(right);
  const uint32_t merged = find(joined);
  if (ids[0] == kNoToken || ids[1] == kNoToken || merged == kNoToken)
    fail(ErrorCode::kBadData,
         "merge {} joins '{}' and '{}', and not all of both and the result are in "
         "the vocabulary",
         rank, left, right);
  const size_t mask = merge_slots.size() - 1;
  size_t slot = hash_pair(ids[0], ids[1]) & mask;
  while (merge_slots[slot].rank != kNoToken &&
         (merge_slots[slot].left != ids[0] || merge_slots[slot].right != ids[1]))
    slot = (slot + 1) & mask;
  // A pair listed twice keeps its last rank, as in `tokenizers`.
  merge_slots[slot] = {ids[0], ids[1], rank};
  merged_ids.push_back(merged);
}

void Compiler::read_merges(const json& merges) {
  if (!merges.is_array()) fail(ErrorCode::kBadData, "'merges' is no array");
  merge_slots.assign(std::bit_ceil(2 * merges.size() + 1), {kNoToken, kNoToken, kNoToken});
  uint32_t rank = 0;
  for (const json& merge : merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      read_merge(rank, merge[0].get_ref<const std::string&>(),
                 merge[1].get_ref<const std::string&>());
    } else if (merge.is_string()) {
      const std::string_view text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
        fail(ErrorCode::kBadData, "merge {} '{}' is not two words", rank, text);
      read_merge(rank, text.substr(0, space), text.substr(space + 1));
    } else {
      fail(ErrorCode::kBadData, "merge {} is neither a string nor a pair", rank);
    }
    ++rank;
  }
}

bool flag_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

void Compiler::read_model(const json& model) {
  // Files of the first versions name no type; BPE is the only one with merges.
  const json type = model.value("type", json("BPE"));
  if (type != "BPE" || !model.contains("merges"))
    fail(ErrorCode::kBadData, "model {} is not supported, only BPE is", type.dump());
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix", "dropout"}) {
    const json value = model.value(name, json());
    if (!value.is_null() && value != "" && value != 0.0)
      fail(ErrorCode::kBadData, "model option {} is not supported", name);
  }
  const auto vocab = model.find("vocab");
  if (vocab == model.end() || !vocab->is_object())
    fail(ErrorCode::kBadData, "the model has no vocabulary");
  read_vocab(*vocab);
  read_merges(model["merges"]);
  if (flag_of(model, "byte_fallback")) model_flags |= kByteFallback;
  if (flag_of(model, "fuse_unk")) model_flags |= kFuseUnknown;
  if (flag_of(model, "ignore_merges")) model_flags |= kIgnoreMerges;
  if (const json unknown = model.value("unk_token", json()); unknown.is_string()) {
    const std::string name = unknown;
    unknown_id = find(name);
    if (unknown_id == kNoToken)
      fail(ErrorCode::kBadData, "unk_token '{}' is not in the vocabulary", name);
  }
}

void Compiler::read_added(const json& added) {
  if (added.is_null()) return;
  if (!added.is_array()) fail(ErrorCode::kBadData, "added_tokens is no array");
  for (const json& token : added) {
    if (!token.is_object() || !token.contains("content") || !token["content"].is_string() ||
        !token.contains("id"))
      fail(ErrorCode::kBadData, "an added token lacks its id or content");
    const std::string_view content = token["content"].get_ref<const std::string&>();
    const uint32_t id = check_id(token["id"], content);
    if (content.empty() || content.size() > kMaxAddedTokenBytes)
      fail(ErrorCode::kBadData, "added token {} has {} bytes, expected 1 to {}", id, content.size(),
           kMaxAddedTokenBytes);
    if (flags[id] & kAdded) fail(ErrorCode::kBadData, "two added tokens have id {}", id);
    if (const uint32_t known = find(content); known != id) {
      if (known != kNoToken || flags[id] != 0)
        fail(ErrorCode::kBadData,
             "added token '{}' has id {}, but the vocabulary gives that text or id "
             "to another token",
             content, id);
      pieces[id] = content;
      insert(id);
    }
    flags[id] |= kAdded;
    if (flag_of(token, "special")) flags[id] |= kSpecial;
    if (flag_of(token, "normalized")) flags[id] |= kNormalized;
    if (flag_of(token, "lstrip")) flags[id] |= kTakesLeft;
    if (flag_of(token, "rstrip")) flags[id] |= kTakesRight;
    if (flag_of(token, "single_word")) flags[id] |= kSingleWord;
    added_ids.push_back(id);
  }
  std::sort(added_ids.begin(), added_ids.end());
}

// Appends sections behind the header.
class Writer {
 public:
  Writer() : bytes_(sizeof(TokenizerHeader)) {}

  template <class T>
  void section(TokenizerSection which, const std::vector<T>& records) {
    bytes_.resize((bytes_.size() + 7) / 8 * 8);
    header.sections[which] = {bytes_.size(), records.size()};
    const auto* begin = reinterpret_cast<const uint8_t*>(records.data());
    bytes_.insert(bytes_.end(), begin, begin + records.size() * sizeof(T));
  }
  std::vector<uint8_t> finish() {
    header.size_bytes = bytes_.size();
    std::memcpy(bytes_.data(), &header, sizeof header);
    return std::move(bytes_);
  }

  TokenizerHeader header{};

 private:
  std::vector<uint8_t> bytes_;
};

std::vector<uint8_t> lay_out(const Compiler& model, const TokenizerComponents& components) {
  std::vector<char> strings;
  std::vector<uint32_t> piece_offsets;
  const auto add_string = [&strings](std::string_view text) {
    const size_t offset = strings.size();
    strings.insert(strings.end(), text.begin(), text.end());
    if (strings.size() >= kNoToken) fail(ErrorCode::kBadData, "more than 4 GB of token text");
    return static_cast<uint32_t>(offset);
  };
  for (const std::string_view piece : model.pieces) piece_offsets.push_back(add_string(piece));
  piece_offsets.push_back(static_cast<uint32_t>(strings.size()));

  std::vector<TokenizerStep> steps;
  for (const ComponentStep& step : components.steps) {
    const uint32_t text = add_string(step.text), content = add_string(step.content);
    steps.push_back({step.kind, step.flags, text, static_cast<uint32_t>(step.text.size()), content,
                     static_cast<uint32_t>(step.content.size())});
  }

  Writer writer;
  writer.header.magic = kTokenizerMagic;
  writer.header.version = kTokenizerVersion;
  writer.header.vocab_size = model.vocab_size;
  writer.header.model_flags = model.model_flags;
  writer.header.unknown_id = model.unknown_id;
  writer.section(kSectionStrings, strings);
  writer.section(kSectionPieceOffsets, piece_offsets);
  writer.section(kSectionPieceFlags, model.flags);
  writer.section(kSectionVocabSlots, model.vocab_slots);
  writer.section(kSectionMergeSlots, model.merge_slots);
  writer.section(kSectionMergedIds, model.merged_ids);
  writer.section(kSectionAddedIds, model.added_ids);
  writer.section(kSectionSteps, steps);
  writer.section(kSectionBeforeIds, components.before_ids);
  writer.section(kSectionAfterIds, components.after_ids);
  return writer.finish();
}

}  // namespace

std::vector<uint8_t> compile_tokenizer(std::string_view tokenizer_json, int64_t vocab_size) {
  if (vocab_size < 1 || vocab_size > kMaxVocabSize)
    fail(ErrorCode::kBadData, "a vocabulary of {} tokens, expected 1 to {}", vocab_size,
         kMaxVocabSize);
  guard_json(tokenizer_json, "JSON");
  json root;
  try {
    root = json::parse(tokenizer_json);
  } catch (const json::exception& e) {
    fail(ErrorCode::kBadData, "{}", e.what());
  }
  const auto model = root.is_object() ? root.find("model") : root.end();
  if (!root.is_object() || model == root.end() || !model->is_object())
    fail(ErrorCode::kBadData, "no model in it");

  Compiler compiler;
  compiler.vocab_size = static_cast<uint32_t>(vocab_size);
  compiler.pieces.resize(compiler.vocab_size);
  compiler.flags.resize(compiler.vocab_size);
  compiler.vocab_slots.assign(std::bit_ceil(size_t{2} * compiler.vocab_size), kNoToken);
  compiler.read_model(*model);
  // A reference, not a copy: the compiler keeps views of the token texts.
  if (const auto added = root.find("added_tokens"); added != root.end())
    compiler.read_added(*added);

  json parts = json::object();
  for (const char* name : {"normalizer", "pre_tokenizer", "decoder", "post_processor"})
    if (const auto part = root.find(name); part != root.end()) parts[name] = *part;
  const TokenizerComponents components = compile_components(parts.dump());
  for (const auto* ids : {&components.before_ids, &components.after_ids})
    for (const uint32_t id : *ids)
      if (id >= compiler.vocab_size || compiler.flags[id] == 0)
        fail(ErrorCode::kBadData, "post_processor adds id {}, which no token has", id);
  return lay_out(compiler, components);
}

}  // namespace lapidary
