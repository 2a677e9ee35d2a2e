// Files: a read-only mapping, positioned reads, and output that appears whole or not at all.
//
// AtomicFile and AtomicFolder write under a temporary name beside the target; commit() syncs and
// renames. Whatever leaves the scope without commit() (an Error, Ctrl-C handled as Error) removes
// the temporary. Errors name the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lapidary {

// A file mapped read-only. Movable. Throws kNotFound or kIo.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Tells the kernel that [offset, offset + length) is no longer needed (drops resident pages).
  void release(size_t offset, size_t length) const;
  // Asks for large pages from `offset` on, before they are first touched: what has to come from
  // disk comes in pieces of 2 MiB, and one entry maps a piece. Advice only; where the kernel, the
  // file system or pages read earlier do not allow it, nothing changes.
  void prefer_large_pages(size_t offset) const;

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Positioned reads without mapping: what is read does not count as resident. Thread-safe.
class ReadFile {
 public:
  ReadFile() = default;
  explicit ReadFile(const std::string& path);
  ReadFile(ReadFile&&) noexcept;
  ReadFile& operator=(ReadFile&&) noexcept;
  ~ReadFile();

  uint64_t size_bytes() const { return size_bytes_; }
  const std::string& path() const { return path_; }
  // Fills `out` from `offset`. Throws kBadData when the file ends before, kIo on failure.
  void read_at(uint64_t offset, std::span<uint8_t> out) const;

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_bytes_ = 0;
};

// Output that appears under `path` only after commit().
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();  // removes the temporary unless committed

  // Both gather neighbouring bytes into blocks: a full disk may show as late as commit().
  void write(std::span<const uint8_t> bytes);                      // appends
  void write_at(uint64_t offset, std::span<const uint8_t> bytes);  // does not move the end
  uint64_t position() const { return position_; }                  // bytes appended so far
  void commit();  // fsync, rename, fsync of the folder

 private:
  std::string path_, temporary_;
  int fd_ = -1;
  uint64_t position_ = 0;
  uint64_t waiting_ = 0;           // bytes written that nobody told the disk to take yet
  std::vector<uint8_t> gathered_;  // bytes for gathered_at_ on, within one block
  uint64_t gathered_at_ = 0;
  uint64_t highest_ = 0;  // end of all bytes given so far
  void gather(std::span<const uint8_t> bytes, uint64_t n_bytes);
  void write_gathered();
  void write_out(std::span<const uint8_t> bytes);
};

// A folder written as `path`.tmp-PID and renamed by commit(). An existing `path` is an Error
// (kUsage) unless `overwrite`, which then replaces it at commit().
class AtomicFolder {
 public:
  AtomicFolder(const std::string& path, bool overwrite);
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder();

  const std::string& temporary() const { return temporary_; }  // write files in here
  void commit();

 private:
  std::string path_, temporary_;
  bool committed_ = false;
};

bool path_exists(const std::string& path);
bool is_folder(const std::string& path);
// The whole file. Throws kNotFound, kIo, or kBadData when it is larger than `limit_bytes`.
std::string read_text(const std::string& path, uint64_t limit_bytes = uint64_t{1} << 30);
void write_text_atomically(const std::string& path, std::string_view text);

}  // namespace lapidary
