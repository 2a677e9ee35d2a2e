// The plan is the model itself, tensor by tensor.
#include "export/hf_export.h"

#include <chrono>
#include <filesystem>

#include "export/folder_files.h"
#include "formats/file.h"

namespace lapidary {

FolderReport export_hf(const LapReader& model, const std::string& folder,
                       const HfExportOptions& options, const Events& events) {
  const auto start = std::chrono::steady_clock::now();
  FolderReport report;
  std::vector<FolderTensor> plan;
  bool dequantized = false;
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const SourceTensor& tensor = model.tensors()[i];
    const bool exact = traits(tensor.code).is_float;
    plan.push_back(float_tensor(model, i));
    report.tensors.push_back(
        {tensor.name, tensor.code, exact ? std::string(code_name(tensor.code)) : "bf16", exact});
    report.bytes += folder_bytes(plan.back());
    dequantized |= !exact;
  }

  AtomicFolder output(folder, options.folder.overwrite);
  ModelCard card = options.card;
  card.title = std::filesystem::path(folder).filename().string();
  card.library = "transformers";
  card.content_hash = model.content_hash();
  if (dequantized)
    card.lossy_steps.push_back(
        "quantized weights were written as bf16 of their dequantized values");
  card.usage =
      "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
      "model = AutoModelForCausalLM.from_pretrained(\"path/to/this/folder\")\n"
      "tokenizer = AutoTokenizer.from_pretrained(\"path/to/this/folder\")\n```";
  write_folder_files(model, output.temporary(),
                     hf_config_json(model.metadata().config, options.dialect), card);
  report.n_shards =
      write_shards(model, output.temporary(), plan, options.folder, {{"format", "pt"}}, events);
  output.commit();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lapidary
