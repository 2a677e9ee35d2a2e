// convert(): open sources come checked; what is left is the streaming copy.
#include "convert/convert.h"

#include <chrono>

#include "formats/lap_copy.h"
#include "formats/provenance.h"
#include "formats/tokenizer_tables.h"

namespace lapidary {

ConvertReport convert(const ModelSource& source, const std::string& output, const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  const ModelMetadata& metadata = source.metadata();
  for (const SourceTensor& t : source.tensors())
    if (!traits(t.code).is_float)
      fail(ErrorCode::kUsage, "{}: already packed (tensor {} is {}); there is nothing to convert",
           source.describe(), t.name, code_name(t.code));

  std::vector<uint8_t> tables;
  const std::string tokenizer = source.tokenizer_json();
  if (!tokenizer.empty())
    tables = with_context(source.describe() + ": tokenizer.json",
                          [&] { return compile_tokenizer(tokenizer, metadata.config.vocab_size); });
  const LapCopyResult copied =
      copy_to_lap(source, output, metadata, {tokenizer, tables}, /*is_source=*/true, events);

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
