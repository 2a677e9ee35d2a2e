// Energy of the weights, run by run, weighted by what the gradients say.
#include "quantize/fisher_costs.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "formats/error.h"

namespace lapidary {
namespace {

constexpr int64_t kRun = 64;  // inputs that a rotation mixes
constexpr int64_t kReadValues = int64_t{1} << 20;

}  // namespace

void check_fisher(const FisherStatistics& statistics, const std::string& path,
                  const std::string& content_hash) {
  if (statistics.model_hash == content_hash || statistics.source_hash == content_hash) return;
  fail(ErrorCode::kBadData,
       "{}: measured on another model ({}{}), not on these weights ({}); run finetune --fisher on "
       "this model",
       path, statistics.model_hash,
       statistics.source_hash.empty() ? "" : ", made from " + statistics.source_hash, content_hash);
}

double fisher_cost(const ModelSource& source, size_t index, const FisherStatistics& statistics) {
  const SourceTensor& tensor = source.tensors()[index];
  const FisherTensor* fisher = statistics.find(tensor.name);
  if (!fisher)
    fail(ErrorCode::kBadData, "the gradient statistics have nothing about tensor {}", tensor.name);
  const int64_t rows = tensor.rows(), k = tensor.k();
  if (static_cast<int64_t>(fisher->rows.size()) != rows ||
      static_cast<int64_t>(fisher->columns.size()) != k)
    fail(ErrorCode::kBadData,
         "the gradient statistics of {} are of [{}, {}], the tensor is [{}, {}]", tensor.name,
         fisher->rows.size(), fisher->columns.size(), rows, k);
  std::vector<double> of_run(static_cast<size_t>((k + kRun - 1) / kRun));  // mean over its columns
  for (size_t run = 0; run < of_run.size(); ++run) {
    const auto begin = static_cast<int64_t>(run) * kRun, end = std::min(begin + kRun, k);
    of_run[run] =
        std::accumulate(fisher->columns.begin() + begin, fisher->columns.begin() + end, 0.0) /
        static_cast<double>(end - begin);
  }
  const double total = std::accumulate(fisher->rows.begin(), fisher->rows.end(), 0.0);
  if (total <= 0) return 0;

  double cost = 0;
  const int64_t at_once = std::max<int64_t>(1, kReadValues / k);
  std::vector<float> values(static_cast<size_t>(std::min(at_once, rows) * k));
  for (int64_t first = 0; first < rows; first += at_once) {
    const int64_t count = std::min(at_once, rows - first);
    source.read_rows(index, first, count, std::span(values).first(static_cast<size_t>(count * k)));
    for (int64_t r = 0; r < count; ++r) {
      const double of_row = fisher->rows[static_cast<size_t>(first + r)] / total;
      if (of_row == 0) continue;
      for (int64_t j = 0; j < k; ++j) {
        const double w = values[static_cast<size_t>(r * k + j)];
        cost += of_row * of_run[static_cast<size_t>(j / kRun)] * w * w;
      }
    }
  }
  return cost / 2;
}

}  // namespace lapidary
