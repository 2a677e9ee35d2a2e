// The fixture of tests that give the binary a model: nano-e, converted once for all tests of a
// suite.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {

class ConvertedModel : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    model_ = folder_->file("nano-e.lap");
    const Outcome o = lapidary_command({"convert", data_path("nano-e"), "-o", model_, "--quiet"});
    ASSERT_EQ(o.status, 0) << o.err;
  }
  static void TearDownTestSuite() { delete folder_; }

  static inline TemporaryFolder* folder_ = nullptr;
  static inline std::string model_;
};

}  // namespace lapidary
