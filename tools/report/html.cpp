// Page frame and its style. Colours of pictures come from svg_style().
#include "tools/report/html.h"

#include "tools/report/svg.h"

namespace lapidary {
namespace {

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1c2330;--soft:#5d6778;--rule:#dfe3ea;
--pass:#2b8a3e;--fail:#c92a2a;--unsure:#b35c00;--shadow:0 1px 2px #10182814,0 4px 16px #1018280f}
@media(prefers-color-scheme:dark){:root{--paper:#12161e;--card:#1a202b;--ink:#e8ecf4;--soft:#9aa5b8;
--rule:#313a4a;--pass:#69db7c;--fail:#ff8787;--unsure:#ffc078;--shadow:none}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);line-height:1.5;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
main{max-width:860px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 20px;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:40px 0 12px}
p,li{overflow-wrap:anywhere}
.eyebrow{color:var(--soft);font-size:.8rem;letter-spacing:.08em;text-transform:uppercase;margin:0 0 6px}
.banner{border-radius:14px;padding:22px 24px;margin:0 0 20px;color:#fff;box-shadow:var(--shadow)}
.banner.pass{background:#2b8a3e}.banner.fail{background:#c92a2a}.banner.unsure{background:#a65300}
.banner b{display:block;font-size:2rem;letter-spacing:.02em;line-height:1.2}.banner p{margin:4px 0 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(260px,1fr));gap:14px}
.card,figure,.table{background:var(--card);border:1px solid var(--rule);border-radius:12px;box-shadow:var(--shadow)}
.card{padding:16px 18px;min-width:0}.card h3{margin:0;font-size:.8rem;color:var(--soft);font-weight:600}
.card>p{margin:2px 0 10px;font-weight:600}
dl{display:grid;grid-template-columns:auto 1fr;gap:3px 16px;margin:0;font-size:.9rem}
dt{color:var(--soft)}dd{margin:0;text-align:right;overflow-wrap:anywhere;min-width:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:12px;margin:0 0 14px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:12px 14px;box-shadow:var(--shadow)}
.tile span{display:block;color:var(--soft);font-size:.8rem}.tile b{font-size:1.3rem;font-variant-numeric:tabular-nums}
figure{margin:0 0 14px;padding:16px 18px}figure svg{display:block;width:100%;height:auto}
figcaption{color:var(--soft);font-size:.875rem;margin-top:8px}
.table{overflow-x:auto;margin:0 0 14px}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:9px 11px;text-align:left;border-bottom:1px solid var(--rule);vertical-align:top}
td:first-child{min-width:7em;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;font-size:.8rem;white-space:nowrap}tr:last-child td{border-bottom:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.pill span{display:inline-block;border:1px solid;border-radius:99px;padding:0 10px;font-size:.75rem;font-weight:600}
.pass span{color:var(--pass)}.fail span{color:var(--fail)}.unsure span{color:var(--unsure)}
.bar span{display:block;min-width:1px;height:10px;margin-top:6px;border-radius:3px;background:#748ffc}
details{margin:0 0 10px}summary{cursor:pointer;padding:6px 2px;color:var(--ink);font-weight:600}
summary small{color:var(--soft);font-weight:400;margin-left:8px}
ul.reasons{list-style:none;padding:0;margin:0}
ul.reasons li{background:var(--card);border:1px solid var(--rule);border-left:4px solid var(--soft);border-radius:8px;
padding:10px 14px;margin:0 0 8px}
ul.reasons li.pass{border-left-color:var(--pass)}ul.reasons li.fail{border-left-color:var(--fail)}
ul.reasons li.unsure{border-left-color:var(--unsure)}
footer{color:var(--soft);font-size:.85rem;margin-top:40px}
@media print{body{background:#fff}.card,figure,.table,.tile{box-shadow:none;break-inside:avoid}}
)";

}  // namespace

std::string html_page(std::string_view title, std::string_view body) {
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>";
  page += escape_xml(title);
  page += "</title>\n<style>";
  page += kStyle;
  page += svg_style();
  page += "</style>\n</head>\n<body>\n<main>\n";
  page += body;
  page += "</main>\n</body>\n</html>\n";
  return page;
}

std::string html_heading(std::string_view text) { return "<h2>" + escape_xml(text) + "</h2>\n"; }

std::string html_paragraph(std::string_view text) { return "<p>" + escape_xml(text) + "</p>\n"; }

std::string html_figure(std::string_view svg, std::string_view caption) {
  return "<figure>\n" + std::string(svg) + "<figcaption>" + escape_xml(caption) +
         "</figcaption>\n</figure>\n";
}

std::string html_table(const std::vector<HtmlCell>& header,
                       const std::vector<std::vector<HtmlCell>>& rows) {
  const auto row = [](const std::vector<HtmlCell>& cells, const std::string& tag) {
    std::string out = "<tr>";
    for (const HtmlCell& cell : cells)
      out += "<" + tag + " class=\"" + cell.css + "\"><span>" + escape_xml(cell.text) +
             "</span></" + tag + ">";
    return out + "</tr>\n";
  };
  std::string table =
      "<div class=\"table\"><table>\n<thead>" + row(header, "th") + "</thead>\n<tbody>\n";
  for (const auto& cells : rows) table += row(cells, "td");
  return table + "</tbody></table></div>\n";
}

std::string html_details(std::string_view summary, std::string_view remark, std::string_view body) {
  return "<details><summary>" + escape_xml(summary) + "<small>" + escape_xml(remark) +
         "</small></summary>\n" + std::string(body) + "</details>\n";
}

std::string html_tiles(const std::vector<HtmlTile>& tiles) {
  std::string out = "<div class=\"tiles\">\n";
  for (const HtmlTile& tile : tiles)
    out += "<div class=\"tile\"><span>" + escape_xml(tile.name) + "</span><b>" +
           escape_xml(tile.value) + "</b><span>" + escape_xml(tile.remark) + "</span></div>\n";
  return out + "</div>\n";
}

std::string html_card(std::string_view title, std::string_view headline,
                      const std::vector<std::pair<std::string, std::string>>& facts) {
  std::string out = "<div class=\"card\"><h3>" + escape_xml(title) + "</h3><p>" +
                    escape_xml(headline) + "</p><dl>";
  for (const auto& [name, value] : facts)
    out += "<dt>" + escape_xml(name) + "</dt><dd>" + escape_xml(value) + "</dd>";
  return out + "</dl></div>\n";
}

}  // namespace lapidary
