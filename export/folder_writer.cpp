// Shards planned first, so that each header is written before its data; then tensor by tensor.
#include "export/folder_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/float_codes.h"
#include "formats/row_chunk.h"
#include "formats/stages.h"
#include "kernels/thread_pool.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kBlockValues = int64_t{1} << 20;  // of one thread at a time

uint64_t part_bytes(const FolderPart& part) {
  uint64_t bytes = static_cast<uint64_t>(dtype_bytes(part.tensor.dtype));
  for (const int64_t n : part.tensor.shape) bytes *= static_cast<uint64_t>(n);
  return bytes;
}

struct Shard {
  std::string file;
  std::vector<size_t> tensors;  // indices into the plan
};

std::vector<Shard> plan_shards(const std::vector<FolderTensor>& tensors, uint64_t shard_bytes) {
  std::vector<Shard> shards;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t more = folder_bytes(tensors[i]);
    if (shards.empty() || (bytes + more > shard_bytes && !shards.back().tensors.empty())) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().tensors.push_back(i);
    bytes += more;
  }
  for (size_t s = 0; s < shards.size(); ++s)
    shards[s].file = shards.size() == 1
                         ? "model.safetensors"
                         : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
  return shards;
}

// Where a part lies: the wider types come first, so that each stays aligned to its size.
struct Placed {
  size_t tensor, part;  // in the plan
};
std::vector<Placed> place(const std::vector<FolderTensor>& tensors, const Shard& shard) {
  std::vector<Placed> order;
  for (const size_t i : shard.tensors)
    for (size_t p = 0; p < tensors[i].parts.size(); ++p) order.push_back({i, p});
  const auto width = [&](const Placed& at) {
    return dtype_bytes(tensors[at.tensor].parts[at.part].tensor.dtype);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](const Placed& a, const Placed& b) { return width(a) > width(b); });
  return order;
}

// Rows of a planned tensor on their way, beside each other in the source, and what they become.
struct Batch {
  RowChunk rows;
  std::vector<std::vector<uint8_t>> bytes;  // by part; constants have none
};

int64_t width(const LapReader& model, const FolderTensor& tensor) {
  return model.tensors()[tensor.source].k();
}

// Rows that one thread fills at a time.
int64_t block_rows(const LapReader& model, const FolderTensor& tensor) {
  return std::max<int64_t>(1, kBlockValues / width(model, tensor));
}

// Tensors' rows, batch by batch: all threads fill one while the one before it is written.
class RowStream {
 public:
  RowStream(const LapReader& model, const std::vector<FolderTensor>& tensors, int n_threads,
            const Events& events)
      : model_(model), tensors_(tensors), pool_(n_threads), events_(events) {
    progress_.what = "weights";
    for (const FolderTensor& t : tensors)
      progress_.total += static_cast<uint64_t>(t.rows.rows() * width(model, t));
  }

  // places[tensor][part]: in the file.
  void write(const Shard& shard, const std::vector<std::vector<size_t>>& places,
             SafetensorsWriter* out) {
    for (const size_t i : shard.tensors)
      for (size_t p = 0; p < tensors_[i].parts.size(); ++p)
        if (const auto& bytes = tensors_[i].parts[p].constant; !bytes.empty())
          out->write(places[i][p], 0, bytes);
    const std::vector<RowChunk> chunks = chunks_of(shard);
    run_in_stages<Batch>(
        static_cast<int64_t>(chunks.size()),
        [&](int64_t i, Batch& batch) { batch.rows = chunks[static_cast<size_t>(i)]; },
        [&](Batch& batch) { fill(batch); },
        [&](Batch& batch) {
          for (size_t p = 0; p < batch.bytes.size(); ++p)
            if (!batch.bytes[p].empty())
              out->write(places[batch.rows.tensor][p],
                         static_cast<uint64_t>(batch.rows.first) *
                             row_bytes(tensors_[batch.rows.tensor], p),
                         batch.bytes[p]);
        });
  }

 private:
  std::vector<RowChunk> chunks_of(const Shard& shard) const {
    std::vector<RowChunk> chunks;
    for (const size_t i : shard.tensors) {
      const RowSlice& rows = tensors_[i].rows;
      const int64_t at_once = block_rows(model_, tensors_[i]) * pool_.n_threads();
      for (int64_t first = 0; first < rows.rows(); first += rows.run)
        append_chunks(i, first, first + rows.run, at_once, &chunks);
    }
    return chunks;
  }

  static uint64_t row_bytes(const FolderTensor& tensor, size_t part) {
    return part_bytes(tensor.parts[part]) / static_cast<uint64_t>(tensor.rows.rows());
  }

