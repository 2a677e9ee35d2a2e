// Hashes are those of XXH3-128 as published, and a set's identity depends on its weights only.
#include "formats/hash.h"

#include <gtest/gtest.h>

#include <numeric>

namespace lapidary {
namespace {

TEST(Hash, IsXxh3WithSeedZero) {
  // XXH3_128bits of no bytes, from xxHash's own specification: a file made today stays valid.
  EXPECT_EQ(to_hex(hash_bytes({})), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash, InPiecesEqualsWhole) {
  std::vector<uint8_t> bytes(10001);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  StreamingHash first;
  const std::span<const uint8_t> all(bytes);
  for (size_t at = 0; at < 5000; at += 7)
    first.update(all.subspan(at, std::min<size_t>(7, 5000 - at)));
  StreamingHash rest = std::move(first);
  rest.update(all.subspan(5000));
  EXPECT_EQ(rest.digest(), hash_bytes(bytes));
}

TEST(ContentHash, IgnoresOrderAndSeesEveryField) {
  const TensorIdentity a{"a", Code::kW4, {2, 3}, {1, 2}};
  const TensorIdentity b{"b", Code::kBF16, {6}, {3, 4}};
  const std::string both = content_hash({a, b});
  EXPECT_EQ(both.size(), 32u);
  EXPECT_EQ(content_hash({b, a}), both);

  std::vector<TensorIdentity> changed(5, a);
  changed[0].name = "c";
  changed[1].code = Code::kW3;
  changed[2].shape = {3, 2};
  changed[3].hash.low = 9;
  changed[4].hash.high = 9;
  for (const TensorIdentity& other : changed) EXPECT_NE(content_hash({other, b}), both);
  EXPECT_NE(content_hash({a}), both);
}

}  // namespace
}  // namespace lapidary
