// Files of raw bytes, and a state that is replaced whole.
#include "quantize/work_folder.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/hash.h"
#include "formats/provenance.h"
#include "kernels/kernels.h"

namespace lapidary {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::span<uint8_t> bytes_of(FloatMatrix& m) {
  return {reinterpret_cast<uint8_t*>(m.data()),
          static_cast<size_t>(m.rows() * m.width()) * sizeof(float)};
}

}  // namespace

WorkFolder::WorkFolder(const std::string& output, const std::string& identity, bool resume)
    : path_(output + ".partial"), identity_(identity) {
  if (path_exists(path_ + "/state.json")) {
    if (!resume)
      fail(ErrorCode::kUsage,
           "{} holds an interrupted calibration: continue it with --resume, or remove it", path_);
    kept_ = true;  // whatever goes wrong now, it is not ours to remove
    read_state(identity);
    kept_ = false;
    return;
  }
  std::error_code error;
  fs::create_directory(path_, error);
  if (error) fail(ErrorCode::kIo, "cannot create {}: {}", path_, error.message());
  write_text_atomically(
      path_ + "/state.json",
      json{{"identity", identity}, {"layers", 0}, {"tensors", json::array()}}.dump());
}

WorkFolder::~WorkFolder() {
  std::error_code ignored;  // a folder that cannot be removed is no reason to fail
  if (!kept_) fs::remove_all(path_, ignored);
}

void WorkFolder::read_state(const std::string& identity) {
  const std::string file = path_ + "/state.json";
  try {
    const json state = json::parse(read_text(file));
    if (state.at("identity").get<std::string>() != identity)
      fail(ErrorCode::kUsage,
           "{} belongs to a run with another source, text or options: give the same ones to "
           "continue, or remove it",
           path_);
    layers_done_ = state.at("layers").get<int>();
    for (const json& t : state.at("tensors")) {
      const size_t tensor = t.at("tensor").get<size_t>();
      pieces_[tensor] = {
          fmt::format("{}/tensor-{}.bin", path_, tensor),
          {t.at("error"), t.at("energy"), t.at("plain_error"), t.at("plain_energy")}};
    }
  } catch (const json::exception& e) {
    fail(ErrorCode::kBadData, "{}: not a state of quantize ({}); remove {}", file, e.what(), path_);
  }
}

void WorkFolder::put(size_t tensor, std::span<const uint8_t> stored, const FeedbackLoss& loss) {
  const std::string path = fmt::format("{}/tensor-{}.bin", path_, tensor);
  AtomicFile file(path);
  file.write(stored);
  file.commit();
  pieces_[tensor] = {path, loss};
}

std::vector<uint8_t> WorkFolder::get(size_t tensor) const {
  const ReadFile file(pieces_.at(tensor).path);
  std::vector<uint8_t> stored(file.size_bytes());
  file.read_at(0, stored);
  return stored;
}

void WorkFolder::copy(size_t tensor, LapWriter& writer) const {
  const ReadFile file(pieces_.at(tensor).path);
  std::vector<uint8_t> some;
  for (uint64_t at = 0; at < file.size_bytes(); at += some.size()) {
    some.resize(std::min<uint64_t>(file.size_bytes() - at, 4 << 20));
    file.read_at(at, some);
    writer.append(tensor, some);
  }
}

std::string WorkFolder::hidden_path(int n_layers) const {
  return fmt::format("{}/hidden-{}.bin", path_, n_layers);
}

void WorkFolder::finish_layers(int n_layers, HiddenStates& states) {
  AtomicFile hidden(hidden_path(n_layers));
  hidden.write(bytes_of(states.all_hidden()));
  json state{{"identity", identity_},
             {"layers", n_layers},
             {"tensors", json::array()},
             {"shared_kv", json::array()}};
  for (auto& [layer, kv] : states.shared_kv()) {
    hidden.write(bytes_of(kv));
    state["shared_kv"].push_back({layer, kv.rows(), kv.width()});
  }
  hidden.commit();
  for (const auto& [tensor, piece] : pieces_)
    state["tensors"].push_back({{"tensor", tensor},
                                {"error", piece.loss.error},
                                {"energy", piece.loss.energy},
                                {"plain_error", piece.loss.plain_error},
                                {"plain_energy", piece.loss.plain_energy}});
  write_text_atomically(path_ + "/state.json", state.dump());
  std::error_code ignored;
  if (layers_done_ != n_layers) fs::remove(hidden_path(layers_done_), ignored);
  layers_done_ = n_layers;
}

void WorkFolder::restore(HiddenStates& states) const {
  const json state = json::parse(read_text(path_ + "/state.json"));
  const ReadFile file(hidden_path(layers_done_));
  uint64_t at = 0;
  const auto read = [&](FloatMatrix& m) {
    file.read_at(at, bytes_of(m));
    at += bytes_of(m).size();
  };
  read(states.all_hidden());
  states.shared_kv().clear();
  for (const json& kv : state.at("shared_kv")) {
    FloatMatrix& m = states.shared_kv()[kv.at(0)];
    m = FloatMatrix(kv.at(1), kv.at(2));
    read(m);
  }
}

std::string run_identity(const ModelSource& source, const std::vector<LapTensor>& entries,
                         const CalibrationOptions& options, const CalibrationWindows& text) {
  StreamingHash hash;
  const auto add = [&](const std::string& part) {
    hash.update({reinterpret_cast<const uint8_t*>(part.data()), part.size() + 1});
  };
  std::vector<float> row;
  for (size_t i = 0; i < entries.size(); ++i) {
    const SourceTensor& tensor = source.tensors()[i];
    add(fmt::format("{} {} [{}] {} {}", tensor.name, code_name(tensor.code),
                    fmt::join(tensor.shape, ", "), code_name(entries[i].code), entries[i].rotated));
    row.resize(static_cast<size_t>(tensor.k()));
    for (const int64_t r : {int64_t{0}, tensor.rows() / 2}) {
      source.read_rows(i, r, 1, row);
      hash.update({reinterpret_cast<const uint8_t*>(row.data()), row.size() * sizeof(float)});
    }
  }
  for (const auto& [name, type] : options.ggml_types)
    add(fmt::format("{} {}", name, traits(type).name));
  add(fmt::format("{} {} {} {} {}", text.hash, options.context, options.sequential, kToolVersion,
                  kernels().name));
  return to_hex(hash.digest());
}

}  // namespace lapidary
