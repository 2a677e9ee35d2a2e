// Provenance as a page.
#include "export/model_card.h"

#include <fmt/format.h>

#include "formats/provenance.h"

namespace lapidary {

std::string model_card(const ModelMetadata& metadata, const ModelCard& card) {
  const Provenance origin = provenance_from_json(metadata.provenance);
  std::string text = fmt::format("---\nlibrary_name: {}\n", card.library);
  if (!origin.source_name.empty()) text += fmt::format("base_model: {}\n", origin.source_name);
  text +=
      fmt::format("---\n\n# {}\n\nExported by {} from a .lap file.\n\n", card.title, kToolVersion);
  text += fmt::format("| | |\n|---|---|\n| family | {} |\n", metadata.config.family);
  if (!origin.source_name.empty()) text += fmt::format("| source | {} |\n", origin.source_name);
  if (!origin.source_hash.empty())
    text += fmt::format("| hash of the source's weights | `{}` |\n", origin.source_hash);
  text += fmt::format("| hash of the exported file | `{}` |\n", card.content_hash);

  text += "\n## What was done\n\n";
  if (origin.lossy_steps.empty() && card.lossy_steps.empty())
    text += "Nothing lossy: every weight has the bits it had.\n";
  for (const std::string& step : origin.lossy_steps) text += fmt::format("- {}\n", step);
  for (const std::string& step : card.lossy_steps) text += fmt::format("- {}\n", step);
  for (const std::string& part : origin.skipped) text += fmt::format("- left out: {}\n", part);
  if (metadata.recipe != "{}" && !metadata.recipe.empty())
    text += fmt::format("\nRecipe:\n\n```json\n{}\n```\n", metadata.recipe);
  text += fmt::format("\n## Use\n\n{}\n", card.usage);
  for (const std::string& note : card.notes) text += fmt::format("\n{}\n", note);
  return text;
}

}  // namespace lapidary
