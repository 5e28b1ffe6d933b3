// A session on one end of a socket pair, fed on the other in any pieces and left at any byte, in
// one thread and without a clock: for the fuzz target and for seeded tests.
#pragma once

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <exception>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/http/session.h"

namespace chorus::http_test {

struct FeedPlan {
  uint32_t seed = 1;
  size_t piece_bytes_max = 0;                 // of random pieces; 0: all at once
  std::optional<size_t> leave_sent = {};      // the client closes after so many bytes sent
  std::optional<size_t> leave_received = {};  // or received
};

struct Fed {
  std::string received;
  int calls = 0;       // of the entry point
  bool ended = false;  // the session, once the client had ended
};

// By the path: "/s..." streams, "/w..." waits until the client is gone, "/t..." throws, the rest
// is answered. Each answer says which call it is.
inline api::Task<> answer_fed(api::Exchange& exchange, int& calls) {
  const int call = ++calls;
  const std::string path = exchange.request().path;
  if (path.starts_with("/t")) throw std::runtime_error("thrown");
  if (path.starts_with("/w")) {
    boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
    timer.expires_after(std::chrono::hours(1));
    exchange.watch([&] { timer.cancel(); });
    co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    co_return;
  }
  if (path.starts_with("/s")) {
    std::vector<api::HeaderField> none;
    co_await exchange.start_stream(std::move(none));
    for (int i = 0; i < 8; ++i) {
      const std::string event = fmt::format("data: {} {} {:>600}\n\n", call, i, "");
      const bool sent = co_await exchange.write(event);
      if (!sent) co_return;
      co_await boost::asio::post(boost::asio::use_awaitable);
    }
    co_return;
  }
  api::Response response;
  response.body = fmt::format("{{\"call\":{},\"bytes\":{}}}", call, exchange.request().body.size());
  co_await exchange.respond(std::move(response));
}

class Feeder {
 public:
  Feeder() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
      throw std::runtime_error("no socket pair");
    }
    client_ = ends[0];
    const int small = 1;  // the kernel's least: writes have to wait
    ::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    options_.limits.body_bytes = 10'000;
    // None passes on a machine however slow: a 408 would depend on the cut.
    options_.limits.head_time = options_.limits.idle_time = options_.limits.body_grace =
        options_.limits.write_time = options_.limits.linger_time = std::chrono::hours(24);
    session_ = http::make_session(
        boost::asio::ip::tcp::socket(context_, boost::asio::ip::tcp::v4(), ends[1]), options_,
        entry_, /*spare=*/false);
    boost::asio::co_spawn(context_, session_->run(), [this](std::exception_ptr fault) {
      fed_.ended = true;
      fault_ = fault;
    });
  }
  ~Feeder() { leave(); }
  Feeder(const Feeder&) = delete;
  Feeder& operator=(const Feeder&) = delete;

  Fed feed(std::string_view bytes, const FeedPlan& plan) {
    std::mt19937 random(plan.seed);
    if (plan.leave_sent) bytes = bytes.substr(0, *plan.leave_sent);
    while (!bytes.empty() && client_ >= 0 && !fed_.ended) {
      size_t piece = bytes.size();
      if (plan.piece_bytes_max > 0) piece = std::min(piece, 1 + random() % plan.piece_bytes_max);
      const ssize_t sent = ::send(client_, bytes.data(), piece, MSG_NOSIGNAL);
      if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
      if (sent < 0 && errno != EAGAIN) break;
      turn(plan);
    }
    if (plan.leave_sent) leave();
    if (client_ >= 0) ::shutdown(client_, SHUT_WR);
    for (int i = 0; i < 100'000 && !fed_.ended; ++i) turn(plan);
    const Fed fed = fed_;
    session_->abort();
    context_.run();
    if (fault_) std::rethrow_exception(fault_);
    return fed;
  }

 private:
  // Lets the session do what it can, and takes what it writes.
  void turn(const FeedPlan& plan) {
    context_.poll();
    char part[4096];
    while (client_ >= 0) {
      const ssize_t got = ::recv(client_, part, sizeof part, 0);
      if (got <= 0) break;
      fed_.received.append(part, static_cast<size_t>(got));
      if (plan.leave_received && fed_.received.size() >= *plan.leave_received) leave();
    }
  }
  void leave() {
    if (client_ >= 0) ::close(std::exchange(client_, -1));
  }

  Fed fed_;
  std::exception_ptr fault_;
  int client_ = -1;
  http::ServerOptions options_;
  boost::asio::io_context context_{1};
  api::EntryPoint entry_ = [this](api::Exchange& exchange) {
    return answer_fed(exchange, fed_.calls);
  };
  std::shared_ptr<http::Session> session_;
};

inline Fed feed(std::string_view bytes, const FeedPlan& plan) {
  return Feeder().feed(bytes, plan);
}

// What is wrong with the answers of a fed session; empty: nothing. Each is whole (the last one may
// be cut where `cut_allowed`), the calls come in their order, and nothing follows a refusal.
inline std::string fault_in_answers(std::string_view received, int calls, bool cut_allowed) {
  int answers = 0, refusals = 0;
  while (!received.empty()) {
    const std::string_view whole = received;
    const auto cut = [&] {
      return cut_allowed ? std::string() : fmt::format("an answer is cut: {}", whole);
    };
    const size_t head_end = received.find("\r\n\r\n");
    if (head_end == received.npos) return cut();
    const std::string_view head = received.substr(0, head_end + 2);
    received.remove_prefix(head_end + 4);
    if (!head.starts_with("HTTP/1.1 ")) return fmt::format("no answer: {}", whole);
    if (head.starts_with("HTTP/1.1 100")) continue;
    if (refusals > 0) return fmt::format("an answer follows a refusal: {}", whole);
    std::string body;
    if (head.find("Transfer-Encoding: chunked") != head.npos) {
      for (size_t bytes = 1; bytes > 0;) {
        const size_t line = received.find("\r\n");
        if (line == received.npos) return cut();
        bytes = std::stoul(std::string(received.substr(0, line)), nullptr, 16);
        if (received.size() < line + 4 + bytes) return cut();
        body += received.substr(line + 2, bytes);
        if (received.substr(line + 2 + bytes, 2) != "\r\n") return "a chunk has no end";
        received.remove_prefix(line + 4 + bytes);
      }
    } else if (const size_t at = head.find("Content-Length: "); at != head.npos) {
      const size_t bytes = std::stoul(std::string(head.substr(at + 16)));
      const bool bodiless = received.starts_with("HTTP/1.1 ");  // it answers a HEAD
      if (!bodiless && received.size() < bytes) return received.empty() ? "" : cut();
      body = received.substr(0, bodiless ? 0 : bytes);
      received.remove_prefix(body.size());
    } else {
      body = received;  // HTTP/1.0: to the end
      received = {};
    }
    ++answers;
    if (body.find("\"error\"") != body.npos && body.find("fault of the server") == body.npos) {
      ++refusals;
    }
  }
  if (answers - refusals > calls) return fmt::format("{} answers to {} calls", answers, calls);
  return "";
}

}  // namespace chorus::http_test
