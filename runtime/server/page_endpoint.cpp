// GET /: the chat page. Its policy lets it talk to this server and to nobody else.
#include "runtime/server/endpoint.h"
#include "runtime/server/page.h"

namespace lapidary::server {

void show_page(const Call& call) {
  HttpResponse response;
  response.body = chat_page();
  response.content_type = "text/html; charset=utf-8";
  response.headers = {
      {"Content-Security-Policy",
       "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; "
       "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"}};
  call.exchange->respond(std::move(response));
}

}  // namespace lapidary::server