  void fill(Batch& batch) {
    const FolderTensor& tensor = tensors_[batch.rows.tensor];
    const int64_t source = tensor.rows.source(batch.rows.first), count = batch.rows.count;
    batch.bytes.resize(tensor.parts.size());
    for (size_t p = 0; p < tensor.parts.size(); ++p)
      batch.bytes[p].resize(
          tensor.parts[p].constant.empty() ? static_cast<size_t>(count) * row_bytes(tensor, p) : 0);
    const int64_t block = block_rows(model_, tensor), n_blocks = (count + block - 1) / block;
    errors_.assign(static_cast<size_t>(n_blocks), nullptr);
    pool_.run(n_blocks, [&](int64_t b) {
      const int64_t begin = b * block, n = std::min(block, count - begin);
      std::vector<std::span<uint8_t>> parts;
      for (size_t p = 0; p < tensor.parts.size(); ++p) {
        const size_t bytes = batch.bytes[p].empty() ? 0 : row_bytes(tensor, p);
        parts.push_back(
            std::span(batch.bytes[p])
                .subspan(static_cast<size_t>(begin) * bytes, static_cast<size_t>(n) * bytes));
      }
      try {
        tensor.encode(source + begin, n, parts);
      } catch (...) {
        errors_[static_cast<size_t>(b)] = std::current_exception();
      }
    });
    for (const std::exception_ptr& error : errors_)
      if (error) std::rethrow_exception(error);
    progress_.detail = model_.tensors()[tensor.source].name;
    progress_.done += static_cast<uint64_t>(count * width(model_, tensor));
    for (const std::vector<uint8_t>& bytes : batch.bytes) progress_.bytes_done += bytes.size();
    events_.progress(progress_);
  }

  const LapReader& model_;
  const std::vector<FolderTensor>& tensors_;
  ThreadPool pool_;
  const Events& events_;
  Progress progress_;
  std::vector<std::exception_ptr> errors_;
};

std::string index_json(const std::vector<FolderTensor>& tensors, const std::vector<Shard>& shards) {
  Json map;
  uint64_t bytes = 0;
  for (const Shard& shard : shards)
    for (const size_t i : shard.tensors) {
      for (const FolderPart& part : tensors[i].parts) map[part.tensor.name] = shard.file;
      bytes += folder_bytes(tensors[i]);
    }
  return Json{{"metadata", {{"total_size", bytes}}}, {"weight_map", map}}.dump(2) + "\n";
}

}  // namespace

uint64_t folder_bytes(const FolderTensor& tensor) {
  uint64_t bytes = 0;
  for (const FolderPart& part : tensor.parts) bytes += part_bytes(part);
  return bytes;
}

DType float_type(Code code) {
  switch (code) {
    case Code::kF32:
      return DType::kF32;
    case Code::kF16:
      return DType::kF16;
    default:
      return DType::kBF16;
  }
}

FolderReport::Tensor float_report(const std::string& name, Code code) {
  const bool exact = traits(code).is_float;
  return {name, code, std::string(code_name(exact ? code : Code::kBF16)), exact};
}

FolderTensor float_tensor(const LapReader& model, size_t source) {
  const SourceTensor& t = model.tensors()[source];
  FolderTensor tensor{source, {0, t.rows(), t.rows(), 1}, {}, {}};
  tensor.parts.push_back({{t.name, float_type(t.code), t.shape}});
  tensor.encode = [&model, source](int64_t first, int64_t count,
                                   std::span<const std::span<uint8_t>> parts) {
    const SourceTensor& from = model.tensors()[source];
    if (traits(from.code).is_float) return model.read_raw(source, first, count, parts[0]);
    std::vector<float> values(static_cast<size_t>(count * from.k()));
    model.read_rows(source, first, count, values);
    encode_floats(Code::kBF16, values, parts[0]);
  };
  return tensor;
}

int write_shards(const LapReader& model, const std::string& folder,
                 const std::vector<FolderTensor>& tensors, const FolderOptions& options,
                 const std::map<std::string, std::string>& metadata, const Events& events) {
  const std::vector<Shard> shards = plan_shards(tensors, options.shard_bytes);
  RowStream rows(model, tensors, options.n_threads, events);
  for (const Shard& shard : shards) {
    const std::vector<Placed> order = place(tensors, shard);
    std::vector<SafetensorsTensor> header;
    for (const Placed& at : order) header.push_back(tensors[at.tensor].parts[at.part].tensor);
    std::vector<std::vector<size_t>> places(tensors.size());
    for (const size_t i : shard.tensors) places[i].resize(tensors[i].parts.size());
    for (size_t at = 0; at < order.size(); ++at) places[order[at].tensor][order[at].part] = at;
    SafetensorsWriter writer(folder + "/" + shard.file, header, metadata);
    rows.write(shard, places, &writer);
    writer.commit();
  }
  if (shards.size() > 1)
    write_text_atomically(folder + "/model.safetensors.index.json", index_json(tensors, shards));
  return static_cast<int>(shards.size());
}

}  // namespace lapidary
