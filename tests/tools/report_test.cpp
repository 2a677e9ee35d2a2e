// Reports: well-formed, self-contained, escaped, and with the fields that scripts rely on.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/verify/statistics.h"
#include "tools/report/chart.h"
#include "tools/report/html.h"
#include "tools/report/quantize_report.h"
#include "tools/report/svg.h"
#include "tools/report/verify_json.h"
#include "tools/report/verify_report.h"

namespace lapidary {
namespace {

constexpr const char* kHostile = "<script>alert('x')</script>\"&\x01\xFF";

// The first mistake in the nesting of tags, or empty. Attribute values hold no '>' (escaped).
std::string nesting_mistake(std::string_view markup) {
  const std::set<std::string_view> kVoid = {"meta", "!DOCTYPE", "?xml"};
  std::vector<std::string> open;
  for (size_t at = markup.find('<'); at != std::string_view::npos; at = markup.find('<', at + 1)) {
    const size_t end = markup.find('>', at);
    if (end == std::string_view::npos) return "unfinished tag";
    const std::string_view tag = markup.substr(at + 1, end - at - 1);
    const size_t quotes = static_cast<size_t>(std::count(tag.begin(), tag.end(), '"'));
    if (quotes % 2 != 0) return "odd quotes in " + std::string(tag);
    if (tag.starts_with("/")) {
      if (open.empty() || open.back() != tag.substr(1))
        return "unexpected </" + std::string(tag.substr(1)) + ">";
      open.pop_back();
    } else {
      const std::string name(tag.substr(0, tag.find_first_of(" /")));
      if (!kVoid.contains(name) && !tag.ends_with("/")) open.push_back(name);
    }
  }
  return open.empty() ? "" : "unclosed <" + open.back() + ">";
}

TaskComparison task(int64_t items, int64_t right, int64_t lost, int64_t gained) {
  TaskComparison t;
  t.items = items;
  t.base_only = lost;
  t.candidate_only = gained;
  t.base = static_cast<double>(right) / static_cast<double>(items);
  t.difference = static_cast<double>(gained - lost) / static_cast<double>(items);
  t.candidate = t.base + t.difference;
  const Interval interval = tango_interval(lost, gained, items);
  t.interval[0] = interval.first;
  t.interval[1] = interval.second;
  return t;
}

VerifyResult example() {
  VerifyResult result;
  result.text.emplace();
  TextComparison& text = *result.text;
  text.tokens = 24852;
  text.nll_base = 4.3683;
  text.nll_candidate = 4.3801;
  text.interval[0] = 0.0062;
  text.interval[1] = 0.0174;
  text.kld_mean = 0.0213;
  text.kld_median = 0.0092;
  text.kld_p99 = 0.18;
  text.top1_agreement = 0.934;
  for (int i = 0; i < 24852; ++i) {  // a plausible spread: log-normal by a sum of sines
    const double z = std::sin(i * 0.7) + std::sin(i * 1.3 + 1) + std::sin(i * 2.9 + 2);
    text.kld.push_back(static_cast<float>(0.0092 * std::exp(1.1 * z)));
    text.nll_difference.push_back(static_cast<float>(0.0118 + 0.11 * z));
  }
  result.tasks = {{"sort", task(120, 110, 3, 2)},
                  {"reverse", task(400, 400, 0, 0)},
                  {"tool", task(400, 400, 22, 0)},
                  {"add", task(400, 12, 6, 9)},
                  {kPooledName, task(1320, 922, 31, 11)}};
  judge(result);
  return result;
}

VerifyLabels labels() {
  VerifyLabels out;
  out.base = {"nano-e.lap", {{"Size", "17.6 MB"}, {"Bits per weight", "16.00"}, {"Cache", "bf16"}}};
  out.candidate = {"nano-e.w4.lap",
                   {{"Size", "5.0 MB"}, {"Bits per weight", "4.31"}, {"Cache", "bf16"}}};
  out.text_source = "own.txt";
  out.tasks_source = "skills.jsonl";
  out.made_by = "lapidary 0.1.0";
  return out;
}

TEST(Escape, NeutralizesMarkupControlsAndBrokenUtf8) {
  EXPECT_EQ(escape_xml("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape_xml("\x01x\x7F"), "\xEF\xBF\xBDx\xEF\xBF\xBD");
  EXPECT_EQ(escape_xml("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(escape_xml("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");          // overlong '/'
  EXPECT_EQ(escape_xml("\xED\xA0\x80").find('\xED'), std::string::npos);  // a surrogate
  EXPECT_EQ(escape_xml("\xE2\x82"), "\xEF\xBF\xBD\xEF\xBF\xBD");          // cut short
}

TEST(Ticks, AreRoundAndInsideTheRange) {
  EXPECT_EQ(nice_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  const std::vector<double> ticks = nice_ticks(-0.013, 0.027, 4);
  ASSERT_FALSE(ticks.empty());
  EXPECT_NE(std::find(ticks.begin(), ticks.end(), 0.0), ticks.end());
  for (const double tick : ticks) EXPECT_TRUE(tick >= -0.0131 && tick <= 0.0271);
  EXPECT_EQ(nice_ticks(3, 3, 5), std::vector<double>{3});
}

TEST(Charts, AreWellFormedWithHostileNamesAndNumbers) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  LineChart lines{kHostile,
                  kHostile,
                  kHostile,
                  {{kHostile, {{0, 1}, {1, nan}, {infinity, 2}, {3, 3}}}, {"", {}}},
                  {{kHostile, nan, 1, true}}};
  BarChart bars{kHostile, kHostile, {{kHostile, 3}, {"b", nan}, {"c", -1}}};
  Histogram linear{kHostile, kHostile, {1, 2, 3, static_cast<float>(nan)}, false, {{kHostile, 2}}};
  Histogram logarithmic{
      kHostile, kHostile, {0, 1e-3f, 1, static_cast<float>(infinity)}, true, {{"m", 0}}};
  IntervalPlot plot{kHostile,
                    kHostile,
                    {{kHostile, "", 0, -1, 1, -0.5, infinity, "pass"}, {"n", "", nan, nan, nan}}};
  for (const std::string& svg :
       {draw(lines).str(), draw(bars).str(), draw(linear).str(), draw(logarithmic).str(),
        draw(plot).str(), draw(LineChart{}).str(), draw(BarChart{}).str(), draw(Histogram{}).str(),
        draw(IntervalPlot{}).str(), draw(lines).standalone()}) {
    EXPECT_EQ(nesting_mistake(svg), "");
    EXPECT_EQ(svg.find("<script"), std::string::npos);
    EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
  }
}

TEST(Histogram, PutsEveryFiniteValueIntoOneBar) {
  const std::string svg = draw(Histogram{"t", "x", {0, 0, 1e-4f, 2e-4f, 0.5f}, true, {}}).str();
  EXPECT_NE(svg.find("2 below 1e-8"), std::string::npos);
  EXPECT_NE(svg.find("1 values"), std::string::npos);
}

TEST(VerifyReport, IsWellFormedAndSelfContained) {
  const std::string page = verify_html(example(), labels());
  EXPECT_EQ(nesting_mistake(page), "");
  for (const char* foreign : {"http:", "https:", "<script", "<link", "@import", "url(", "src="})
    EXPECT_EQ(page.find(foreign), std::string::npos) << foreign;
  for (const char* expected :
       {"FAIL", "nano-e.w4.lap", "all, pooled", "prefers-color-scheme", "+0.0118", "<svg"})
    EXPECT_NE(page.find(expected), std::string::npos) << expected;
  // LAPIDARY_REPORT_OUT=FILE keeps the page, to look at it in a browser.
  if (const char* out = std::getenv("LAPIDARY_REPORT_OUT")) std::ofstream(out) << page;
}

TEST(VerifyReport, EscapesHostileNamesEverywhere) {
  VerifyResult result = example();
  result.tasks[kHostile] = task(10, 5, 1, 1);
  judge(result);
  VerifyLabels hostile;
  hostile.base = {kHostile, {{kHostile, kHostile}}};
  hostile.candidate = hostile.base;
  hostile.text_source = hostile.tasks_source = hostile.made_by = kHostile;
  const std::string page = verify_html(result, hostile);
  EXPECT_EQ(nesting_mistake(page), "");
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find('\x01'), std::string::npos);
  EXPECT_EQ(page.find('\xFF'), std::string::npos);
  EXPECT_EQ(nesting_mistake(verify_junit(result, kHostile)), "");
  EXPECT_NO_THROW(nlohmann::json::parse(verify_json(result)));
}

TEST(VerifyReport, ShowsIdenticalModelsWithoutEmptyPictures) {
  VerifyResult result;
  result.identical = true;
  result.text.emplace();
  result.text->tokens = 100;
  result.text->top1_agreement = 1;
  result.text->kld.assign(100, 0.0f);
  judge(result);
  const std::string page = verify_html(result, labels());
  EXPECT_EQ(nesting_mistake(page), "");
  EXPECT_EQ(page.find("Divergence of each token"), std::string::npos);
}

TEST(VerifyJson, HasTheFixedFields) {
  const auto json = nlohmann::json::parse(verify_json(example()));
  EXPECT_EQ(json.size(), 5u);
  EXPECT_EQ(json.at("verdict"), "FAIL");
  for (const char* field : {"tokens", "nll_base", "nll_candidate", "kld_mean", "kld_median",
                            "kld_p99", "top1_agreement"})
    EXPECT_TRUE(json.at("text").at(field).is_number()) << field;
  EXPECT_EQ(json["text"]["interval"].size(), 2u);
  EXPECT_EQ(json["text"].size(), 8u);
  for (const char* field : {"items", "base", "candidate", "difference"})
    EXPECT_TRUE(json.at("tasks").at("tool").at(field).is_number()) << field;
  EXPECT_EQ(json["tasks"]["tool"]["interval"].size(), 2u);
  EXPECT_DOUBLE_EQ(json["tasks"]["tool"]["difference"], -22.0 / 400);
  EXPECT_TRUE(json["tasks"].contains("pooled"));
  EXPECT_EQ(json.at("margins"), nlohmann::json({{"nats", 0.02}, {"task", 0.02}, {"pooled", 0.01}}));
  EXPECT_EQ(json.at("reasons").size(), 6u);
}

TEST(VerifyJson, HasNullForATextThatWasNotCompared) {
  VerifyResult result;
  result.tasks = {{"sort", task(1000, 900, 0, 0)}};
  judge(result);
  const auto json = nlohmann::json::parse(verify_json(result));
  EXPECT_TRUE(json.at("text").is_null());
  EXPECT_EQ(json.at("verdict"), "PASS");
}

TEST(VerifyJunit, CountsFailuresAndSkips) {
  const std::string xml = verify_junit(example(), "nano-e.w4.lap");
  EXPECT_EQ(nesting_mistake(xml), "");
  // text and most tasks pass, tool fails, sort has too few items.
  EXPECT_NE(xml.find("tests=\"6\""), std::string::npos);
  EXPECT_NE(xml.find("<failure message=\"-5.50 points"), std::string::npos);
  EXPECT_NE(xml.find("<skipped message="), std::string::npos);
}

QuantizePage quantize_example() {
  QuantizePage page;
  page.source_name = kHostile;
  page.output_name = "small.lap";
  page.source_bytes = 24'000'000;
  page.report.bytes = 6'400'000;
  page.report.file_bytes = 6'900'000;
  page.report.bits_per_weight = 4.25;
  page.report.tensors = {{"model.embed_tokens.weight", Code::kW6, 6.13, 7e-4, 1'600'000},
                         {"model.norm.weight", Code::kBF16, 16, 0, 512},
                         {kHostile, Code::kW3, 3.25, 0.03, 1000}};
  Allocation allocation;
  for (int layer = 0; layer < 48; ++layer)
    for (const char* kind : {"mlp.up_proj", "self_attn.o_proj"}) {
      const std::string name = fmt::format("model.layers.{}.{}.weight", layer, kind);
      page.report.tensors.push_back({name, layer % 2 ? Code::kW4 : Code::kW4x, 4.2, 0, 100'000});
      allocation.tensors.push_back({name, Code::kW4, 100'000, 1e-4});
    }
  for (int i = 0; i < 30; ++i) allocation.curve.push_back({3.2 + 0.2 * i, std::pow(0.3, 0.2 * i)});
  allocation.uniform = {{Code::kW4, {4.2, 0.06}}, {Code::kW3, {3.25, 0.3}}};
  allocation.bits_per_weight = 4.25;
  allocation.predicted_kld = 0.05;
  page.allocation = allocation;
  page.text = example().text;
  page.text_source = "held-out";
  return page;
}

TEST(QuantizeReport, IsOneWellFormedPageWithNothingFromOutside) {
  const std::string page = quantize_html(quantize_example());
  EXPECT_EQ(nesting_mistake(page), "");
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos);
  EXPECT_EQ(page.find("src="), std::string::npos);
}

TEST(QuantizeReport, SaysSizesLossAndEachTensor) {
  const std::string page = quantize_html(quantize_example());
  for (const char* expected :
       {"73.3 % smaller", "4.250", "this file", "model.layers.47.mlp.up_proj.weight", "exact",
        "kept as floats", "Perplexity"})
    EXPECT_NE(page.find(expected), std::string::npos) << expected;
}

TEST(QuantizeReport, NeedsNeitherABudgetNorAText) {
  QuantizePage page = quantize_example();
  page.allocation.reset();
  page.text.reset();
  const std::string html = quantize_html(page);
  EXPECT_EQ(nesting_mistake(html), "");
  EXPECT_EQ(html.find("The choice"), std::string::npos);
}

TEST(LineChart, LogarithmicAxesLeaveOutWhatIsNotPositive) {
  LineChart chart;
  chart.logarithmic = true;
  chart.series = {{"a", {{1, 0.1}, {2, 0.0}, {3, 1e-4}}}};
  chart.marks = {{"here", 2, 0.01, true}, {"nowhere", 2, -1, false}};
  const std::string svg = draw(chart).standalone();
  EXPECT_EQ(nesting_mistake(svg), "");
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  EXPECT_NE(svg.find("here"), std::string::npos);
  EXPECT_EQ(svg.find("nowhere"), std::string::npos);
}

}  // namespace
}  // namespace lapidary
