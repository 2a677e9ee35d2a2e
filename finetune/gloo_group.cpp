// The process group over LibTorch's own Gloo: sums on the CPU, over TCP.
#define USE_DISTRIBUTED
#define USE_C10D
#define USE_C10D_GLOO
#include <ATen/ATen.h>

#include <chrono>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "finetune/process_group.h"
#include "formats/error.h"

namespace lapidary {
namespace {

// Ranks load, hold out and measure at different speed; a dead one is noticed at once all the same,
// since its connections break.
constexpr std::chrono::milliseconds kTimeout = std::chrono::minutes(30);

std::string first_line(const char* message) {
  const std::string text(message);
  return text.substr(0, text.find('\n'));
}

class GlooGroup : public ProcessGroup {
 public:
  explicit GlooGroup(const Rendezvous& r) : rank_(r.rank), size_(r.size) {
    try {
      c10d::TCPStoreOptions options;
      options.port = r.port;
      options.isServer = r.rank == 0 && !r.store_is_there;
      options.numWorkers = static_cast<size_t>(r.size);
      options.waitWorkers = false;
      options.multiTenant = true;
      const auto store = c10::make_intrusive<c10d::PrefixStore>(
          "lapidary/" + r.round, c10::make_intrusive<c10d::TCPStore>(r.host, options));
      group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(
          store, r.rank, r.size, c10d::ProcessGroupGloo::Options::create_default(kTimeout));
    } catch (const std::exception& e) {
      fail(ErrorCode::kIo, "process {} of {} cannot meet the others at {}:{}: {}", r.rank + 1,
           r.size, r.host, r.port, first_line(e.what()));
    }
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void sum(std::span<float> values) override { sum_as(values, at::kFloat); }
  void sum(std::span<double> values) override { sum_as(values, at::kDouble); }

 private:
  template <class T>
  void sum_as(std::span<T> values, at::ScalarType type) {
    try {
      std::vector<at::Tensor> tensors{
          at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, type)};
      group_->allreduce(tensors, {})->wait();
    } catch (const std::exception& e) {
      fail(ErrorCode::kIo, "process {} of {}: another process of the run is gone ({})", rank_ + 1,
           size_, first_line(e.what()));
    }
  }

  int rank_, size_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

}  // namespace

std::unique_ptr<ProcessGroup> join(const Rendezvous& rendezvous) {
  return std::make_unique<GlooGroup>(rendezvous);
}

}  // namespace lapidary
