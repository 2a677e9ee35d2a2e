// POSIX files. Every error says which path, which call failed and what to do about the usual
// causes.
#include "formats/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "formats/error.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_io(const std::string& path, const char* doing, int error) {
  if (error == ENOENT) fail(ErrorCode::kNotFound, "{}: no such file or folder", path);
  const char* advice = error == ENOSPC || error == EDQUOT || error == EFBIG
                           ? "; free some space or choose another place"
                           : "";
  fail(ErrorCode::kIo, "{}: cannot {}: {}{}", path, doing, std::strerror(error), advice);
}

// Opens a regular file for reading and returns its descriptor and size.
int open_regular(const std::string& path, uint64_t& size_bytes) {
  // O_NONBLOCK: a FIFO must be refused below, not waited for here.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail_io(path, "open for reading", errno);
  struct stat info {};
  const int failed = fstat(fd, &info) ? errno : 0;
  if (failed || !S_ISREG(info.st_mode)) {
    close(fd);
    if (failed) fail_io(path, "read its size", failed);
    fail(ErrorCode::kBadData, "{}: not a regular file", path);
  }
  size_bytes = static_cast<uint64_t>(info.st_size);
  return fd;
}

std::string temporary_name(const std::string& path) {
  return path + ".tmp-" + std::to_string(getpid());
}

void sync_parent_folder(const std::string& path) {
  const fs::path parent = fs::absolute(path).parent_path();
  const int fd = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // the rename itself has happened; some file systems cannot sync a folder
  fsync(fd);
  close(fd);
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  uint64_t size_bytes = 0;
  const int fd = open_regular(path, size_bytes);
  if (size_bytes > 0) {
    void* data = mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
    const int error = errno;
    close(fd);
    if (data == MAP_FAILED) fail_io(path, "map into memory", error);
    data_ = static_cast<const uint8_t*>(data);
    size_ = size_bytes;
  } else {
    close(fd);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}

void MappedFile::release(size_t offset, size_t length) const {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = std::min(offset + length, size_) / page * page;
  if (begin < end) madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

ReadFile::ReadFile(const std::string& path) : path_(path) { fd_ = open_regular(path, size_bytes_); }

ReadFile::ReadFile(ReadFile&& other) noexcept { *this = std::move(other); }

ReadFile& ReadFile::operator=(ReadFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

ReadFile::~ReadFile() {
  if (fd_ >= 0) close(fd_);
}

void ReadFile::read_at(uint64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(path_, "read", errno);
    if (n == 0)
      fail(ErrorCode::kBadData, "{}: ends at byte {}, expected {} more; the file is truncated",
           path_, offset + done, out.size() - done);
    done += static_cast<size_t>(n);
  }
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(temporary_name(path)) {
  if (is_folder(path)) fail(ErrorCode::kUsage, "{}: is a folder; name a file to write", path);
  fd_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_io(path_, "create", errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const uint8_t> bytes) {
  write_at(position_, bytes);
  position_ += bytes.size();
}

void AtomicFile::write_at(uint64_t offset, std::span<const uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(path_, "write", errno);
    done += static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  if (fsync(fd_)) fail_io(path_, "write to disk", errno);
  if (rename(temporary_.c_str(), path_.c_str()))
    fail_io(path_, "put the finished file in place", errno);
  close(fd_);
  fd_ = -1;
  sync_parent_folder(path_);
}

AtomicFolder::AtomicFolder(const std::string& path, bool overwrite)
    : path_(path), temporary_(temporary_name(path)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  temporary_ = temporary_name(path_);
  if (path_exists(path_) && !overwrite)
    fail(ErrorCode::kUsage, "{}: already exists; choose another name or give --overwrite", path_);
  std::error_code error;
  fs::remove_all(temporary_, error);
  if (!fs::create_directory(temporary_, error)) fail_io(path_, "create", error.value());
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  // An old folder moves aside first, so that at every moment one whole folder exists.
  const std::string aside = path_ + ".old-" + std::to_string(getpid());
  const bool replaces = path_exists(path_);
  if (replaces && rename(path_.c_str(), aside.c_str())) fail_io(path_, "replace", errno);
  if (rename(temporary_.c_str(), path_.c_str())) {
    const int error = errno;
    if (replaces && rename(aside.c_str(), path_.c_str())) fail_io(aside, "move back", errno);
    fail_io(path_, "put the finished folder in place", error);
  }
  committed_ = true;
  sync_parent_folder(path_);
  std::error_code ignored;
  if (replaces) fs::remove_all(aside, ignored);
}

bool path_exists(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

bool is_folder(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string read_text(const std::string& path, uint64_t limit_bytes) {
  const ReadFile file(path);
  if (file.size_bytes() > limit_bytes)
    fail(ErrorCode::kBadData, "{}: {} bytes, at most {} are accepted here", path, file.size_bytes(),
         limit_bytes);
  std::string text(file.size_bytes(), '\0');
  file.read_at(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return text;
}

void write_text_atomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  file.commit();
}

}  // namespace lapidary
