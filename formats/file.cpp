// Reading files: mapped or with pread. Output is in atomic_file.cpp.
//
// Files are opened with O_NONBLOCK, so that a pipe given by mistake is refused at once instead of
// blocking forever; the flag means nothing for regular files.
#include "formats/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "formats/error.h"

namespace lapidary {
namespace {

[[noreturn]] void fail_reading(const std::string& path, int error) {
  const std::string reason = std::system_category().message(error);
  if (error == ENOENT || error == ENOTDIR)
    fail(ErrorCode::kNotFound, "'{}': no such file; check the path", path);
  fail(ErrorCode::kIo, "{}: cannot read: {}", path, reason);
}

struct OpenFile {
  int fd;
  uint64_t size_bytes;
};

OpenFile open_regular(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail_reading(path, errno);
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    ::close(fd);
    fail_reading(path, error);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    fail(ErrorCode::kBadData, "{}: is {}, expected a regular file", path,
         S_ISDIR(info.st_mode) ? "a folder" : "a pipe or device");
  }
  return {fd, static_cast<uint64_t>(info.st_size)};
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const OpenFile file = open_regular(path);
  size_ = file.size_bytes;
  void* address = nullptr;  // mmap refuses length 0; an empty file is an empty span
  if (size_ > 0) address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
  const int error = errno;
  ::close(file.fd);
  if (address == MAP_FAILED) fail_reading(path, error);
  data_ = static_cast<const uint8_t*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
}

void MappedFile::release(size_t offset, size_t length) const {
  LAPIDARY_CHECK(offset <= size_ && length <= size_ - offset);
  if (length == 0) return;
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page * page;  // pages of neighbours are read again when needed
  ::madvise(const_cast<uint8_t*>(data_) + begin, offset + length - begin, MADV_DONTNEED);
}

void MappedFile::prefer_large_pages(size_t offset) const {
  LAPIDARY_CHECK(offset <= size_);
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page * page;
  if (begin < size_) ::madvise(const_cast<uint8_t*>(data_) + begin, size_ - begin, MADV_HUGEPAGE);
}

ReadFile::ReadFile(const std::string& path) : path_(path) {
  const OpenFile file = open_regular(path);
  fd_ = file.fd;
  size_bytes_ = file.size_bytes;
}

ReadFile::ReadFile(ReadFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

ReadFile& ReadFile::operator=(ReadFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

ReadFile::~ReadFile() {
  if (fd_ >= 0) ::close(fd_);
}

void ReadFile::read_at(uint64_t offset, std::span<uint8_t> out) const {
  if (offset > size_bytes_ || out.size() > size_bytes_ - offset)
    fail(ErrorCode::kBadData,
         "{}: ends after {} bytes, but {} bytes from {} on are needed; the file is cut off, get it "
         "again",
         path_, size_bytes_, out.size(), offset);
  for (size_t done = 0; done < out.size();) {
    const ssize_t n =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_reading(path_, errno);
    if (n == 0) fail(ErrorCode::kBadData, "{}: became shorter while it was read", path_);
    done += static_cast<size_t>(n);
  }
}

bool path_exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

bool is_folder(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string read_text(const std::string& path, uint64_t limit_bytes) {
  const ReadFile file(path);
  if (file.size_bytes() > limit_bytes)
    fail(ErrorCode::kBadData, "{}: has {} bytes, more than the {} expected at most", path,
         file.size_bytes(), limit_bytes);
  std::string text(file.size_bytes(), '\0');
  file.read_at(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return text;
}

}  // namespace lapidary
