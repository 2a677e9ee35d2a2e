// A wish per tensor, then what its width and its partners leave of it; and what follows from it.
#include "export/integer_scheme.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "export/integer_rows.h"
#include "formats/fused_linears.h"

namespace lapidary {
namespace {

IntegerScheme wish(const LapTensor& t, const IntegerChoice& choice) {
  const CodeTraits& code = traits(t.code);
  IntegerScheme scheme;
  scheme.bits = choice.bits.value_or(code.is_float ? 0 : code.bits <= 4 ? 4 : 8);
  if (scheme.bits == 0) return {};
  const bool takes_over = has_integer_rows(t) && code.bits <= scheme.bits;
  scheme.group = choice.group.value_or(takes_over || scheme.bits == 4 ? IntegerRow::kGroup : 0);
  return scheme;
}

// What rows of k inputs can hold.
IntegerScheme fitted(IntegerScheme scheme, int64_t k) {
  if (scheme.bits == 0) return {};
  while (scheme.group > IntegerRow::kGroup && k % scheme.group != 0) scheme.group /= 2;
  if (scheme.group != 0 && k % scheme.group != 0) scheme = {8, 0};
  if (scheme.group == 0 && k % 8 != 0) return {};
  return scheme;
}

// The wider of two: floats over integers, 8 bits over 4, small groups over large ones.
IntegerScheme wider(const IntegerScheme& a, const IntegerScheme& b) {
  if (a.bits == 0 || b.bits == 0) return {};
  IntegerScheme both{std::max(a.bits, b.bits), std::min(a.group, b.group)};
  if (both.group == 0) both.group = std::max(a.group, b.group);
  return both;
}

// What all the tensors of a fusion can hold. Fitting only ever narrows the choice, so it ends.
IntegerScheme fitted_to_all(const std::vector<const LapTensor*>& tensors, IntegerScheme scheme) {
  while (true) {
    const IntegerScheme before = scheme;
    for (const LapTensor* t : tensors) scheme = fitted(scheme, t->shape.back());
    if (scheme == before) return scheme;
  }
}

}  // namespace

std::string quantizable_module(const std::string& tensor) {
  if (fused_linears(tensor).empty()) return {};
  constexpr std::string_view kWeight = ".weight";
  return tensor.ends_with(kWeight) ? tensor.substr(0, tensor.size() - kWeight.size()) : tensor;
}

bool is_taken_over(const LapTensor& tensor, const IntegerScheme& scheme) {
  return scheme.group == IntegerRow::kGroup && has_integer_rows(tensor) &&
         traits(tensor.code).bits <= scheme.bits;
}

std::string scheme_text(const IntegerScheme& scheme) {
  return fmt::format("int{} per {}", scheme.bits,
                     scheme.group == 0 ? "row" : std::to_string(scheme.group));
}

EncodeRows integer_encoder(const LapReader& model, size_t source, const IntegerScheme& scheme,
                           WriteIntegers take_over, WriteIntegers round) {
  const WriteIntegers write = is_taken_over(model.index()[source], scheme) ? take_over : round;
  return [&model, source, scheme, write](int64_t first, int64_t count,
                                         std::span<const std::span<uint8_t>> parts) {
    write(model, source, scheme, first, count, parts);
  };
}

FolderReport::Tensor integer_report(const LapTensor& tensor, const IntegerScheme& scheme) {
  return {tensor.name, tensor.code, scheme_text(scheme), is_taken_over(tensor, scheme)};
}

bool is_sensitive_linear(const std::string& tensor) {
  return tensor.ends_with("router.proj.weight") ||
         tensor.ends_with("per_layer_model_projection.weight");
}

IntegerScheme SchemeCount::most() const {
  const auto& [scheme, values] = *std::max_element(
      values_.begin(), values_.end(), [](auto& a, auto& b) { return a.second < b.second; });
  return {scheme.first, scheme.second};
}

std::vector<IntegerScheme> choose_schemes(const LapReader& model, const IntegerChoice& choice,
                                          std::vector<std::string>* notes) {
  struct Fusion {
    std::vector<const LapTensor*> tensors;
    IntegerScheme wanted, scheme;
  };
  std::map<std::string, Fusion> fusions;
  for (const LapTensor& t : model.index()) {
    const std::string fused = fused_linears(t.name);
    if (fused.empty()) continue;
    Fusion& fusion = fusions[fused];
    const IntegerScheme own = wish(t, choice);
    fusion.wanted = fusion.tensors.empty() ? own : wider(fusion.wanted, own);
    fusion.tensors.push_back(&t);
  }
  for (auto& [name, fusion] : fusions) fusion.scheme = fitted_to_all(fusion.tensors, fusion.wanted);

  std::vector<IntegerScheme> schemes;
  for (const LapTensor& t : model.index()) {
    const auto found = fusions.find(fused_linears(t.name));
    if (found == fusions.end()) {
      schemes.emplace_back();
      continue;
    }
    const Fusion& fusion = found->second;
    schemes.push_back(fusion.scheme);
    if (fusion.scheme != fusion.wanted)
      notes->push_back(fmt::format("{}: rows of {} do not divide into groups of {}: {}", t.name,
                                   t.shape.back(), fusion.wanted.group,
                                   fusion.scheme.bits ? scheme_text(fusion.scheme) : "a float"));
  }
  return schemes;
}

}  // namespace lapidary
