// The transport alone, over loopback, with handlers made for the test.
#include "runtime/server/http.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "formats/error.h"
#include "tests/runtime/server/running_server.h"
#include "tests/runtime/server/socket_client.h"

namespace lapidary::server {
namespace {

using std::chrono::seconds;

void echo(HttpRequest request, std::shared_ptr<Exchange> exchange) {
  HttpResponse response;
  response.body = request.method + " " + request.path + "?" + request.query + " " + request.body;
  response.content_type = "text/plain";
  exchange->respond(std::move(response));
}

TEST(Http, AnswersRequestsInTurnOnOneConnection) {
  RunningServer running(echo);
  SocketClient client(running.port());
  for (int i = 0; i < 3; ++i) {
    client.send(request_text("POST", "/a/b?c=d", "body" + std::to_string(i)));
    EXPECT_NE(client.read_until("\r\n\r\n").find("HTTP/1.1 200 OK\r\n"), std::string::npos);
    EXPECT_EQ(client.read_until(std::to_string(i)), "POST /a/b?c=d body" + std::to_string(i));
  }
  // Both at once: the second waits its turn.
  client.send(request_text("POST", "/1", "x") + request_text("POST", "/2", "y"));
  client.read_until("\r\n\r\n");
  EXPECT_EQ(client.read_until("x"), "POST /1? x");
  client.read_until("\r\n\r\n");
  EXPECT_EQ(client.read_until("y"), "POST /2? y");
}

TEST(Http, BytesMayComeOneByOne) {
  RunningServer running(echo);
  SocketClient client(running.port());
  for (const char c : request_text("POST", "/slow", "ab")) client.send({&c, 1});
  client.read_until("\r\n\r\n");
  EXPECT_EQ(client.read_until("ab"), "POST /slow? ab");
}

TEST(Http, StreamsChunksAsTheyCome) {
  std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<Exchange> held;
  RunningServer running([&](HttpRequest, std::shared_ptr<Exchange> exchange) {
    HttpResponse head;
    head.content_type = "text/event-stream";
    head.body = "first";
    exchange->begin_stream(std::move(head));
    std::lock_guard lock(mutex);
    held = std::move(exchange);
    changed.notify_all();
  });
  SocketClient client(running.port());
  client.send(request_text("GET", "/"));
  client.read_until("\r\n\r\n");
  EXPECT_EQ(client.read_until("first\r\n"), "5\r\nfirst\r\n") << "before the stream's end";
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return held != nullptr; });
  held->write("second");
  EXPECT_EQ(client.read_until("second\r\n"), "6\r\nsecond\r\n");
  held->write("");
  held->end_stream();
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "0\r\n\r\n");
  held->write("late");  // dropped
}

TEST(Http, ADisconnectIsToldWhileTheAnswerWaits) {
  std::atomic<int> gone{0};
  std::vector<std::shared_ptr<Exchange>> held;
  std::mutex mutex;
  RunningServer running([&](HttpRequest, std::shared_ptr<Exchange> exchange) {
    exchange->on_gone([&] { ++gone; });
    std::lock_guard lock(mutex);
    held.push_back(std::move(exchange));
  });
  for (int i = 0; i < 4; ++i) {
    SocketClient client(running.port());
    client.send(request_text(i % 2 ? "GET" : "POST", "/", i % 2 ? "" : "x"));
    while (true) {
      std::lock_guard lock(mutex);
      if (held.size() == static_cast<size_t>(i) + 1) break;
    }
    i < 2 ? client.close() : client.reset();
    while (gone < i + 1) std::this_thread::yield();
  }
  while (running.server->n_connections() > 0) std::this_thread::yield();
}

TEST(Http, LimitsAreStatuses) {
  HttpOptions options;
  options.max_body_bytes = 1000;
  options.max_header_bytes = 2000;
  RunningServer running(echo, options);
  EXPECT_EQ(fetch(running.port(), "POST", "/", std::string(1000, 'x')).status, 200);
  EXPECT_EQ(fetch(running.port(), "POST", "/", std::string(1001, 'x')).status, 413);
  EXPECT_EQ(fetch(running.port(), "GET", "/", "", "X: " + std::string(3000, 'x') + "\r\n").status,
            431);
  EXPECT_EQ(fetch(running.port(), "GET", "/" + std::string(3000, 'x')).status, 431);
  for (const char* bytes : {"nonsense\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n",
                            "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                            "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02 hello"}) {
    SocketClient client(running.port());
    client.send(bytes);
    EXPECT_EQ(client.read_all(2500).substr(0, 12), "HTTP/1.1 400") << bytes;
  }
  // Without Content-Length, the body counts as it comes.
  SocketClient client(running.port());
  client.send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n600\r\n" +
              std::string(0x600, 'x') + "\r\n0\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n").substr(0, 12), "HTTP/1.1 413");
}

