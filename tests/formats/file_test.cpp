// Reading refuses what is not a whole regular file; output appears whole or not at all.
#include "formats/file.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <vector>

#include "tests/formats/error_of.h"
#include "tests/test_data.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

void put(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

size_t files_in(const std::string& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
}

TEST(MappedFile, ShowsTheBytesAndSurvivesMoveAndRelease) {
  TemporaryFolder folder;
  const std::string text(100000, 'x');
  put(folder.file("a"), text);
  MappedFile first(folder.file("a"));
  MappedFile file = std::move(first);
  EXPECT_TRUE(first.bytes().empty());
  file.release(5000, 90000);
  ASSERT_EQ(file.bytes().size(), text.size());
  EXPECT_EQ(std::string(file.bytes().begin(), file.bytes().end()), text);
}

TEST(MappedFile, MapsAnEmptyFile) {
  TemporaryFolder folder;
  put(folder.file("empty"), "");
  MappedFile file(folder.file("empty"));
  EXPECT_EQ(file.bytes().size(), 0u);
  file.release(0, 0);
}

TEST(ReadFile, RefusesFoldersPipesAndMissingFilesByName) {
  TemporaryFolder folder;
  ASSERT_EQ(mkfifo(folder.file("pipe").c_str(), 0600), 0);
  Error e = error_of([&] { ReadFile f(folder.path()); });
  EXPECT_EQ(e.code(), ErrorCode::kBadData);
  EXPECT_NE(std::string(e.what()).find("folder"), std::string::npos) << e.what();
  e = error_of([&] { MappedFile f(folder.file("pipe")); });  // must not block
  EXPECT_EQ(e.code(), ErrorCode::kBadData);
  e = error_of([&] { ReadFile f(folder.file("none")); });
  EXPECT_EQ(e.code(), ErrorCode::kNotFound);
  EXPECT_NE(std::string(e.what()).find(folder.file("none")), std::string::npos) << e.what();
}

TEST(ReadFile, ReadsInsideAndRefusesToReadPastTheEnd) {
  TemporaryFolder folder;
  put(folder.file("a"), "0123456789");
  const ReadFile file(folder.file("a"));
  std::vector<uint8_t> out(4);
  file.read_at(6, out);
  EXPECT_EQ(std::string(out.begin(), out.end()), "6789");
  file.read_at(10, {});
  EXPECT_EQ(error_of([&] { file.read_at(7, out); }).code(), ErrorCode::kBadData);
  EXPECT_EQ(error_of([&] { file.read_at(UINT64_MAX - 1, out); }).code(), ErrorCode::kBadData);
}

TEST(ReadText, RefusesAFileAboveTheLimit) {
  TemporaryFolder folder;
  put(folder.file("a"), "0123456789");
  EXPECT_EQ(read_text(folder.file("a"), 10), "0123456789");
  EXPECT_EQ(error_of([&] { read_text(folder.file("a"), 9); }).code(), ErrorCode::kBadData);
}

TEST(AtomicFile, ReplacesTheTargetOnlyAtCommit) {
  TemporaryFolder folder;
  const std::string path = folder.file("out");
  put(path, "old");
  AtomicFile file(path);
  file.write(bytes_of("headNEW"));
  file.write_at(0, bytes_of("HEAD"));
  file.write(bytes_of("!"));
  EXPECT_EQ(file.position(), 8u);
  EXPECT_EQ(read_text(path), "old");
  file.commit();
  EXPECT_EQ(read_text(path), "HEADNEW!");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

// Neighbours are gathered in blocks of 2 MiB: pieces within, across and beyond a block, gaps, and
// bytes replaced before and after their block went to the file.
TEST(AtomicFile, HoldsWhatWasWrittenInAnyOrder) {
  TemporaryFolder folder;
  const std::string path = folder.file("out");
  constexpr uint64_t kMiB = 1 << 20;
  const std::pair<uint64_t, uint64_t> pieces[] = {
      {100, 50},          {200, kMiB},          {200 + kMiB, 5 * kMiB}, {7 * kMiB, 10},
      {7 * kMiB + 3, 4},  {150, 2000},          {12 * kMiB, 4 * kMiB},  {9 * kMiB, 8},
      {9 * kMiB + 70, 8}, {16 * kMiB + 64, 64}, {16 * kMiB, 32},        {4 * kMiB, 1}};
  std::string expected(16 * kMiB + 128, '\0');
  AtomicFile file(path);
  uint8_t next = 0;
  for (const auto& [offset, n] : pieces) {
    std::vector<uint8_t> bytes(n);
    for (uint64_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(++next | 1);
    file.write_at(offset, bytes);
    std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  file.commit();
  EXPECT_TRUE(read_text(path) == expected);  // no megabytes of difference on the terminal
}

TEST(AtomicFile, LeavesNothingBehindWhenAnErrorPasses) {
  TemporaryFolder folder;
  error_of([&] {
    AtomicFile file(folder.file("out"));
    file.write(bytes_of("half"));
    fail(ErrorCode::kInterrupted, "interrupted");
  });
  EXPECT_EQ(files_in(folder.path()), 0u);
}

TEST(AtomicFile, RefusesAFolderADeviceAndAMissingParent) {
  TemporaryFolder folder;
  EXPECT_EQ(error_of([&] { AtomicFile f(folder.path()); }).code(), ErrorCode::kUsage);
  EXPECT_EQ(error_of([&] { AtomicFile f("/dev/null"); }).code(), ErrorCode::kUsage);
  EXPECT_EQ(error_of([&] { AtomicFile f(""); }).code(), ErrorCode::kUsage);
  EXPECT_EQ(error_of([&] { AtomicFile f(folder.file("no/where")); }).code(), ErrorCode::kIo);
}

// A full disk, by way of the limit on file sizes: writes beyond it fail like ENOSPC does. In a
// child process, because the limit cannot be raised again by everybody.
TEST(AtomicFile, FullDiskIsAnErrorThatNamesThePathAndLeavesNothing) {
  TemporaryFolder folder;
  const std::string path = folder.file("out");
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{8192, 8192};
    setrlimit(RLIMIT_FSIZE, &limit);
    int status = 1;
    try {
      AtomicFile file(path);
      const std::vector<uint8_t> block(5000);
      file.write(block);
      file.write(block);
      file.commit();  // the kernel takes 8192 bytes, then refuses
    } catch (const Error& e) {
      const bool clear = std::string(e.what()).find(path) == 0 &&
                         std::string(e.what()).find("space") != std::string::npos;
      status = e.code() == ErrorCode::kIo && clear ? 0 : 2;
    }
    _exit(status);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(files_in(folder.path()), 0u);
}

TEST(AtomicFolder, AppearsWholeAndKeepsNothingWithoutCommit) {
  TemporaryFolder folder;
  {
    AtomicFolder out(folder.file("d"), false);
    put(out.temporary() + "/f", "x");
  }
  EXPECT_EQ(files_in(folder.path()), 0u);
  AtomicFolder out(folder.file("d/"), false);
  put(out.temporary() + "/f", "x");
  EXPECT_FALSE(path_exists(folder.file("d")));
  out.commit();
  EXPECT_EQ(read_text(folder.file("d/f")), "x");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFolder, ReplacesAnExistingFolderOnlyWhenTold) {
  TemporaryFolder folder;
  const std::string path = folder.file("d");
  fs::create_directory(path);
  put(path + "/old", "x");
  EXPECT_EQ(error_of([&] { AtomicFolder f(path, false); }).code(), ErrorCode::kUsage);
  AtomicFolder out(path, true);
  put(out.temporary() + "/new", "y");
  EXPECT_TRUE(path_exists(path + "/old"));
  out.commit();
  EXPECT_FALSE(path_exists(path + "/old"));
  EXPECT_EQ(read_text(path + "/new"), "y");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFolder, NeverReplacesAFileOrTheFolderWeStandIn) {
  TemporaryFolder folder;
  put(folder.file("f"), "x");
  EXPECT_EQ(error_of([&] { AtomicFolder f(folder.file("f"), true); }).code(), ErrorCode::kUsage);
  const std::string here = fs::current_path().string();
  EXPECT_EQ(error_of([&] { AtomicFolder f(here, true); }).code(), ErrorCode::kUsage);
  EXPECT_EQ(error_of([&] { AtomicFolder f("..", true); }).code(), ErrorCode::kUsage);
}

}  // namespace
}  // namespace lapidary
