// The AMX product without AMX: the same code on modelled tile registers gives the reference's bits.
// Once with scalar unpacking, on every machine; once with AVX-512's, where there is AVX-512.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/amx_matmul.h"
#include "tests/kernels/amx_modeled.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

struct ScalarLines {
  template <Code C>
  static void unpack(const PackedGeometry& g, const PanelParts& parts, int64_t tile, int8_t* out) {
    int8_t rows[kPanelRows][kTileK];
    decode_tile(g, parts, tile, rows);
    for (int line = 0; line < 16; ++line)
      for (int byte = 0; byte < 64; ++byte)
        out[64 * line + byte] = rows[byte / 4][4 * line + byte % 4];
  }
  struct Scales {
    float row[kPanelRows];
  };
  static Scales scales(const MatrixView& w, const PanelParts& parts, int64_t block) {
    Scales out;
    for (int row = 0; row < kPanelRows; ++row) out.row[row] = panel_scale(w, parts, block, row);
    return out;
  }
  static void join(const int32_t* sums, const Scales& w_scales, float x_scale, bool first,
                   int64_t n_rows, float* y) {
    for (int row = 0; row < std::min<int64_t>(kPanelRows, n_rows); ++row)
      y[row] = (first ? 0.0f : y[row]) + float(sums[row]) * (w_scales.row[row] * x_scale);
  }
};

using Product = bool (*)(const MatrixView&, int64_t, int64_t, const Int8Activations&, int64_t,
                         float*, int64_t);

struct Input {
  std::vector<int8_t> q;
  std::vector<float> scales;
  Int8Activations view;

  // Full-range integers: -127 and 127 are among them.
  Input(Code code, int64_t n_tokens, int64_t width, uint32_t seed)
      : q(size_t(n_tokens * width)),
        scales(size_t(n_tokens * packed_geometry(code, kPanelRows, width).n_scale_blocks)) {
    std::mt19937 engine(seed);
    for (int8_t& value : q) value = static_cast<int8_t>(int(engine() % 255) - 127);
    for (float& scale : scales) scale = 1e-3f * float(1 + engine() % 1000);
    view = {q.data(), scales.data(), nullptr, width};  // signed products take no sums off
  }
};

constexpr float kUntouched = -12345.0f;

void expect_reference_bits(Product product) {
  const KernelTable& reference = *available_kernels().front();
  struct Shape {
    int64_t rows, k, n_tokens;
  };
  // Half a tile of rows, an odd number of panels; k of one tile, ragged slices and blocks; tokens
  // that fill no tile, one and a bit, more than are handled together.
  for (const auto& [rows, k, n_tokens] :
       {Shape{7, 64, 1}, {16, 96, 16}, {33, 576, 17}, {40, 704, 33}, {48, 2112, 9}, {20, 192, 135}})
    for (const Code code : {Code::kW8, Code::kW6, Code::kW5, Code::kW4, Code::kW3, Code::kT3,
                            Code::kT4, Code::kT5, Code::kT6}) {
      SCOPED_TRACE(std::string(code_name(code)) + ' ' + std::to_string(rows) + " x " +
                   std::to_string(k) + ", " + std::to_string(n_tokens) + " tokens");
      const RandomMatrix w(code, rows, k, 1);
      const Input x(code, n_tokens, w.width, 2);
      const int64_t ldy = rows + 3;
      std::vector<float> expected(size_t(n_tokens * ldy), kUntouched), y = expected;
      reference.matmul_int8(w.view, 0, n_panels(w.view), x.view, n_tokens, expected.data(), ldy);
      ASSERT_TRUE(product(w.view, 0, n_panels(w.view), x.view, n_tokens, y.data(), ldy));
      ASSERT_EQ(y, expected);
      // The last panel alone: the rows before it are somebody else's.
      const int64_t last = n_panels(w.view) - 1;
      std::fill(y.begin(), y.end(), kUntouched);
      ASSERT_TRUE(product(w.view, last, 1, x.view, n_tokens, y.data(), ldy));
      for (int64_t t = 0; t < n_tokens; ++t)
        for (int64_t row = 0; row < ldy; ++row)
          ASSERT_EQ(y[size_t(t * ldy + row)],
                    row < last * kPanelRows ? kUntouched : expected[size_t(t * ldy + row)]);
    }
}

TEST(Amx, TilesGiveTheReferencesBits) {
  expect_reference_bits(&amx::matmul_int8<amx::ModelTiles, ScalarLines>);
}

TEST(Amx, TilesWithAvx512GiveTheReferencesBits) {
  const auto tables = available_kernels();
  if (std::none_of(tables.begin(), tables.end(),
                   [](const KernelTable* t) { return t->isa == Isa::kAvx512; }))
    GTEST_SKIP() << "this CPU has no AVX-512";
#if defined(__x86_64__)
  expect_reference_bits(&amx::matmul_int8_on_model);
#endif
}

TEST(Amx, AScalePerGroupIsLeftToOthers) {
  for (const Code code : {Code::kW4x, Code::kW8x}) {
    const RandomMatrix w(code, 16, 64, 1);
    const Input x(code, 1, 64, 2);
    float y[16];
    EXPECT_FALSE((amx::matmul_int8<amx::ModelTiles, ScalarLines>(w.view, 0, 1, x.view, 1, y, 16)));
  }
}

TEST(Amx, TheConfigurationIsEightWholeRegisters) {
  constexpr amx::TileConfig config = amx::whole_tiles();
  uint8_t bytes[64];
  std::memcpy(bytes, &config, sizeof bytes);
  EXPECT_EQ(bytes[0], 1);  // palette
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(bytes[16 + 2 * i], 64);
    EXPECT_EQ(bytes[17 + 2 * i], 0);
    EXPECT_EQ(bytes[48 + i], 16);
  }
}

}  // namespace
}  // namespace lapidary