TEST(Http, ContinueIsSaidToThoseWhoWait) {
  RunningServer running(echo);
  SocketClient client(running.port());
  client.send("POST /c HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  client.read_until("\r\n\r\n");
  EXPECT_EQ(client.read_until("ok"), "POST /c? ok");
}

TEST(Http, SlowClientsAreClosed) {
  HttpOptions options;
  options.idle_limit = options.receive_limit = seconds(1);
  RunningServer running(echo, options);
  SocketClient silent(running.port()), half_header(running.port()), half_body(running.port());
  half_header.send("POST / HTTP/1.1\r\nContent-Le");
  half_body.send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_TRUE(silent.is_closed(4000));
  EXPECT_TRUE(half_header.is_closed(4000));
  EXPECT_TRUE(half_body.is_closed(4000));
}

TEST(Http, AReaderThatTakesNothingIsGivenUp) {
  HttpOptions options;
  options.max_unsent_bytes = 1u << 20;
  std::atomic<bool> gone{false};
  RunningServer running(
      [&](HttpRequest, std::shared_ptr<Exchange> exchange) {
        exchange->on_gone([&] { gone = true; });
        exchange->begin_stream({});
        while (!gone) {
          exchange->write(std::string(65536, 'x'));
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      },
      options);
  SocketClient client(running.port());
  client.send(request_text("POST", "/", "x"));
  for (int i = 0; i < 1000 && !gone; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(gone);
}

TEST(Http, ConnectionsAreLimited) {
  HttpOptions options;
  options.max_connections = 2;
  RunningServer running(echo, options);
  SocketClient a(running.port()), b(running.port());
  a.send(request_text("GET", "/a"));
  b.send(request_text("GET", "/b"));
  a.read_until("/a?");
  b.read_until("/b?");
  SocketClient c(running.port());
  EXPECT_EQ(c.read_until("\r\n").substr(0, 12), "HTTP/1.1 503");
  a.close();
  while (running.server->n_connections() > 1) std::this_thread::yield();
  EXPECT_EQ(fetch(running.port(), "GET", "/d").status, 200);
}

TEST(Http, StoppingWaitsForAnswersUnderWay) {
  std::shared_ptr<Exchange> held;
  std::atomic<bool> has_come{false};
  RunningServer running([&](HttpRequest, std::shared_ptr<Exchange> exchange) {
    held = std::move(exchange);
    has_come = true;
  });
  SocketClient idle(running.port()), busy(running.port());
  busy.send(request_text("POST", "/", "x"));
  while (!has_come) std::this_thread::yield();
  running.ask_to_stop();
  EXPECT_TRUE(idle.is_closed(4000));
  EXPECT_FALSE(SocketClient(running.port()).is_open()) << "takes no more connections";
  HttpResponse response;
  response.body = "at last";
  held->respond(std::move(response));
  EXPECT_NE(busy.read_until("at last").find("Connection: "), std::string::npos);
  running.stop();
  EXPECT_TRUE(running.all_done);
}

TEST(Http, StoppingCutsWhatTakesTooLong) {
  std::shared_ptr<Exchange> held;
  std::atomic<bool> has_come{false};
  HttpOptions options;
  options.drain_limit = seconds(0);
  RunningServer running(
      [&](HttpRequest, std::shared_ptr<Exchange> exchange) {
        held = std::move(exchange);
        has_come = true;
      },
      options);
  SocketClient busy(running.port());
  busy.send(request_text("POST", "/", "x"));
  while (!has_come) std::this_thread::yield();
  running.stop();
  EXPECT_FALSE(running.all_done);
  running.server.reset();
  held->respond({});  // nobody is there any more
  EXPECT_TRUE(busy.is_closed(1000));
}

TEST(Http, WrongAddressesAndTakenPortsAreErrors) {
  const auto code_of = [](HttpOptions options) {
    try {
      HttpServer server(options, echo);
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::kInternal;
  };
  HttpOptions options;
  options.host = "somewhere";
  EXPECT_EQ(code_of(options), ErrorCode::kUsage);
  RunningServer running(echo);
  options.host = "127.0.0.1";
  options.port = running.port();
  EXPECT_EQ(code_of(options), ErrorCode::kIo);
  options.port = 0;
  options.tls_certificate = "/nowhere/cert.pem";
  EXPECT_EQ(code_of(options), ErrorCode::kUsage) << "a certificate needs its key";
  options.tls_key = "/nowhere/key.pem";
  EXPECT_EQ(code_of(options), ErrorCode::kBadData);
}

}  // namespace
}  // namespace lapidary::server
