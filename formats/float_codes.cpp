// Plain loops; the compiler vectorizes the bf16 and f32 ones.
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

// All exponent bits set means NaN or infinity.
template <class Word>
bool any_with(std::span<const uint8_t> raw, Word exponent) {
  bool found = false;
  for (size_t i = 0; i + sizeof(Word) <= raw.size(); i += sizeof(Word))
    found |= (load<Word>(raw.data() + i) & exponent) == exponent;
  return found;
}

}  // namespace

void decode_floats(Code code, std::span<const uint8_t> raw, std::span<float> values) {
  LAPIDARY_CHECK(traits(code).is_float && raw.size() * 8 == values.size() * traits(code).bits);
  const uint8_t* bytes = raw.data();
  if (code == Code::kF32) {
    if (!raw.empty()) std::memcpy(values.data(), bytes, raw.size());
  } else if (code == Code::kBF16) {
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = bf16_to_float(load<uint16_t>(bytes + 2 * i));
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
