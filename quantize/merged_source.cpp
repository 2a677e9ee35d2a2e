// The arithmetic of a merge, row by row.
#include "quantize/merged_source.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "formats/float_codes.h"

namespace lapidary {
namespace {

// sum = w + scale * b_row . A, with A [rank, in]; rows of a stack count on from expert to expert.
void add_delta(const LoraModule& module, int64_t row, std::span<const float> w,
               std::span<double> sum) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = w[i];
  for (int64_t j = 0; j < module.rank; ++j) {
    const double factor = double{module.scale} * module.b[row * module.rank + j];
    const float* a = module.a.data() + (row / module.out * module.rank + j) * module.in;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * a[i];
  }
}

// DoRA: a row keeps its learned length whatever the delta does to it.
void set_length(double length, std::span<double> row) {
  double squares = 0;
  for (const double value : row) squares += value * value;
  if (squares == 0) return;
  const double factor = length / std::sqrt(squares);
  for (double& value : row) value *= factor;
}

}  // namespace

std::string tensor_of(const LoraModule& module) {
  return module.n_experts > 0 ? module.module : module.module + ".weight";
}

void add_adapter(const LoraModule& module, int64_t first_row, int64_t k, std::span<float> rows) {
  std::vector<double> sum(static_cast<size_t>(k));
  for (size_t r = 0; r < rows.size() / sum.size(); ++r) {
    const std::span<float> row = rows.subspan(r * sum.size(), sum.size());
    const int64_t output = first_row + static_cast<int64_t>(r);
    add_delta(module, output, row, sum);
    if (!module.magnitude.empty()) set_length(module.magnitude[output], sum);
    for (size_t i = 0; i < sum.size(); ++i) row[i] = static_cast<float>(sum[i]);
  }
}

MergedSource::MergedSource(const ModelSource& base, const PeftAdapter& adapter,
                           ModelMetadata metadata, bool exact)
    : base_(base), metadata_(std::move(metadata)), tensors_(base.tensors()) {
  modules_.resize(tensors_.size());
  for (const LoraModule& module : adapter.modules) {
    const std::string name = tensor_of(module);
    const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                    [&](const SourceTensor& t) { return t.name == name; });
    if (found == tensors_.end())
      fail(ErrorCode::kBadData,
           "{}: the adapter's module {} has no tensor here; is it for this model?", base.describe(),
           module.module);
    std::vector<int64_t> shape{module.out, module.in};
    if (module.n_experts > 0) shape.insert(shape.begin(), module.n_experts);
    if (found->shape != shape)
      fail(ErrorCode::kBadData, "{}: the adapter's module {} is [{}, {}], the tensor is [{}]",
           base.describe(), module.module, module.out, module.in, fmt::join(found->shape, ", "));
    modules_[found - tensors_.begin()] = &module;
    if (exact) found->code = Code::kF32;
  }
}

void MergedSource::read_rows(size_t index, int64_t first, int64_t count,
                             std::span<float> out) const {
  base_.read_rows(index, first, count, out);
  if (modules_[index])
    add_adapter(*modules_[index], first, tensors_[index].k(),
                out.first(static_cast<size_t>(count * tensors_[index].k())));
}

void MergedSource::read_raw(size_t index, int64_t first, int64_t count,
                            std::span<uint8_t> out) const {
  if (!modules_[index]) {
    base_.read_raw(index, first, count, out);
    return;
  }
  std::vector<float> rows(static_cast<size_t>(count * tensors_[index].k()));
  read_rows(index, first, count, rows);
  encode_floats(tensors_[index].code, rows, out);
  if (has_nonfinite(tensors_[index].code, out))
    fail(ErrorCode::kBadData,
         "{}: the adapter makes tensor {} overflow {}; merge a smaller adapter", base_.describe(),
         tensors_[index].name, code_name(tensors_[index].code));
}

}  // namespace lapidary
