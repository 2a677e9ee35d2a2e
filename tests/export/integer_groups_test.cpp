// Indices, scales and bytes against what the other packages store (tests/data/export), and the
// distance of rounded weights.
#include "export/integer_groups.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "formats/dtype.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

std::vector<uint8_t> from_hex(const std::string& text) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::vector<float> floats_from_hex(const std::string& text) {
  const std::vector<uint8_t> bytes = from_hex(text);
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), values.size() * 4);
  return values;
}

TEST(IntegerGroups, PackedAsCompressedTensorsAndMlxDo) {
  std::ifstream file(data_path("export/integer_groups.txt"));
  std::string package, packed_hex, scales_hex, biases_hex, weights_hex;
  int bits, group, rows, k, n_cases = 0;
  while (file >> package >> bits >> group >> rows >> k >> packed_hex >> scales_hex >> biases_hex >>
         weights_hex) {
    const std::vector<float> scales = floats_from_hex(scales_hex);
    const std::vector<float> biases = floats_from_hex(biases_hex);
    const std::vector<float> weights = floats_from_hex(weights_hex);
    ASSERT_EQ(weights.size(), static_cast<size_t>(rows * k));
    const size_t per_scale = static_cast<size_t>(group == 0 ? k : group);
    std::vector<uint8_t> indices;
    for (size_t i = 0; i < weights.size(); ++i) {
      const size_t g = i / per_scale;
      const float bias =
          biases.empty() ? -scales[g] * static_cast<float>(1 << (bits - 1)) : biases[g];
      indices.push_back(static_cast<uint8_t>(std::lround((weights[i] - bias) / scales[g])));
    }
    std::vector<uint8_t> packed(indices.size() * static_cast<size_t>(bits) / 8);
    pack_indices(bits, indices, packed);
    EXPECT_EQ(packed, from_hex(packed_hex)) << package << " " << bits << " bits";
    ++n_cases;
  }
  EXPECT_EQ(n_cases, 5);
}

std::vector<float> gaussian(size_t n) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

float bf16_at(std::span<const uint8_t, 2> bytes) {
  return bf16_to_float(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
}

// One group: its scale, and its bias.
float symmetric(int bits, std::span<const float> x, std::span<uint8_t> indices) {
  std::array<uint8_t, 2> scale;
  round_symmetric(bits, x.size(), x, indices, scale);
  return bf16_at(scale);
}
struct Line {
  float scale, bias;
};
Line affine(int bits, std::span<const float> x, std::span<uint8_t> indices) {
  std::array<uint8_t, 2> scale, bias;
  round_affine(bits, x.size(), x, indices, scale, bias);
  return {bf16_at(scale), bf16_at(bias)};
}

// ||x - x'||^2 / ||x||^2 over groups of 32.
template <class Decode>
double relative_error(const std::vector<float>& values, Decode&& decode) {
  double error = 0, square = 0;
  for (size_t i = 0; i < values.size(); i += 32) {
    const std::vector<float> back = decode(std::span(values).subspan(i, 32));
    for (size_t j = 0; j < 32; ++j) {
      error += std::pow(back[j] - values[i + j], 2);
      square += std::pow(values[i + j], 2);
    }
  }
  return error / square;
}

double symmetric_error(int bits) {
  return relative_error(gaussian(32 * 500), [&](std::span<const float> x) {
    std::vector<uint8_t> indices(x.size());
    const float scale = symmetric(bits, x, indices);
    std::vector<float> back;
    for (const uint8_t q : indices)
      back.push_back(scale * static_cast<float>(q - (1 << (bits - 1))));
    return back;
  });
}

double affine_error(int bits) {
  return relative_error(gaussian(32 * 500), [&](std::span<const float> x) {
    std::vector<uint8_t> indices(x.size());
    const Line line = affine(bits, x, indices);
    std::vector<float> back;
    for (const uint8_t q : indices) back.push_back(line.scale * static_cast<float>(q) + line.bias);
    return back;
  });
}

// Windows around what Gaussian weights give; Q4_0 with a searched fp16 scale has 0.0065.
TEST(IntegerGroups, RoundingStaysWithinItsDistortion) {
  EXPECT_GT(symmetric_error(4), 0.0060);
  EXPECT_LT(symmetric_error(4), 0.0070);
  EXPECT_LT(symmetric_error(8), 3.5e-5);
  EXPECT_GT(affine_error(4), 0.0045);
  EXPECT_LT(affine_error(4), 0.0055);
  EXPECT_LT(affine_error(8), 2.5e-5);
}

TEST(IntegerGroups, ZeroTinyAndHugeGroupsStayFinite) {
  for (const float value : {0.0f, 1e-40f, -1e-38f, 3e38f, -3e38f}) {
    const std::vector<float> x(32, value);
    std::vector<uint8_t> indices(32);
    for (const int bits : {4, 8}) {
      const float scale = symmetric(bits, x, indices);
      EXPECT_TRUE(std::isfinite(scale)) << value;
      const Line line = affine(bits, x, indices);
      EXPECT_TRUE(std::isfinite(line.scale) && std::isfinite(line.bias));
    }
  }
}

}  // namespace
}  // namespace lapidary
