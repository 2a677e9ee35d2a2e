// Finding the parts by name and checking that they are one model.
#include "formats/gguf_set.h"

#include <set>

#include "formats/error.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

constexpr uint64_t kMaxParts = 99999;  // five digits

// A key of any integer type; -1: not there or not a number from 0 to `limit`.
int64_t integer(const GgufReader& reader, std::string_view key, uint64_t limit) {
  const GgufValue* value = reader.find(key);
  if (!value) return -1;
  return std::visit(
      [&](const auto& v) -> int64_t {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_integral_v<T>) {
          if constexpr (std::is_signed_v<T>)
            if (v < 0) return -1;
          return static_cast<uint64_t>(v) > limit ? -1 : static_cast<int64_t>(v);
        }
        return -1;
      },
      *value);
}

// "model-00002-of-00003.gguf" without the number: the others have the same.
std::string part_path(const std::string& path, int64_t number, int64_t count) {
  const std::string ending = fmt::format("-of-{:05}.gguf", count);
  const size_t digits = path.size() - ending.size() - 5;
  if (path.size() < ending.size() + 6 || !path.ends_with(ending) || path[digits - 1] != '-')
    fail(ErrorCode::kBadData,
         "{}: part of a model in {} files; keep the name NAME-00001{} that the parts had", path,
         count, ending);
  return path.substr(0, digits) + fmt::format("{:05}", number) + ending;
}

}  // namespace

GgufSet::GgufSet(const std::string& path) {
  parts_.push_back(std::make_unique<GgufReader>(path));
  if (const int64_t count = integer(*parts_[0], "split.count", kMaxParts); count > 1) {
    parts_.clear();
    for (int64_t i = 0; i < count; ++i) {
      const std::string part = part_path(path, i + 1, count);
      parts_.push_back(std::make_unique<GgufReader>(part));
      if (integer(*parts_.back(), "split.no", kMaxParts) != i ||
          integer(*parts_.back(), "split.count", kMaxParts) != count)
        fail(ErrorCode::kBadData, "{}: not part {} of {}, as its name says", part, i + 1, count);
    }
  }
  std::set<std::string_view> seen;
  for (size_t part = 0; part < parts_.size(); ++part)
    for (size_t i = 0; i < parts_[part]->tensors().size(); ++i) {
      const std::string& name = parts_[part]->tensors()[i].name;
      if (!seen.insert(name).second)
        fail(ErrorCode::kBadData, "{}: tensor {} is in two parts", path, excerpt(name));
      places_.push_back({part, i});
    }
  const int64_t expected = integer(*parts_[0], "split.tensors.count", uint64_t{1} << 32);
  if (parts_.size() > 1 && expected != static_cast<int64_t>(size()))
    fail(ErrorCode::kBadData, "{}: the parts hold {} tensors, {} expected", path, size(), expected);
}

const GgufTensor& GgufSet::tensor(size_t index) const {
  return parts_[places_[index].part]->tensors()[places_[index].tensor];
}

std::span<const uint8_t> GgufSet::rows(size_t index, int64_t first, int64_t count) const {
  const GgufTensor& t = tensor(index);
  LAPIDARY_CHECK(first >= 0 && count >= 0 && first + count <= t.rows());
  return parts_[places_[index].part]->data(t).subspan(static_cast<size_t>(first) * t.row_bytes(),
                                                      static_cast<size_t>(count) * t.row_bytes());
}

void GgufSet::release(size_t index, int64_t first, int64_t count) const {
  parts_[places_[index].part]->release(rows(index, first, count));
}

}  // namespace lapidary
