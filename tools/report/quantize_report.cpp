// One section per function, in the order of the page.
#include "tools/report/quantize_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "tools/report/chart.h"
#include "tools/report/code_map.h"
#include "tools/report/html.h"
#include "tools/report/svg.h"

namespace lapidary {
namespace {

std::string megabytes(uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (value >= 1e9) return fmt::format("{:.2f} GB", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.2f} MB", value / 1e6);
  return fmt::format("{:.1f} kB", value / 1e3);
}
std::string small(double value) { return value == 0 ? "0" : fmt::format("{:.3g}", value); }

// "model.layers.3.mlp.up_proj.weight" is layer 3's "mlp.up_proj"; others have no layer.
struct Place {
  int layer = -1;
  std::string kind;
};
Place place_of(std::string name) {
  constexpr std::string_view kLayers = "model.layers.", kSuffix = ".weight";
  Place place;
  if (name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
  if (!name.starts_with(kLayers)) {
    place.kind = name.starts_with("model.") ? name.substr(6) : name;
    return place;
  }
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + kLayers.size(), end, place.layer);
  place.kind = parsed.ptr < end ? std::string(parsed.ptr + 1, end) : name;
  return place;
}

double predicted(const QuantizePage& page, const std::string& tensor) {
  if (page.allocation)
    for (const TensorCost& t : page.allocation->tensors)
      if (t.name == tensor) return t.kld;
  return 0;
}

std::string summary(const QuantizePage& page) {
  const QuantizeReport& r = page.report;
  std::vector<HtmlTile> tiles{
      {"Tensors", megabytes(r.bytes),
       fmt::format(
           "from {}, {:.1f} % smaller", megabytes(page.source_bytes),
           100.0 * (1.0 - static_cast<double>(r.bytes) / static_cast<double>(page.source_bytes)))},
      {"Bits per weight", fmt::format("{:.3f}", r.bits_per_weight), "scales and padding included"},
      {"File", megabytes(r.file_bytes), "tokenizer included"}};
  if (const auto& t = page.text) {
    tiles.push_back({"Divergence (KLD), mean", small(t->kld_mean),
                     "median " + small(t->kld_median) + ", 99\u00A0% " + small(t->kld_p99)});
    tiles.push_back({"Perplexity", fmt::format("{:.3f}", std::exp(t->nll_candidate)),
                     fmt::format("source {:.3f}, {:+.2f} %", std::exp(t->nll_base),
                                 100 * std::expm1(t->nll_candidate - t->nll_base))});
    tiles.push_back({"Same top token", fmt::format("{:.1f} %", 100 * t->top1_agreement),
                     fmt::format("of {} tokens, {}", t->tokens, page.text_source)});
  }
  return html_tiles(tiles);
}

std::string curve(const QuantizePage& page) {
  if (!page.allocation) return "";
  const Allocation& a = *page.allocation;
  LineChart chart;
  chart.title = "Divergence against size";
  chart.x_label = "bits per weight";
  chart.y_label = "predicted KLD, nats per token";
  chart.logarithmic = true;
  LineSeries allocated{"bits where they count", {}};
  for (const CurvePoint& p : a.curve) allocated.points.emplace_back(p.bits_per_weight, p.kld);
  chart.series.push_back(allocated);
  for (const auto& [code, p] : a.uniform)
    chart.marks.push_back({std::string(code_name(code)), p.bits_per_weight, p.kld, false});
  chart.marks.push_back({"this file", a.bits_per_weight, a.predicted_kld, true});
  return html_heading("The choice") +
         html_figure(draw(chart).str(),
                     "Every size has its best choice of codes (line); one code for everything is a "
                     "dot. Predicted from what each tensor costs at the output when it alone is "
                     "rounded, on calibration text.");
}

std::string bits(const QuantizePage& page) {
  CodeMap map;
  map.title = "Code of each matrix";
  for (const TensorReport& t : page.report.tensors) {
    const Place place = place_of(t.name);
    if (place.layer < 0 || traits(t.code).is_float) continue;
    map.n_layers = std::max(map.n_layers, place.layer + 1);
    map.rows[place.kind][place.layer] = {
        std::string(code_name(t.code)),
        fmt::format("{}: {}, {:.2f} bits, error {}", t.name, code_name(t.code), t.bits,
                    small(t.relative_error)),
        t.bits};
  }
  if (map.rows.empty()) return "";
  return html_figure(draw(map).str(),
                     "Layers from left to right, darker for more bits. Embeddings and tensors that "
                     "stay floats are in the table below.");
}

// What the packed tensors of one kind take and cost together.
struct Group {
  uint64_t bytes = 0;
  double weights = 0, kld = 0, error = 0;
  std::vector<const TensorReport*> tensors;
};
std::map<std::string, Group> groups_of(const QuantizePage& page) {
  std::map<std::string, Group> groups;
  for (const TensorReport& t : page.report.tensors) {
    const bool packed = !traits(t.code).is_float;
    Group& group = groups[packed ? place_of(t.name).kind : "kept as floats"];
    group.bytes += t.bytes;
    group.weights += 8.0 * static_cast<double>(t.bytes) / t.bits;
    group.kld += predicted(page, t.name);
    group.error = std::max(group.error, t.relative_error);
    group.tensors.push_back(&t);
  }
  return groups;
}

std::string shares(const QuantizePage& page, const std::map<std::string, Group>& groups) {
  BarChart size;
  size.title = "Where the bytes are";
  size.unit = "MB";
  BarChart cost;
  cost.title = "Where the divergence comes from";
  cost.unit = "nats";
  for (const auto& [kind, group] : groups) {
    size.bars.emplace_back(kind, static_cast<double>(group.bytes) / 1e6);
    if (group.kld > 0) cost.bars.emplace_back(kind, group.kld);
  }
  for (BarChart* chart : {&size, &cost})
    std::stable_sort(chart->bars.begin(), chart->bars.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string out = html_figure(draw(size).str(), "Stored bytes by kind of tensor.");
  if (page.allocation && !cost.bars.empty())
    out += html_figure(draw(cost).str(),
                       "Predicted KLD by kind of tensor. A good choice leaves no kind that buys "
                       "less divergence per byte than another.");
  return out;
}

std::string tables(const QuantizePage& page, const std::map<std::string, Group>& groups) {
  std::string out = html_heading("Every tensor");
  for (const auto& [kind, group] : groups) {
    std::vector<std::vector<HtmlCell>> rows;
    for (const TensorReport* t : group.tensors) {
      const bool packed = !traits(t->code).is_float;
      rows.push_back(
          {{t->name, ""},
           {std::string(code_name(t->code)), ""},
           {fmt::format("{:.3f}", t->bits), "number"},
           {megabytes(t->bytes), "number"},
           {!packed                    ? ""
            : t->relative_error == 0.0 ? "exact"
                                       : small(t->relative_error),
            "number"},
           {page.allocation && packed ? small(predicted(page, t->name)) : "", "number"}});
    }
    std::string remark =
        fmt::format("{} tensors, {}, {:.3f} bits", group.tensors.size(), megabytes(group.bytes),
                    8.0 * static_cast<double>(group.bytes) / group.weights);
    if (group.kld > 0) remark += ", KLD " + small(group.kld);
    out += html_details(kind, remark,
                        html_table({{"Tensor", ""},
                                    {"Code", ""},
                                    {"Bits", "number"},
                                    {"Size", "number"},
                                    {"Error", "number"},
                                    {"KLD", "number"}},
                                   rows));
  }
  return out;
}

std::string how_to_read(const QuantizePage& page) {
  std::string out = html_heading("How to read this");
  out += html_paragraph(
      "Error is the squared error of a tensor's weights relative to their squares. KLD is how far "
      "the distribution of the next token moves from the source's, in nats; perplexity is of the "
      "text itself.");
  if (page.allocation)
    out += html_paragraph(
        "A tensor's KLD is predicted: measured with that tensor alone rounded to a probe code, in "
        "float activations, and scaled by the error of its own code. The measured KLD above is of "
        "all tensors together, on other text, with the activations that the file will run with; "
        "harder text has more of it.");
  return out;
}

}  // namespace

std::string quantize_html(const QuantizePage& page) {
  const std::map<std::string, Group> groups = groups_of(page);
  std::string body = "<p class=\"eyebrow\">Lapidary quantize</p>\n<h1>" +
                     escape_xml(page.output_name) + " from " + escape_xml(page.source_name) +
                     "</h1>\n";
  body += summary(page);
  body += curve(page);
  body += html_heading("Who got how many bits") + bits(page) + shares(page, groups);
  body += tables(page, groups) + how_to_read(page);
  if (!page.made_by.empty()) body += "<footer>Made by " + escape_xml(page.made_by) + ".</footer>\n";
  return html_page(page.output_name + ": quantized from " + page.source_name, body);
}

}  // namespace lapidary
