// Opening compiled tokenizer tables: every check happens here, once; lookups then trust the bytes.
#include <bit>
#include <cstring>

#include "formats/error.h"
#include "formats/tokenizer_layout.h"
#include "formats/utf8.h"

namespace lapidary {
namespace {

static_assert(std::endian::native == std::endian::little, "tables are read in place");

// The finalizer of MurmurHash3 (A. Appleby, public domain): spreads every input bit over the word.
uint64_t mix(uint64_t h) {
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdULL;
  h ^= h >> 33;
  h *= 0xc4ceb9fe1a85ec53ULL;
  return h ^ (h >> 33);
}

constexpr const char* kSectionNames[kTokenizerSections] = {
    "strings",    "piece offsets", "piece flags", "vocabulary slots", "merge slots",
    "merged ids", "added ids",     "steps",       "before ids",       "after ids"};

}  // namespace

uint64_t hash_piece(std::string_view piece) {
  uint64_t h = 0xcbf29ce484222325ULL;  // FNV-1a, 64 bit
  for (const unsigned char c : piece) h = (h ^ c) * 0x100000001b3ULL;
  return mix(h);
}

uint64_t hash_pair(uint32_t left, uint32_t right) { return mix(uint64_t{left} << 32 | right); }

template <class T>
std::span<const T> TokenizerView::section(TokenizerSection which) const {
  const auto [offset, count] = header_->sections[which];
  if (offset > bytes_.size() || offset % 8 != 0 || count > (bytes_.size() - offset) / sizeof(T))
    fail(ErrorCode::kBadData,
         "tokenizer tables: section '{}' (offset {}, {} records of {} bytes) is misaligned or "
         "outside the {} bytes given; convert the model again",
         kSectionNames[which], offset, count, sizeof(T), bytes_.size());
  return {reinterpret_cast<const T*>(bytes_.data() + offset), static_cast<size_t>(count)};
}

void TokenizerView::check_ids(std::span<const uint32_t> ids, const char* what) const {
  for (const uint32_t id : ids)
    if (id >= vocab_size())
      fail(ErrorCode::kBadData, "tokenizer tables: {} hold id {}, the vocabulary has {}", what, id,
           vocab_size());
}

TokenizerView::TokenizerView(std::span<const uint8_t> bytes) : bytes_(bytes) {
  if (bytes.size() < sizeof(TokenizerHeader))
    fail(ErrorCode::kBadData, "tokenizer tables: {} bytes, the header alone has {}", bytes.size(),
         sizeof(TokenizerHeader));
  if (reinterpret_cast<uintptr_t>(bytes.data()) % 8 != 0)
    fail(ErrorCode::kBadData, "tokenizer tables: not aligned to 8 bytes");
  header_ = reinterpret_cast<const TokenizerHeader*>(bytes.data());
  if (header_->magic != kTokenizerMagic)
    fail(ErrorCode::kBadData, "tokenizer tables: bad magic, these are not compiled tables");
  if (header_->version != kTokenizerVersion)
    fail(ErrorCode::kBadData,
         "tokenizer tables: version {}, this program reads {}; convert the model again",
         header_->version, kTokenizerVersion);
  if (header_->size_bytes != bytes.size())
    fail(ErrorCode::kBadData, "tokenizer tables: {} bytes, the header says {}", bytes.size(),
         header_->size_bytes);
  if (vocab_size() == 0 || vocab_size() > kMaxVocabSize)
    fail(ErrorCode::kBadData, "tokenizer tables: vocabulary of {}, expected 1 to {}", vocab_size(),
         kMaxVocabSize);

  const auto strings = section<char>(kSectionStrings);
  strings_ = {strings.data(), strings.size()};
  piece_offsets_ = section<uint32_t>(kSectionPieceOffsets);
  piece_flags_ = section<uint8_t>(kSectionPieceFlags);
  vocab_slots_ = section<uint32_t>(kSectionVocabSlots);
  merge_slots_ = section<MergeSlot>(kSectionMergeSlots);
  merged_ids_ = section<uint32_t>(kSectionMergedIds);
  added_ids_ = section<uint32_t>(kSectionAddedIds);
  steps_ = section<TokenizerStep>(kSectionSteps);
  before_ids_ = section<uint32_t>(kSectionBeforeIds);
  after_ids_ = section<uint32_t>(kSectionAfterIds);
  check_tables();
}

void TokenizerView::check_tables() const {
  if (piece_offsets_.size() != vocab_size() + size_t{1} || piece_flags_.size() != vocab_size())
    fail(ErrorCode::kBadData, "tokenizer tables: {} pieces and {} flags for a vocabulary of {}",
         piece_offsets_.size(), piece_flags_.size(), vocab_size());
  for (uint32_t i = 0; i < vocab_size(); ++i)
    if (piece_offsets_[i] > piece_offsets_[i + 1] || piece_offsets_[i + 1] > strings_.size() ||
        !is_valid_utf8(piece(i)))
      fail(ErrorCode::kBadData,
           "tokenizer tables: piece {} lies outside the strings or is not UTF-8", i);

  if (!std::has_single_bit(vocab_slots_.size()) || !std::has_single_bit(merge_slots_.size()))
    fail(ErrorCode::kBadData, "tokenizer tables: {} and {} hash slots, expected powers of two",
         vocab_slots_.size(), merge_slots_.size());
  for (const uint32_t id : vocab_slots_)
    if (id >= vocab_size() && id != kNoToken)
      fail(ErrorCode::kBadData, "tokenizer tables: a vocabulary slot holds id {} of {}", id,
           vocab_size());
  for (const MergeSlot& slot : merge_slots_)
    if (slot.rank >= merged_ids_.size() && slot.rank != kNoToken)
      fail(ErrorCode::kBadData, "tokenizer tables: a merge has rank {} of {}", slot.rank,
           merged_ids_.size());

  check_ids(merged_ids_, "merged ids");
  check_ids(added_ids_, "added ids");
  check_ids(before_ids_, "before ids");
  check_ids(after_ids_, "after ids");
  if (header_->unknown_id != kNoToken) check_ids({&header_->unknown_id, 1}, "the unknown id");
  for (const TokenizerStep& step : steps_)
    if (step.text_offset > strings_.size() ||
        step.text_bytes > strings_.size() - step.text_offset ||
        step.content_offset > strings_.size() ||
        step.content_bytes > strings_.size() - step.content_offset || !is_valid_utf8(text(step)) ||
        !is_valid_utf8(content(step)))
      fail(ErrorCode::kBadData,
           "tokenizer tables: the text of a step lies outside the strings or is not UTF-8");
}

uint32_t TokenizerView::find(std::string_view wanted) const {
  const size_t mask = vocab_slots_.size() - 1;
  size_t slot = hash_piece(wanted) & mask;
  // Bounded: a hostile table may have no empty slot.
  for (size_t probes = 0; probes <= mask; ++probes, slot = (slot + 1) & mask) {
    const uint32_t id = vocab_slots_[slot];
    if (id == kNoToken || piece(id) == wanted) return id;
  }
  return kNoToken;
}

uint32_t TokenizerView::find_merge(uint32_t left, uint32_t right) const {
  const size_t mask = merge_slots_.size() - 1;
  size_t slot = hash_pair(left, right) & mask;
  for (size_t probes = 0; probes <= mask; ++probes, slot = (slot + 1) & mask) {
    const MergeSlot& found = merge_slots_[slot];
    if (found.rank == kNoToken) break;
    if (found.left == left && found.right == right) return found.rank;
  }
  return kNoToken;
}

}  // namespace lapidary
