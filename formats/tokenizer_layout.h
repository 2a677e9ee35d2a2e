// The byte layout of the compiled tokenizer, and a checked view of it.
//
// One header, then sections of fixed-size records; all integers little-endian, offsets from the
// first byte. Written by compile_tokenizer(), read in place by runtime/text. TokenizerView checks
// every offset, count and id once, so that lookups need no further checks and hostile bytes cannot
// make them read outside. Two hash tables, open addressing with linear probing, are built when
// compiling, so that opening 262,144 tokens and 514,906 merges costs milliseconds.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace lapidary {

inline constexpr std::array<char, 8> kTokenizerMagic = {'L', 'A', 'P', 'T', 'O', 'K', 'E', 'N'};
inline constexpr uint32_t kTokenizerVersion = 1;
inline constexpr uint32_t kNoToken = 0xFFFFFFFFu;
// No released vocabulary is near this; the limit keeps sizes of hostile headers small.
inline constexpr uint32_t kMaxVocabSize = 1u << 24;

// TokenizerHeader::model_flags
inline constexpr uint32_t kByteFallback = 1;
inline constexpr uint32_t kFuseUnknown = 2;
inline constexpr uint32_t kIgnoreMerges = 4;

// Section kPieceFlags, one byte per id.
inline constexpr uint8_t kInModel = 1;      // BPE may produce it
inline constexpr uint8_t kAdded = 2;        // matched in the text before BPE
inline constexpr uint8_t kSpecial = 4;      // added, and left out by decode(skip_special)
inline constexpr uint8_t kNormalized = 8;   // added, matched after the normalizer
inline constexpr uint8_t kTakesLeft = 16;   // added, swallows white space before it
inline constexpr uint8_t kTakesRight = 32;  // added, swallows white space after it
inline constexpr uint8_t kSingleWord = 64;  // added, only where no word character adjoins

enum class StepKind : uint32_t {
  // Normalizers.
  kReplaceString = 1,
  kReplaceRegex = 2,
  kNfc = 3,
  kNfd = 4,
  kNfkc = 5,
  kNfkd = 6,
  kPrepend = 7,
  kStripSpaces = 8,  // flags: kStripLeft, kStripRight
  kLowercase = 9,
  // Pre-tokenizers.
  kSplitString = 20,  // flags: SplitBehavior, and kInvert
  kSplitRegex = 21,
  kPrefixSpace = 22,
  kByteLevel = 23,  // bytes become letters; always the last
  // Decoders.
  kDecodeReplace = 40,
  kDecodeByteFallback = 41,
  kDecodeFuse = 42,
  kDecodeStripStart = 43,  // flags: how many times `text` may be taken from the start
  kDecodeByteLevel = 44,
};
inline constexpr uint32_t kStripLeft = 1;
inline constexpr uint32_t kStripRight = 2;
enum class SplitBehavior : uint32_t {
  kIsolated = 0,
  kRemoved = 1,
  kMergedWithPrevious = 2,
  kMergedWithNext = 3,
  kContiguous = 4
};
inline constexpr uint32_t kSplitBehaviorMask = 7;
inline constexpr uint32_t kInvert = 8;

enum TokenizerSection : uint32_t {
  kSectionStrings,       // bytes: pieces, then the texts of the steps
  kSectionPieceOffsets,  // u32[vocab_size + 1] into strings; equal neighbours: no such id
  kSectionPieceFlags,    // u8[vocab_size]
  kSectionVocabSlots,    // u32[power of two]: id, or kNoToken
  kSectionMergeSlots,    // MergeSlot[power of two]
  kSectionMergedIds,     // u32[merges]: by rank, the token that the merge makes
  kSectionAddedIds,      // u32[], ascending
  kSectionSteps,         // TokenizerStep[], in order of use
  kSectionBeforeIds,     // u32[]: what the post-processor puts before the text
  kSectionAfterIds,      // u32[]: and after it
  kTokenizerSections
};

struct TokenizerHeader {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t vocab_size;
  uint32_t model_flags;
  uint32_t unknown_id;  // or kNoToken
  uint64_t size_bytes;
  struct {
    uint64_t offset, count;
  } sections[kTokenizerSections];
};
static_assert(sizeof(TokenizerHeader) == 32 + 16 * kTokenizerSections);

struct MergeSlot {
  uint32_t left, right;
  uint32_t rank;  // lower merges first; kNoToken marks an empty slot
};
static_assert(sizeof(MergeSlot) == 12);

struct TokenizerStep {
  StepKind kind;
  uint32_t flags;
  uint32_t text_offset, text_bytes;        // pattern or text, in strings
  uint32_t content_offset, content_bytes;  // replacement
};
static_assert(sizeof(TokenizerStep) == 24);

// Places to start probing; part of the format.
uint64_t hash_piece(std::string_view piece);
uint64_t hash_pair(uint32_t left, uint32_t right);

// Compiled tables, checked. Borrows the bytes, which must be aligned to 8.
class TokenizerView {
 public:
  // Throws kBadData: another format or version, truncated, an offset, count or id out of range.
  explicit TokenizerView(std::span<const uint8_t> bytes);

  const TokenizerHeader& header() const { return *header_; }
  uint32_t vocab_size() const { return header_->vocab_size; }
  std::string_view piece(uint32_t id) const {  // id < vocab_size
    return strings_.substr(piece_offsets_[id], piece_offsets_[id + 1] - piece_offsets_[id]);
  }
  uint8_t flags(uint32_t id) const { return piece_flags_[id]; }
  uint32_t find(std::string_view piece) const;  // kNoToken when absent
  // The rank of the merge of two tokens; kNoToken when they do not merge.
  uint32_t find_merge(uint32_t left, uint32_t right) const;
  std::span<const uint32_t> merged_ids() const { return merged_ids_; }
  std::span<const uint32_t> added_ids() const { return added_ids_; }
  std::span<const TokenizerStep> steps() const { return steps_; }
  std::string_view text(const TokenizerStep& step) const {
    return strings_.substr(step.text_offset, step.text_bytes);
  }
  std::string_view content(const TokenizerStep& step) const {
    return strings_.substr(step.content_offset, step.content_bytes);
  }
  std::span<const uint32_t> before_ids() const { return before_ids_; }
  std::span<const uint32_t> after_ids() const { return after_ids_; }

 private:
  template <class T>
  std::span<const T> section(TokenizerSection which) const;
  void check_ids(std::span<const uint32_t> ids, const char* what) const;
  void check_tables() const;

  std::span<const uint8_t> bytes_;
  const TokenizerHeader* header_ = nullptr;
  std::string_view strings_;
  std::span<const uint32_t> piece_offsets_;
  std::span<const uint8_t> piece_flags_;
  std::span<const uint32_t> vocab_slots_;
  std::span<const MergeSlot> merge_slots_;
  std::span<const uint32_t> merged_ids_, added_ids_, before_ids_, after_ids_;
  std::span<const TokenizerStep> steps_;
};

}  // namespace lapidary
