// Output that appears whole or not at all: temporary name, fsync, rename, fsync of the folder
// above.
//
// The temporary lies beside its target, because rename is atomic within one file system only. Its
// name holds the process id, so two processes never write into each other's; one left behind by a
// crash is replaced.
#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "formats/error.h"
#include "formats/file.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kWritebackBytes = uint64_t{64} << 20;
// A file system keeps in memory what one call writes in pages as large as the call covers whole. In
// pages of this size, x86's larger ones, a mapping is read faster (docs/performance.md).
constexpr uint64_t kBlockBytes = uint64_t{2} << 20;

[[noreturn]] void fail_writing(const std::string& path, int error) {
  const std::string reason = std::system_category().message(error);
  if (error == ENOENT || error == ENOTDIR)
    fail(ErrorCode::kIo, "{}: cannot write: {}; create the folder it shall lie in", path, reason);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    fail(ErrorCode::kIo, "{}: cannot write: {}; free some space or choose another place", path,
         reason);
  fail(ErrorCode::kIo, "{}: cannot write: {}", path, reason);
}

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string temporary_name(const std::string& path) {
  return fmt::format("{}.tmp-{}", path, ::getpid());
}

std::string folder_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// Makes what was written to a file or folder survive a power cut.
void sync_path(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail_writing(path, errno);
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (error != 0 && error != EINVAL) fail_writing(path, error);  // EINVAL: nothing to sync there
}

// Replacing a folder we stand in, or one above it, is never what was meant.
bool holds_current_folder(const std::string& path) {
  std::error_code ignored;
  const fs::path target = fs::canonical(path, ignored);
  for (fs::path p = fs::current_path(ignored);; p = p.parent_path()) {
    if (p == target) return true;
    if (p == p.parent_path()) return false;
  }
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(temporary_name(path)) {
  if (path.empty() || path.back() == '/')
    fail(ErrorCode::kUsage, "'{}': is not a file name; name the output file", path);
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    fail(ErrorCode::kUsage, "{}: is {}; name the output file", path,
         S_ISDIR(info.st_mode) ? "a folder" : "not a regular file");
  ::unlink(temporary_.c_str());
  // O_EXCL: never write through a link that somebody else put there.
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_writing(path_, errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const uint8_t> bytes) {
  write_at(position_, bytes);
  position_ += bytes.size();
}

void AtomicFile::write_at(uint64_t offset, std::span<const uint8_t> bytes) {
  LAPIDARY_CHECK(fd_ >= 0);
  const uint64_t end = gathered_at_ + gathered_.size();
  // Behind everything written so far there is nothing that zeros could replace.
  const bool small_gap = end == highest_ && offset > end && offset - end < kBlockBytes;
  if (gathered_.empty() || (offset != end && !small_gap)) {
    write_gathered();
    gathered_at_ = offset;
  } else if (small_gap) {
    gather({}, offset - end);
  }
  gather(bytes, bytes.size());
  highest_ = std::max(highest_, offset + bytes.size());
}

// Appends `bytes` to the block at hand, zeros if there are none, and writes what becomes whole.
void AtomicFile::gather(std::span<const uint8_t> bytes, uint64_t n_bytes) {
  gathered_.reserve(kBlockBytes);
  for (uint64_t done = 0; done < n_bytes;) {
    const uint64_t at = gathered_at_ + gathered_.size();
    const uint64_t n = std::min(kBlockBytes - at % kBlockBytes, n_bytes - done);
    if (bytes.empty())
      gathered_.resize(gathered_.size() + n);
    else if (n == kBlockBytes)  // nothing is gathered: a whole block goes from where it lies
      write_out(bytes.subspan(done, n));
    else
      gathered_.insert(gathered_.end(), bytes.begin() + static_cast<std::ptrdiff_t>(done),
                       bytes.begin() + static_cast<std::ptrdiff_t>(done + n));
    done += n;
    if ((at + n) % kBlockBytes == 0) write_gathered();
  }
}

void AtomicFile::write_gathered() {
  write_out(gathered_);
  gathered_.clear();
}

// Writes at gathered_at_ and moves it behind.
void AtomicFile::write_out(std::span<const uint8_t> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::pwrite(fd_, bytes.data() + done, bytes.size() - done,
                               static_cast<off_t>(gathered_at_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_writing(path_, errno);
    if (n == 0) fail_writing(path_, ENOSPC);
    done += static_cast<size_t>(n);
  }
  // Left alone, the kernel would keep gigabytes in memory and commit() would wait for all of them.
  // Advice only: where it fails, commit() still syncs.
  waiting_ += bytes.size();
  gathered_at_ += bytes.size();
  if (waiting_ < kWritebackBytes) return;
  waiting_ = 0;
  ::sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WRITE);
}

void AtomicFile::commit() {
  LAPIDARY_CHECK(fd_ >= 0);
  write_gathered();
  if (::fsync(fd_) != 0) fail_writing(path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_writing(path_, errno);
  const int error = ::close(std::exchange(fd_, -1)) == 0 ? 0 : errno;
  if (error != 0 && error != EINTR) fail_writing(path_, error);
  sync_path(folder_of(path_));
}

AtomicFolder::AtomicFolder(const std::string& path, bool overwrite)
    : path_(without_trailing_slashes(path)), temporary_(temporary_name(path_)) {
  const std::string name = fs::path(path_).filename().string();
  if (name.empty() || name == "." || name == "..")
    fail(ErrorCode::kUsage, "'{}': is not a folder name; name the output folder", path);
  if (path_exists(path_)) {
    if (!is_folder(path_)) fail(ErrorCode::kUsage, "{}: is a file; name the output folder", path_);
    if (!overwrite)
      fail(ErrorCode::kUsage, "{}: exists already; choose another name or give --overwrite", path_);
    if (holds_current_folder(path_))
      fail(ErrorCode::kUsage, "{}: holds the current folder, so it is not replaced", path_);
  }
  std::error_code error;
  fs::remove_all(temporary_, error);
  if (::mkdir(temporary_.c_str(), 0777) != 0) {
    const int reason = errno;
    temporary_.clear();
    fail_writing(path_, reason);
  }
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  LAPIDARY_CHECK(!committed_);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(temporary_))
    if (!entry.is_symlink()) sync_path(entry.path().string());
  sync_path(temporary_);

  if (!path_exists(path_)) {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_writing(path_, errno);
    committed_ = true;
  } else {
    // One step exchanges old and new; file systems without it see the old one moved away first.
    const std::string old = path_ + fmt::format(".old-{}", ::getpid());
    const bool exchanged =
        ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0;
    if (!exchanged) {
      if (::rename(path_.c_str(), old.c_str()) != 0) fail_writing(path_, errno);
      if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
        const int error = errno;
        ::rename(old.c_str(), path_.c_str());
        fail_writing(path_, error);
      }
    }
    committed_ = true;
    std::error_code ignored;
    fs::remove_all(exchanged ? temporary_ : old, ignored);
  }
  sync_path(folder_of(path_));
}

void write_text_atomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  file.commit();
}

}  // namespace lapidary
