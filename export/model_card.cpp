// Provenance as a page.
#include "export/model_card.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/provenance.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

double number(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number())
    fail(ErrorCode::kBadData, "--report: {} is missing; give the output of lapidary verify --json",
         key);
  return found->get<double>();
}

// A table of what was compared. The report speaks of the .lap; what the export rounded came later.
std::string verification(const std::string& report, bool rounded) {
  const Json json = Json::parse(report, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("verdict") || !json["verdict"].is_string())
    fail(ErrorCode::kBadData, "--report: is not the output of lapidary verify --json");
  std::string text = fmt::format("\n## Verification\n\n`lapidary verify`: **{}**\n\n",
                                 json["verdict"].get<std::string>());
  if (rounded)
    text += "Measured on the .lap file, before the roundings of this export listed above.\n\n";
  text += "| | base | candidate | |\n|---|---|---|---|\n";
  const Json measured = json.value("text", Json());
  if (measured.is_object())
    text += fmt::format(
        "| text, nats per token | {:.4f} | {:.4f} | mean KLD {:.5f}, same best token {:.2f} % |\n",
        number(measured, "nll_base"), number(measured, "nll_candidate"),
        number(measured, "kld_mean"), 100 * number(measured, "top1_agreement"));
  const Json tasks = json.value("tasks", Json::object());
  for (const auto& [name, task] : tasks.items())
    text += fmt::format("| {} | {:.1f} % | {:.1f} % | {:.0f} items |\n", name,
                        100 * number(task, "base"), 100 * number(task, "candidate"),
                        number(task, "items"));
  return text;
}

// The source's name and licence, as a YAML block that model hubs read. JSON strings are YAML ones.
std::string front_matter(const Provenance& origin, const std::string& library) {
  std::string text = fmt::format("---\nlibrary_name: {}\n", library);
  if (!origin.source_name.empty())
    text += fmt::format("base_model: {}\n", Json(origin.source_name).dump());
  for (const auto& [key, value] : origin.license)
    text += fmt::format("{}: {}\n", key, Json(value).dump());
  return text + "---\n";
}

}  // namespace

std::string model_card(const ModelMetadata& metadata, const ModelCard& card) {
  const Provenance origin = provenance_from_json(metadata.provenance);
  std::string text = front_matter(origin, card.library);
  text += fmt::format("\n# {}\n\nExported by {} from a .lap file.\n\n", card.title, kToolVersion);
  text += fmt::format("| | |\n|---|---|\n| family | {} |\n", metadata.config.family);
  if (!origin.source_name.empty()) text += fmt::format("| source | {} |\n", origin.source_name);
  if (!origin.source_hash.empty())
    text += fmt::format("| hash of the source's weights | `{}` |\n", origin.source_hash);
  text += fmt::format("| hash of the exported file | `{}` |\n", card.content_hash);
  for (const auto& [key, value] : origin.license) text += fmt::format("| {} | {} |\n", key, value);

  text += "\n## What was done\n\n";
  if (origin.lossy_steps.empty() && card.lossy_steps.empty())
    text += "Nothing lossy: every weight has the bits it had.\n";
  for (const std::string& step : origin.lossy_steps) text += fmt::format("- {}\n", step);
  for (const std::string& step : card.lossy_steps) text += fmt::format("- {}\n", step);
  for (const std::string& part : origin.skipped) text += fmt::format("- left out: {}\n", part);
  if (metadata.recipe != "{}" && !metadata.recipe.empty())
    text += fmt::format("\nRecipe:\n\n```json\n{}\n```\n", metadata.recipe);
  if (!card.verify_report.empty())
    text += verification(card.verify_report, !card.lossy_steps.empty());
  text += fmt::format("\n## Use\n\n{}\n", card.usage);
  for (const std::string& note : card.notes) text += fmt::format("\n{}\n", note);
  return text;
}

}  // namespace lapidary
