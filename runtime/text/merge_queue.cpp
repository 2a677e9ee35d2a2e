// Buckets are created when a rank gets its first candidate and reused after its last.
#include "runtime/text/merge_queue.h"

#include <algorithm>
#include <functional>

namespace lapidary {
namespace {

// Merges that fit into the time of one access to memory: some 100 ns at 15 ns each.
constexpr size_t kLookAhead = 7;

}  // namespace

void MergeQueue::reset(size_t n_ranks) {
  uint32_t upcoming = 0;
  for (Candidate left; pop(left, upcoming);) {
  }
  bucket_of_rank_.resize(n_ranks, -1);
}

void MergeQueue::push(Candidate candidate) {
  int32_t& index = bucket_of_rank_[candidate.rank];
  if (index < 0) {
    if (free_buckets_.empty()) {
      free_buckets_.push_back(static_cast<int32_t>(buckets_.size()));
      buckets_.emplace_back();
    }
    index = free_buckets_.back();
    free_buckets_.pop_back();
    active_ranks_.push_back(candidate.rank);
    std::push_heap(active_ranks_.begin(), active_ranks_.end(), std::greater<>());
  }
  Bucket& bucket = buckets_[static_cast<size_t>(index)];
  if (bucket.run.empty() || bucket.run.back() <= candidate.position) {
    bucket.run.push_back(candidate.position);
  } else {
    bucket.late.push_back(candidate.position);
    std::push_heap(bucket.late.begin(), bucket.late.end(), std::greater<>());
  }
}

bool MergeQueue::pop(Candidate& candidate, uint32_t& upcoming) {
  if (active_ranks_.empty()) return false;
  const uint32_t rank = active_ranks_.front();
  int32_t& index = bucket_of_rank_[rank];
  Bucket& bucket = buckets_[static_cast<size_t>(index)];
  if (!bucket.run.empty() && (bucket.late.empty() || bucket.run.front() <= bucket.late.front())) {
    candidate = {rank, bucket.run.front()};
    upcoming = bucket.run[std::min(kLookAhead, bucket.run.size() - 1)];
    bucket.run.pop_front();
  } else {
    candidate = {rank, bucket.late.front()};
    std::pop_heap(bucket.late.begin(), bucket.late.end(), std::greater<>());
    bucket.late.pop_back();
  }
  if (bucket.run.empty() && bucket.late.empty()) {
    free_buckets_.push_back(index);
    index = -1;
    std::pop_heap(active_ranks_.begin(), active_ranks_.end(), std::greater<>());
    active_ranks_.pop_back();
  }
  return true;
}

}  // namespace lapidary
