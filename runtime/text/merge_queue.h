// The candidates of BPE in the order they must be tried: lowest rank first, then leftmost.
//
// One bucket per rank instead of one large heap: candidates of a rank arrive mostly from left to
// right, so a bucket is a sorted run that is read in order, and walking it walks the text in order.
// With a single heap a megabyte of text takes far more than ten times the time of 100 kB, because
// every step misses the cache. Runs are deques because they give back what was read, so that less
// fresh memory is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace lapidary {

class MergeQueue {
 public:
  struct Candidate {
    uint32_t rank;
    uint32_t position;
  };

  // An empty queue for ranks below `n_ranks`.
  void reset(size_t n_ranks);
  void push(Candidate candidate);
  // False: empty. `upcoming` is a position that will come soon, to be fetched ahead of time.
  bool pop(Candidate& candidate, uint32_t& upcoming);

 private:
  struct Bucket {
    std::deque<uint32_t> run;    // ascending
    std::vector<uint32_t> late;  // a heap of those that came out of order
  };
  std::vector<uint32_t> active_ranks_;  // a heap; each has a bucket that is not empty
  std::vector<int32_t> bucket_of_rank_;
  std::vector<Bucket> buckets_;
  std::vector<int32_t> free_buckets_;
};

}  // namespace lapidary
