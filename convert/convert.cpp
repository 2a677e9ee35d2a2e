// convert(): open sources come checked; what is left is the streaming copy.
#include "convert/convert.h"

#include <algorithm>
#include <chrono>

#include "convert/lattice_copy.h"
#include "formats/provenance.h"
#include "formats/tokenizer_tables.h"

namespace lapidary {

ConvertReport convert(const ModelSource& source, const std::string& output, const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  const ModelMetadata& metadata = source.metadata();
  const auto packed = std::find_if(source.tensors().begin(), source.tensors().end(),
                                   [](const auto& t) { return !traits(t.code).is_float; });
  const bool all_floats = packed == source.tensors().end();
  const auto* lattice = dynamic_cast<const LatticeSource*>(&source);
  if (!all_floats && !lattice)
    fail(ErrorCode::kUsage, "{}: already packed (tensor {} is {}); there is nothing to convert",
         source.describe(), packed->name, code_name(packed->code));

  std::vector<uint8_t> tables;
  const std::string tokenizer = source.tokenizer_json();
  if (!tokenizer.empty())
    tables = with_context(source.describe() + ": tokenizer.json",
                          [&] { return compile_tokenizer(tokenizer, metadata.config.vocab_size); });
  const LapCopyResult copied =
      all_floats
          ? copy_to_lap(source, output, metadata, {tokenizer, tables}, /*is_source=*/true, events)
          : copy_lattice_to_lap(*lattice, output, {tokenizer, tables}, events);

  ConvertReport report;
  report.file_bytes = copied.file_bytes;
  report.content_hash = copied.content_hash;
  report.n_tensors = static_cast<int64_t>(source.tensors().size());
  for (const SourceTensor& t : source.tensors()) report.n_parameters += t.elements();
  report.skipped = provenance_from_json(metadata.provenance).skipped;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lapidary
