// Plain loops, cut into pieces of a fixed length over local arrays where speed matters: those the
// compiler turns into vectors.
#include "formats/float_codes.h"

#include <cstring>

#include "formats/dtype.h"
#include "formats/error.h"

namespace lapidary {
namespace {

template <class Word>
Word load(const uint8_t* bytes) {
  Word word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

constexpr size_t kPiece = 32;  // values, or words, at a time

void decode_bf16(const uint8_t* bytes, size_t n, float* values) {
  size_t i = 0;
  for (; i + kPiece <= n; i += kPiece) {
    uint16_t words[kPiece];
    uint32_t wide[kPiece];
    std::memcpy(words, bytes + 2 * i, sizeof words);
    for (size_t j = 0; j < kPiece; ++j) wide[j] = uint32_t{words[j]} << 16;
    std::memcpy(values + i, wide, sizeof wide);
  }
  for (; i < n; ++i) values[i] = bf16_to_float(load<uint16_t>(bytes + 2 * i));
}

// All exponent bits set means NaN or infinity. Several values are looked at in one word: adding the
// exponent's lowest bit to the exponent alone reaches the sign's place then and only then.
template <class Word>
bool any_with(std::span<const uint8_t> raw, Word exponent) {
  constexpr uint64_t kOnes = ~uint64_t{0} / static_cast<Word>(~Word{0});  // 1 in every value
  const uint64_t mask = kOnes * exponent;
  const uint64_t lowest = kOnes * static_cast<Word>(exponent & (~exponent + 1u));
  const uint64_t signs = kOnes << (8 * sizeof(Word) - 1);
  uint64_t found = 0;
  size_t i = 0;
  for (; i + 8 * kPiece <= raw.size(); i += 8 * kPiece) {
    uint64_t words[kPiece];
    std::memcpy(words, raw.data() + i, sizeof words);
    for (size_t j = 0; j < kPiece; ++j) found |= (words[j] & mask) + lowest;
  }
  bool rest = false;
  for (; i + sizeof(Word) <= raw.size(); i += sizeof(Word))
    rest |= (load<Word>(raw.data() + i) & exponent) == exponent;
  return rest || (found & signs) != 0;
}

}  // namespace

void decode_floats(Code code, std::span<const uint8_t> raw, std::span<float> values) {
  LAPIDARY_CHECK(traits(code).is_float && raw.size() * 8 == values.size() * traits(code).bits);
  const uint8_t* bytes = raw.data();
  if (code == Code::kF32) {
    if (!raw.empty()) std::memcpy(values.data(), bytes, raw.size());
  } else if (code == Code::kBF16) {
    decode_bf16(bytes, values.size(), values.data());
  } else {
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = f16_to_float(load<uint16_t>(bytes + 2 * i));
  }
}

void encode_floats(Code code, std::span<const float> values, std::span<uint8_t> raw) {
  LAPIDARY_CHECK(traits(code).is_float && raw.size() * 8 == values.size() * traits(code).bits);
  if (code == Code::kF32) {
    if (!raw.empty()) std::memcpy(raw.data(), values.data(), raw.size());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t word = code == Code::kBF16 ? float_to_bf16(values[i]) : float_to_f16(values[i]);
    std::memcpy(raw.data() + 2 * i, &word, sizeof word);
  }
}

bool has_nonfinite(Code code, std::span<const uint8_t> raw) {
  switch (code) {
    case Code::kBF16:
      return any_with<uint16_t>(raw, 0x7f80);
    case Code::kF16:
      return any_with<uint16_t>(raw, 0x7c00);
    default:
      return any_with<uint32_t>(raw, 0x7f800000u);
  }
}

}  // namespace lapidary
