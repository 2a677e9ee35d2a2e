// The order of things; sums and roundings are hessian.h's and round_tensor.h's.
#include "quantize/calibrator.h"

#include <algorithm>

#include "formats/error.h"
#include "formats/float_codes.h"
#include "formats/ggml_blocks.h"
#include "kernels/kernels.h"
#include "quantize/lattice.h"
#include "quantize/tensor_plan.h"

namespace lapidary {
namespace {

int longest(const CalibrationWindows& text) {
  size_t most = 2;
  for (const std::vector<int32_t>& window : text.windows) most = std::max(most, window.size());
  return static_cast<int>(most);
}

}  // namespace

Calibrator::Calibrator(const ModelSource& source, const std::vector<LapTensor>& entries,
                       const CalibrationWindows& text, const CalibrationOptions& options,
                       int n_threads, WorkFolder& folder, const Events& events)
    : source_(source),
      entries_(entries),
      text_(text),
      options_(options),
      folder_(folder),
      events_(events),
      store_(source),
      walk_(source.metadata().config, store_, longest(text), n_threads),
      states_(source, text) {
  for (size_t i = 0; i < entries.size(); ++i) {
    index_.emplace(entries[i].name, i);
    // Weights that lie on their code's lattice already are stored as what they are.
    const Code code = entries[i].code;
    is_wanted_.push_back(entries[i].layout == Layout::kPanels && takes_feedback(code) &&
                         !(imports_lattices(code) && traits(source.tensors()[i].code).is_float &&
                           lattice_code(source, i)));
  }
  progress_.what = "calibration windows";
  progress_.total =
      static_cast<uint64_t>(states_.n_windows() * 2 * walk_.model().config().n_layers());
}

void Calibrator::run() {
  const int n_layers = walk_.model().config().n_layers();
  before_layers();
  if (folder_.layers_done() > 0) folder_.restore(states_);
  for (int l = folder_.layers_done(); l < n_layers; ++l) {
    layer(l);
    folder_.finish_layers(l + 1, states_);
  }
  head();
}

// Per-layer embeddings: their projection is a matrix like others, and all layers read its output.
void Calibrator::before_layers() {
  const Model& model = walk_.model();
  if (model.config().ple_width == 0) return;
  const size_t tensor = index_.at("model.per_layer_model_projection.weight");
  store_.load(tensor);
  walk_.load_rest();
  if (!is_wanted(tensor)) return;
  if (!folder_.pieces().contains(tensor)) {
    add_place(model.ple_model_projection, entries_[tensor].name);
    walk_.set_tap([this](const MatrixInput& input) { measure(input); });
    for (int64_t w = 0; w < states_.n_windows(); ++w)
      walk_.run_ple_input(states_.embedded(w), states_.n_tokens(w));
    walk_.set_tap({});
    round_groups();
  }
  // One layer's rows of it must be whole panels to be used alone.
  if (options_.sequential && model.config().ple_width % kPanelRows == 0) put_back(tensor);
  walk_.load_rest();
}

void Calibrator::layer(int index) {
  const std::vector<size_t> tensors = tensors_of(index);
  for (const size_t tensor : tensors) {
    // Matrices only: vectors are read when views are made.
    if (entries_[tensor].shape.size() > 1) store_.load(tensor);
  }
  walk_.load_layer(index);
  name_views(index);
  walk_.set_tap([this](const MatrixInput& input) { measure(input); });
  states_.run_layer(walk_, index, /*keep=*/!options_.sequential,
                    [&](int64_t window) { progress(window, 0, index); });
  walk_.set_tap({});
  round_groups();
  if (options_.sequential) {
    for (const size_t tensor : tensors)
      if (folder_.pieces().contains(tensor)) put_back(tensor);
    walk_.load_layer(index);
    states_.run_layer(walk_, index, /*keep=*/true,
                      [&](int64_t window) { progress(window, 1, index); });
  }
  for (const size_t tensor : tensors) store_.drop(tensor);
}

// The head reads the final states. Where it is the embedding too, look-ups read its rows as well,
// and to them errors of all inputs count alike: that is what damping adds to H.
void Calibrator::head() {
  const Model& model = walk_.model();
  const size_t tensor = index_.at(head_name(model.config()));
  if (!is_wanted(tensor)) return;
  store_.load(tensor);
  walk_.load_rest();
  add_place(model.head, entries_[tensor].name);
  walk_.set_tap([this](const MatrixInput& input) { measure(input); });
  for (int64_t w = 0; w < states_.n_windows(); ++w)
    walk_.run_head_input(states_.hidden(w), states_.n_tokens(w));
  walk_.set_tap({});
  for (auto& [view, group] : groups_)
    round_group(group, model.config().tied_head ? kTiedDamping : kDamping);
  groups_.clear();
  places_.clear();
  store_.drop(tensor);
}

std::vector<size_t> Calibrator::tensors_of(int layer) const {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  std::vector<size_t> tensors;
  for (size_t i = 0; i < entries_.size(); ++i)
    if (entries_[i].name.starts_with(prefix)) tensors.push_back(i);
  return tensors;
}

bool Calibrator::is_wanted(size_t tensor) const { return is_wanted_[tensor]; }

void Calibrator::add_place(const MatrixView& view, const std::string& tensor, int64_t matrix,
                           bool is_expert_down) {
  const auto found = index_.find(tensor);
  if (found != index_.end() && is_wanted(found->second))
    places_[&view] = {found->second, matrix, is_expert_down};
}

void Calibrator::name_views(int layer) {
  const LayerWeights& w = walk_.model().layers[static_cast<size_t>(layer)];
  const std::string at = fmt::format("model.layers.{}.", layer);
  add_place(w.q, at + "self_attn.q_proj.weight");
  add_place(w.k, at + "self_attn.k_proj.weight");
  add_place(w.v, at + "self_attn.v_proj.weight");
  add_place(w.o, at + "self_attn.o_proj.weight");
  add_place(w.gate, at + "mlp.gate_proj.weight");
  add_place(w.up, at + "mlp.up_proj.weight");
  add_place(w.down, at + "mlp.down_proj.weight");
  add_place(w.router, at + "router.proj.weight");
  add_place(w.ple_gate, at + "per_layer_input_gate.weight");
  add_place(w.ple_projection, at + "per_layer_projection.weight");
  for (size_t e = 0; e < w.expert_down.size(); ++e) {
    add_place(w.expert_gate_up[e], at + "experts.gate_up_proj", static_cast<int64_t>(e));
    add_place(w.expert_down[e], at + "experts.down_proj", static_cast<int64_t>(e), true);
  }
}

void Calibrator::measure(const MatrixInput& input) {
  // Matrices of one input are of one basis, unless a pattern keeps some in another code.
  for (const bool rotated : {false, true}) {
    Group* group = nullptr;
    for (const MatrixView* w : input.matrices) {
      const auto place = places_.find(w);
      if (place == places_.end() || entries_[place->second.tensor].rotated != rotated) continue;
      if (!group) {
        group = &groups_[w];
        if (group->matrices.empty()) group->hessian = Hessian(input.k, rotated);
      }
      if (std::find(group->matrices.begin(), group->matrices.end(), w) == group->matrices.end())
        group->matrices.push_back(w);
    }
    if (!group) continue;
    group->n_rows += input.n_rows;
    if (!group->hessian.add(input.x, input.n_rows, input.factors, scratch_, walk_.pool()))
      fail(ErrorCode::kBadData,
           "{}: the input of {} is NaN or infinite on the calibration text; the weights before it "
           "are damaged",
           source_.describe(), entries_[places_.at(group->matrices[0]).tensor].name);
  }
}

void Calibrator::round_groups() {
  // Experts' own inputs, drawn towards what the layer's experts see on average.
  Hessian all;
  int64_t n_all = 0;
  for (const auto& [view, place] : places_) {
    if (!place.is_expert_down) continue;
    const LapTensor& entry = entries_[place.tensor];
    if (all.n() == 0) all = Hessian(entry.shape.back(), entry.rotated);
    Group& group = groups_[view];
    if (group.matrices.empty()) {  // no token came here
      group.hessian = Hessian(entry.shape.back(), entry.rotated);
      group.matrices = {view};
      continue;
    }
    all.add(group.hessian, walk_.pool());
    n_all += group.n_rows;
  }
  // In the order of the file.
  std::vector<const MatrixView*> order;
  for (const auto& [view, group] : groups_) order.push_back(view);
  std::sort(order.begin(), order.end(), [&](const MatrixView* a, const MatrixView* b) {
    const Place &x = places_.at(a), &y = places_.at(b);
    return std::pair(x.tensor, x.matrix) < std::pair(y.tensor, y.matrix);
  });
  for (const MatrixView* view : order) {
    Group& group = groups_.at(view);
    if (places_.at(view).is_expert_down && n_all > 0)
      group.hessian.shrink_towards(
          all, 2.0 * static_cast<double>(all.n()) * all.weight() / static_cast<double>(n_all),
          walk_.pool());
    round_group(group, kDamping);
    groups_.erase(view);
  }
  while (!roundings_.empty()) finish(roundings_.begin()->first);
  places_.clear();
}

void Calibrator::round_group(Group& group, double damping) {
  const Factor factor = factorize(std::move(group.hessian), damping, scratch_, walk_.pool());
  for (const MatrixView* view : group.matrices) {
    const Place& place = places_.at(view);
    const LapTensor& entry = entries_[place.tensor];
    auto found = roundings_.find(place.tensor);
    if (found == roundings_.end())
      found = roundings_.try_emplace(place.tensor, entry, ggml_type(place.tensor)).first;
    FloatRows rows = store_.rows(place.tensor);
    const int64_t n_rows = entry.shape[entry.shape.size() - 2];
    rows.bytes += place.matrix * n_rows * rows.k * traits(rows.code).bits / 8;
    found->second.round(place.matrix, rows, factor, scratch_, walk_.pool());
    if (!found->second.fits())
      fail(ErrorCode::kBadData,
           "{}: tensor {} has weights too large for the 16-bit scales of {}; keep it with --keep "
           "{}=bf16",
           source_.describe(), entry.name, code_name(entry.code), entry.name);
    const bool is_stack = entry.shape.size() == 3;
    if (!is_stack) finish(place.tensor);
    events_.poll();
  }
}

void Calibrator::finish(size_t tensor) {
  const TensorRounding& rounding = roundings_.at(tensor);
  folder_.put(tensor, rounding.stored(), rounding.loss());
  roundings_.erase(tensor);
}

std::optional<GgmlType> Calibrator::ggml_type(size_t tensor) const {
  const auto found = options_.ggml_types.find(entries_[tensor].name);
  if (found == options_.ggml_types.end()) return std::nullopt;
  return found->second;
}

// The layer runs on with what the tensor has become; no kernel reads GGUF blocks, so these become
// bf16, whose rounding is small beside theirs.
void Calibrator::put_back(size_t tensor) {
  const LapTensor& entry = entries_[tensor];
  const std::vector<uint8_t> stored = folder_.get(tensor);
  const std::optional<GgmlType> type = ggml_type(tensor);
  if (!type) return store_.replace(tensor, entry, stored);
  LapTensor floats = entry;
  floats.code = Code::kBF16;
  floats.layout = Layout::kPlain;
  floats.rotated = false;
  std::vector<uint8_t> bytes(static_cast<size_t>(entry.elements()) * 2);
  const size_t k = static_cast<size_t>(entry.shape.back()), n_rows = bytes.size() / 2 / k,
               row_bytes = stored.size() / n_rows;
  walk_.pool().run(static_cast<int64_t>(n_rows), [&](int64_t r) {
    std::vector<float> row(k);
    const size_t at = static_cast<size_t>(r);
    decode_blocks(*type, std::span(stored).subspan(at * row_bytes, row_bytes), row);
    encode_floats(Code::kBF16, row, std::span(bytes).subspan(at * k * 2, k * 2));
  });
  store_.replace(tensor, floats, bytes);
}

void Calibrator::progress(int64_t window, int pass, int layer) {
  const int64_t n = states_.n_windows();
  progress_.done = static_cast<uint64_t>((layer * 2 + pass) * n + window + 1);
  progress_.detail = fmt::format("layer {}", layer);
  events_.progress(progress_);
}

}  // namespace lapidary
