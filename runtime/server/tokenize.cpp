// POST /tokenize and /detokenize: text or a chat to ids, and back.
//
//   {"content" or "prompt": TEXT, "add_special": false} or {"messages": [...], "tools": [...]}
//   -> {"tokens": [...], "count": N};   {"tokens": [...]} -> {"content": TEXT}
#include <nlohmann/json.hpp>

#include "runtime/server/chat_writer.h"
#include "runtime/server/endpoint.h"
#include "runtime/server/prompts.h"

namespace lapidary::server {
namespace {

using Json = nlohmann::ordered_json;

std::vector<int32_t> tokens_of(const Fields& body, const ServedModel& model) {
  if (body.has("messages")) return make_prompts(read_chat(body).ask, model).tokens.front();
  const std::string text =
      body.has("prompt") ? body.need_text("prompt") : body.need_text("content");
  std::vector<int32_t> ids = model.tokenizer().encode(text);
  if (body.flag("add_special").value_or(false) && model.bos_id() >= 0)
    ids.insert(ids.begin(), model.bos_id());
  return ids;
}

}  // namespace

void tokenize(const Call& call) {
  const Fields body = Fields::parse(call.request.body);
  const ModelUse use = call.models.use(body.text("model").value_or(""));
  const std::vector<int32_t> ids = tokens_of(body, *use.model);
  call.respond(Json{{"tokens", ids}, {"count", ids.size()}}.dump());
}

void detokenize(const Call& call) {
  const Fields body = Fields::parse(call.request.body);
  const ModelUse use = call.models.use(body.text("model").value_or(""));
  std::vector<int32_t> ids;
  for (const Fields& id : body.need_array("tokens"))
    ids.push_back(static_cast<int32_t>(id.as_integer(0, use.model->vocab_size() - 1)));
  const std::string text = use.model->tokenizer().decode(ids);
  call.respond(Json{{"content", text}}.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace lapidary::server
