// What users get wrong, through the binary: an output that names an input, numbers outside reason,
// options that exclude each other. Each ends in one line and the documented status, and no input is
// touched.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

class BadInput : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = folder_.file("nano-e.lap");
    convert(*HfSource::open(data_path("nano-e")), model_, {});
    size_ = fs::file_size(model_);
  }
  std::string with_text(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.file(name)) << text;
    return folder_.file(name);
  }

  TemporaryFolder folder_;
  std::string model_;
  uintmax_t size_ = 0;
};

TEST_F(BadInput, NoOutputReplacesItsInputUnderAnyName) {
  const std::string link = folder_.file("link.lap");
  fs::create_symlink(model_, link);
  for (const std::string& output :
       {model_, folder_.file("../") + fs::path(folder_.path()).filename().string() + "/nano-e.lap",
        link}) {
    expect_error(lapidary_command({"quantize", model_, "-o", output}), 64, "same as the input");
    expect_error(lapidary_command({"verify", model_, model_, "--html", output}), 64,
                 "same as the input");
  }
  EXPECT_EQ(fs::file_size(model_), size_);
}

TEST_F(BadInput, ConvertReplacesNoFileOfItsCheckpointButAnEarlierResult) {
  const std::string checkpoint = folder_.file("nano-e");
  fs::copy(data_path("nano-e"), checkpoint);
  const std::string weights = checkpoint + "/model.safetensors";
  const uintmax_t before = fs::file_size(weights);
  expect_error(lapidary_command({"convert", checkpoint, "-o", weights}), 64, "part of the input");
  EXPECT_EQ(fs::file_size(weights), before);
  for (int time = 0; time < 2; ++time)
    EXPECT_EQ(lapidary_command({"convert", checkpoint, "-o", checkpoint + "/m.lap"}).status, 0);
}

TEST_F(BadInput, NumbersOutsideReasonAreWrongUsage) {
  for (const char* margin : {"nan", "inf", "-1", "x"})
    expect_error(lapidary_command({"verify", model_, model_, "--margin-nats", margin}), 64,
                 "--margin-nats");
  for (const char* limit : {"-1", "99999999999999999999", "9223372036854775807"})
    expect_error(lapidary_command({"eval", model_, "--text", "x", "--limit-tokens", limit}), 64,
                 "--limit-tokens");
  expect_error(lapidary_command({"run", model_, "-p", "x", "--context", "1000000000000"}), 64,
               "--context");
  expect_error(lapidary_command({"run", model_, "-p", "x", "--threads", "100000"}), 64,
               "--threads");
  for (const char* seed : {"-1", "18446744073709551616"})
    expect_error(lapidary_command({"run", model_, "-p", "x", "--seed", seed}), 64, "--seed");
}

TEST_F(BadInput, OptionsThatExcludeEachOtherAreWrongUsage) {
  const std::string text = with_text("text.txt", "hello");
  expect_error(lapidary_command({"run", model_, "chat", "-p", "hello"}), 64, "chat");
  expect_error(lapidary_command({"run", model_, "-p", "hello", "-f", text}), 64, "not both");
  expect_error(lapidary_command({"tokenize", model_, "-p", "hello", "--text", text}), 64, "one of");
  expect_error(lapidary_command({"tokenize", model_, "-p", "hello", "--tools", text}), 64,
               "--chat");
  const std::string report = folder_.file("report");
  expect_error(lapidary_command({"verify", model_, model_, "--html", report, "--junit", report}),
               64, "each its own file");
}

TEST_F(BadInput, BrokenMessagesAndToolsAre65) {
  for (const char* broken : {"", "{", "[1,2", "{\"role\": \"user\"}", "[1]", "\xff\xfe"}) {
    const std::string file = with_text("messages.json", broken);
    expect_error(lapidary_command({"tokenize", model_, "--chat", file}), 65, "lapidary: ");
    expect_error(lapidary_command({"run", model_, "-p", "x", "--tools", file}), 65, "lapidary: ");
  }
}

TEST_F(BadInput, TheMessageNamesTheFileThatWasGiven) {
  const std::string file = with_text("words.json", "{");
  expect_error(lapidary_command({"tokenize", file, "-p", "x"}), 65, "words.json: ");
  for (const char* command : {"convert", "quantize"})
    expect_error(lapidary_command({command, "", "-o", "x.lap"}), 66, "'': no such ");
  expect_error(lapidary_command({"run", "", "-p", "x"}), 66, "'': no such file");
}

TEST_F(BadInput, AFolderOrDeviceIsNoModelAndNoText) {
  for (const char* command : {"run", "eval", "inspect", "tokenize"})
    EXPECT_NE(lapidary_command({command, folder_.path()}).status, 0) << command;
  expect_error(lapidary_command({"run", "/dev/zero", "-p", "x"}), 65, "/dev/zero");
  expect_error(lapidary_command({"run", folder_.path(), "-p", "x"}), 65, "is a folder");
  expect_error(lapidary_command({"eval", model_, "--text", "/dev/zero"}), 65, "/dev/zero");
  expect_error(lapidary_command({"convert", "/dev/zero", "-o", "x.lap"}), 64, "not a folder");
}

TEST_F(BadInput, AReportThatCannotBeWrittenIs74) {
  RunLimits limits;
  limits.file_bytes = 8;  // stdout is a file here
  EXPECT_EQ(lapidary_command({"tokenize", model_, "-p", "hello", "--json"}, limits).status, 74);
  EXPECT_EQ(lapidary_command({"inspect", model_, "--json"}, limits).status, 74);
}

TEST_F(BadInput, QuantizeSaysWhichKeepPatternNamesNothing) {
  const Outcome o = lapidary_command({"quantize", model_, "--dry-run", "--json", "--keep",
                                      "*norm*=bf16", "--keep", "*.no_such.*=w8"});
  EXPECT_EQ(o.status, 0);
  EXPECT_NE(o.err.find("*.no_such.*"), std::string::npos) << o.err;
  EXPECT_EQ(o.err.find("*norm*"), std::string::npos) << o.err;
}

}  // namespace
}  // namespace lapidary
