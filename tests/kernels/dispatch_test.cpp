// The table is chosen by CPU and cap; an unknown cap is the user's mistake.
#include <gtest/gtest.h>

#include "formats/error.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

TEST(Dispatch, TheReferenceIsAlwaysThereAndFirst) {
  ASSERT_FALSE(available_kernels().empty());
  EXPECT_EQ(available_kernels().front()->isa, Isa::kReference);
  EXPECT_EQ(kernels_up_to("reference").isa, Isa::kReference);
}

TEST(Dispatch, TheWidestAllowedTableIsTaken) {
  EXPECT_EQ(&kernels_up_to("amx"), available_kernels().back());
  for (const KernelTable* table : available_kernels())
    EXPECT_EQ(&kernels_up_to(table->name), table);
}

TEST(Dispatch, EveryEntryOfEveryTableIsFilled) {
  for (const KernelTable* table : available_kernels()) {
    SCOPED_TRACE(std::string(table->name));
    EXPECT_TRUE(table->rotate && table->quantize && table->matmul_float && table->matmul_int8);
    EXPECT_TRUE(table->dequantize_rows && table->rms_norm && table->rope && table->gelu_mul);
    EXPECT_TRUE(table->attend_page && table->merge_attention && table->finish_attention);
    EXPECT_TRUE(table->silu_mul && table->add && table->softcap && table->float_to_bf16);
    EXPECT_TRUE(table->add_outer_products);
  }
}

TEST(Dispatch, AnUnknownNameIsAUsageErrorThatListsTheKnownOnes) {
  try {
    kernels_up_to("sse9");
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("sse9"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("avx2"), std::string::npos);
  }
}

}  // namespace
}  // namespace lapidary
