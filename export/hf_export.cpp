// The plan is the model itself, tensor by tensor.
#include "export/hf_export.h"

#include "export/model_folder.h"

namespace lapidary {

FolderReport export_hf(const LapReader& model, const std::string& folder,
                       const HfExportOptions& options, const Events& events) {
  ModelFolder out;
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const SourceTensor& tensor = model.tensors()[i];
    out.tensors.push_back(float_tensor(model, i));
    out.report.tensors.push_back(float_report(tensor.name, tensor.code));
  }
  out.config_json = hf_config_json(model.metadata().config, options.dialect);
  out.library = "transformers";
  out.usage =
      "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
      "model = AutoModelForCausalLM.from_pretrained(\"path/to/this/folder\")\n"
      "tokenizer = AutoTokenizer.from_pretrained(\"path/to/this/folder\")\n```";
  return write_model_folder(model, folder, std::move(out), options.card, options.folder, events);
}

}  // namespace lapidary
