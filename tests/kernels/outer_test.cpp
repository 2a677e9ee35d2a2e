// Sums of outer products: every table against sums in double, at lengths around a piece of 64.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "tests/kernels/random_values.h"

namespace lapidary {
namespace {

TEST(OuterProducts, AddTheSumOverAllK) {
  constexpr int64_t kLdc = 70;  // rows of c not on vector boundaries
  for (const KernelTable* table : available_kernels())
    for (const int64_t n_k : {0, 1, 16, 63, 64, 65, 200}) {
      const auto a = random_floats(static_cast<size_t>(n_k * kOuterTile), 1);
      const auto b = random_floats(static_cast<size_t>(n_k * kOuterTile), 2);
      std::vector<float> c(kLdc * kOuterTile, 3.0f);
      table->add_outer_products(a.data(), b.data(), n_k, c.data(), kLdc);
      for (int i = 0; i < kOuterTile; ++i)
        for (int j = 0; j < kLdc; ++j) {
          double sum = 3, magnitude = 3;
          for (int64_t k = 0; k < n_k && j < kOuterTile; ++k) {
            const double product = double{a[k * kOuterTile + i]} * b[k * kOuterTile + j];
            sum += product;
            magnitude += std::fabs(product);
          }
          // At most 64 roundings in a piece and one per piece.
          ASSERT_NEAR(c[i * kLdc + j], sum, 68 * 6e-8 * magnitude)
              << table->name << " " << n_k << " " << i << " " << j;
        }
    }
}

// Blocking by rows and columns is invisible: an element does not depend on its place in the tile.
TEST(OuterProducts, TreatAllElementsAlike) {
  constexpr int64_t kN = 100;
  for (const KernelTable* table : available_kernels()) {
    const auto one = random_floats(kN, 3);
    std::vector<float> a(kN * kOuterTile), c(kOuterTile * kOuterTile, 0.0f);
    for (int64_t k = 0; k < kN; ++k)
      for (int i = 0; i < kOuterTile; ++i) a[k * kOuterTile + i] = one[k];
    table->add_outer_products(a.data(), a.data(), kN, c.data(), kOuterTile);
    for (const float value : c) ASSERT_EQ(value, c[0]) << table->name;
  }
}

}  // namespace
}  // namespace lapidary
