// An example is its ids, then one bit per token that says whether it is learned.
#include "finetune/example_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "finetune/token_row.h"
#include "formats/error.h"

namespace lapidary {
namespace {

size_t stored_bytes(int64_t n_tokens) {
  const auto n = static_cast<size_t>(n_tokens);
  return n * sizeof(int32_t) + (n + 7) / 8;
}

int open_nameless(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
  std::string name = folder + "/lapidary-examples-XXXXXX";  // file systems without O_TMPFILE
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

[[noreturn]] void fail_on_disk(const std::string& folder, const char* what) {
  fail(ErrorCode::kIo, "{}: cannot {} examples that do not fit into memory: {}", folder, what,
       std::system_category().message(errno));
}

}  // namespace

ExampleStore::ExampleStore(std::string folder, size_t memory_bytes)
    : folder_(std::move(folder)), memory_bytes_(memory_bytes) {}

ExampleStore::ExampleStore(ExampleStore&& other) noexcept
    : folder_(std::move(other.folder_)),
      memory_bytes_(other.memory_bytes_),
      lengths_(std::move(other.lengths_)),
      places_(std::move(other.places_)),
      waiting_(std::move(other.waiting_)),
      written_(other.written_),
      fd_(std::exchange(other.fd_, -1)) {}

ExampleStore::~ExampleStore() {
  if (fd_ >= 0) ::close(fd_);
}

void ExampleStore::add(const Example& example) {
  const auto n = static_cast<int64_t>(example.ids.size());
  const size_t begin = waiting_.size();
  places_.push_back(written_ + begin);
  lengths_.push_back(n);
  waiting_.resize(begin + stored_bytes(n), 0);
  uint8_t* out = waiting_.data() + begin;
  std::memcpy(out, example.ids.data(), example.ids.size() * sizeof(int32_t));
  out += example.ids.size() * sizeof(int32_t);
  for (size_t t = 0; t < example.labels.size(); ++t)
    if (example.labels[t] != kNotLearned) out[t / 8] |= static_cast<uint8_t>(1u << t % 8);
  if (waiting_.size() > memory_bytes_) write_out();
}

void ExampleStore::write_out() {
  if (fd_ < 0) fd_ = open_nameless(folder_);
  if (fd_ < 0) fail_on_disk(folder_, "keep");
  for (size_t done = 0; done < waiting_.size();) {
    const ssize_t n = ::pwrite(fd_, waiting_.data() + done, waiting_.size() - done,
                               static_cast<off_t>(written_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_on_disk(folder_, "write");
    done += static_cast<size_t>(n);
  }
  written_ += waiting_.size();
  waiting_.clear();
}

Example ExampleStore::read(int64_t index) const {
  const int64_t n = lengths_[static_cast<size_t>(index)];
  const uint64_t place = places_[static_cast<size_t>(index)];
  std::vector<uint8_t> from_disk;
  const uint8_t* in = nullptr;
  if (place >= written_) {
    in = waiting_.data() + (place - written_);
  } else {
    from_disk.resize(stored_bytes(n));
    for (size_t done = 0; done < from_disk.size();) {
      const ssize_t got = ::pread(fd_, from_disk.data() + done, from_disk.size() - done,
                                  static_cast<off_t>(place + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) fail_on_disk(folder_, "read");
      done += static_cast<size_t>(got);
    }
    in = from_disk.data();
  }
  Example example;
  example.ids.resize(static_cast<size_t>(n));
  std::memcpy(example.ids.data(), in, example.ids.size() * sizeof(int32_t));
  in += example.ids.size() * sizeof(int32_t);
  example.labels.assign(example.ids.size(), kNotLearned);
  for (size_t t = 0; t < example.ids.size(); ++t)
    if (in[t / 8] >> t % 8 & 1) example.labels[t] = example.ids[t];
  return example;
}

}  // namespace lapidary
