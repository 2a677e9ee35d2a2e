// merge(): is the adapter for this master, then one streaming pass over the merged source.
#include "quantize/merge.h"

#include <chrono>
#include <filesystem>

#include "formats/lap_copy.h"
#include "formats/provenance.h"
#include "quantize/merged_source.h"

namespace lapidary {
namespace {

void check_base(const LapReader& base, const PeftAdapter& adapter, const std::string& folder) {
  for (const LapTensor& t : base.index())
    if (!traits(t.code).is_float)
      fail(ErrorCode::kUsage,
           "{}: packed (tensor {} is {}); an adapter is merged into the bf16 master it was made "
           "from, then quantized with --weights {}",
           base.describe(), t.name, code_name(t.code), code_name(t.code));
  const std::string hash = base.content_hash();
  if (adapter.base_hash.empty() || adapter.base_hash == hash || adapter.base_source_hash == hash)
    return;
  fail(ErrorCode::kBadData,
       "{}: trained on another model ({}{}), not on {} ({}); give the master it was trained on",
       folder, adapter.base_hash,
       adapter.base_source_hash.empty() ? "" : ", made from " + adapter.base_source_hash,
       base.describe(), hash);
}

std::string last_part(const std::string& folder) {
  const auto path = std::filesystem::path(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

ModelMetadata merged_metadata(const LapReader& base, const PeftAdapter& adapter,
                              const std::string& folder) {
  ModelMetadata metadata = base.metadata();
  Provenance provenance = provenance_from_json(metadata.provenance);
  provenance.tool = kToolVersion;
  provenance.source_hash.clear();  // the merged weights are the source from here on
  provenance.lossy_steps.push_back(fmt::format("merge adapter {} ({} modules) into {}",
                                               last_part(folder), adapter.modules.size(),
                                               base.content_hash()));
  metadata.provenance = to_json(provenance);
  return metadata;
}

}  // namespace

MergeReport merge(const std::string& base_path, const std::string& adapter_folder,
                  const std::string& output, const MergeOptions& options, const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  const auto base = LapReader::open(base_path);
  const PeftAdapter adapter = read_peft(adapter_folder);
  check_base(*base, adapter, adapter_folder);
  with_context(adapter_folder, [&] { check_fits(adapter, base->metadata().config); });

  ModelMetadata metadata = merged_metadata(*base, adapter, adapter_folder);
  metadata.recipe = options.recipe;
  const MergedSource merged(*base, adapter, metadata, /*exact=*/options.weights.has_value());
  MergeReport report;
  if (options.weights) {
    QuantizeOptions quantize_options;
    quantize_options.weights = *options.weights;
    quantize_options.n_threads = options.n_threads;
    quantize_options.recipe = options.recipe;
    const QuantizeReport quantized = quantize(merged, output, quantize_options, events);
    report.file_bytes = quantized.file_bytes;
    report.content_hash = quantized.content_hash;
  } else {
    const LapCopyResult copied =
        copy_to_lap(merged, output, metadata, {base->tokenizer_json(), base->tokenizer_tables()},
                    /*is_source=*/true, events);
    report.file_bytes = copied.file_bytes;
    report.content_hash = copied.content_hash;
  }
  report.merged_modules = static_cast<int64_t>(adapter.modules.size());
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lapidary
