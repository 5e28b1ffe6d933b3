// A connection is a loop: head, body, exchange. The head is checked by head_check.h before Beast
// sees a byte of it; Beast then reads the same head and the body, so two readers must agree.
//
// While the entry point waits for the engine, a wait for readability runs beside it, because that
// is the only way to hear that the client has left. It may outlive its exchange: it consumes
// nothing by itself, and looks at the connection only while somebody wants to know.
//
// What ends a connection early: a refused head (nobody knows where the next one would start), a
// body cut short, a request that comes too slowly (408), a client that does not read. The last
// answer is followed by a short lingering close; a plain close with unread bytes in the kernel
// would reset the connection and the client would never read why it was refused.
#include "router/http/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cassert>
#include <ctime>
#include <optional>
#include <random>
#include <utility>

#include "process/log.h"
#include "router/api/errors.h"
#include "router/http/connection.h"

namespace chorus::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using api::Error;
using api::ErrorKind;
using api::Task;
using boost::system::error_code;
using Clock = Connection::Clock;
using Outcome = Connection::Outcome;

constexpr size_t kReadBytes = 16 * 1024;
constexpr int kTurnReads = 16;  // that need not wait, before others get their turn

std::string make_request_id() {
  thread_local std::mt19937_64 generator{(uint64_t{std::random_device{}()} << 32) ^
                                         std::random_device{}()};
  return fmt::format("{:016x}{:016x}", generator(), generator());
}

// The client's id where it is harmless in a header and in a log, else one of ours.
std::string request_id(const std::string* sent) {
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           std::string_view("-_.:/+=@").find(c) != std::string_view::npos;
  };
  if (sent != nullptr && !sent->empty() && sent->size() <= 128 &&
      std::all_of(sent->begin(), sent->end(), plain)) {
    return *sent;
  }
  return make_request_id();
}

std::string_view reason_phrase(int status) {
  const beast::string_view phrase =
      beast::http::obsolete_reason(static_cast<beast::http::status>(status));
  return {phrase.data(), phrase.size()};
}

// "Tue, 24 Nov 2026 08:12:31 GMT", made once a second.
const std::string& http_date() {
  thread_local std::time_t made_at = 0;
  thread_local std::string date;
  if (const std::time_t now = std::time(nullptr); now != made_at) {
    constexpr std::array kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    constexpr std::array kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm utc{};
    gmtime_r(&now, &utc);
    date = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
                       kDays[static_cast<size_t>(utc.tm_wday)], utc.tm_mday,
                       kMonths[static_cast<size_t>(utc.tm_mon)], utc.tm_year + 1900, utc.tm_hour,
                       utc.tm_min, utc.tm_sec);
    made_at = now;
  }
  return date;
}

class BeastSession final : public Session,
                           public api::Exchange,
                           public std::enable_shared_from_this<BeastSession> {
 public:
  BeastSession(std::shared_ptr<Connection> connection, const ServerOptions& options,
               const api::EntryPoint& entry, bool spare)
      : connection_(std::move(connection)),
        limits_(options.limits),
        gate_(options.gate),
        browsers_(options.browsers),
        entry_(entry),
        spare_(spare),
        buffer_(limits_.head.head_bytes + limits_.pipelined_bytes + 2 * kReadBytes) {}

  // ---- Session ----

  Task<> run() override {
    const Outcome opened = co_await connection_->open(Clock::now() + limits_.head_time);
    gone_ = opened != Outcome::done;
    while (!closing_ && !gone_) {
      if (buffer_.size() > 0) co_await let_others();
      const bool head = co_await read_head();
      if (!head) break;
      const bool passed = co_await pass_gate();
      if (!passed) continue;
      const bool body = co_await read_body();
      if (!body) break;
      co_await answer();
    }
    co_await close();
  }

  void drain() override {
    draining_ = true;
    if (!idle_) return;
    connection_->shut_sending();
    connection_->close();
  }

  void abort() override {
    lose();
    connection_->close();
  }

  // ---- Exchange ----

  const api::Request& request() const override { return request_; }

  Task<> respond(api::Response response) override {
    assert(progress_ == Progress::unanswered);
    progress_ = Progress::done;
    status_ = response.status;
    std::string text = head_text(response);
    if (!response.content_type.empty()) {
      text += fmt::format("Content-Type: {}\r\nContent-Length: {}\r\n", response.content_type,
                          response.body.size());
    }
    text += "\r\n";
    if (head_.method == "HEAD") response.body.clear();
    std::array<asio::const_buffer, 2> buffers = {asio::buffer(text), asio::buffer(response.body)};
    co_await send(buffers);
  }

  Task<bool> start_stream(std::vector<api::HeaderField> headers) override {
    assert(progress_ == Progress::unanswered);
    progress_ = Progress::streaming;
    status_ = 200;
    const bool chunked = head_.version_minor > 0;
    if (!chunked) closing_ = true;  // HTTP/1.0: the end of the connection is the end of the body
    api::Response response;
    response.headers = std::move(headers);
    std::string text = head_text(response);
    text +=
        "Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n";
    text += chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n";
    stream_head_ = std::move(text);  // goes out with the first bytes
    co_return !gone_;
  }

  Task<bool> write(std::string_view bytes) override {
    assert(progress_ == Progress::streaming);
    if (bytes.empty()) co_return !gone_;  // an empty chunk would end the body
    const bool chunked = head_.version_minor > 0;
    std::string before = std::exchange(stream_head_, {});
    if (chunked) before += fmt::format("{:x}\r\n", bytes.size());
    const std::string_view after = chunked ? "\r\n" : "";
    std::array<asio::const_buffer, 3> buffers = {asio::buffer(before),
                                                 asio::buffer(bytes.data(), bytes.size()),
                                                 asio::buffer(after.data(), after.size())};
    const bool sent = co_await send(buffers);
    co_return sent;
  }

  void watch(std::function<void()> notify) override {
    notify_ = std::move(notify);
    if (!notify_) return;
    if (gone_) {
      asio::post(connection_->executor(), [self = shared_from_this()] { self->tell(); });
    } else {
      watch_connection();
    }
  }

  bool gone() const override { return gone_; }

  void set_log_detail(std::string detail) override { log_detail_ = std::move(detail); }

 private:
  enum class Progress { unanswered, streaming, done };

  // ---- reading ----

  // False: the connection ends (a refusal has been sent).
  Task<bool> read_head() {
    progress_ = Progress::unanswered;
    log_detail_.clear();
    request_ = {};
    head_ = {};
    const bool soon = spare_ || buffer_.size() > 0;
    Clock::time_point deadline = Clock::now() + (soon ? limits_.head_time : limits_.idle_time);
    bool blank_line = false;
    for (;;) {
      // One empty line before a request is forgiven (RFC 9112, 2.2).
      if (!blank_line && view().starts_with("\r\n")) {
        buffer_.consume(2);
        blank_line = true;
      }
      HeadScan scan = view() == "\r" && !blank_line ? HeadScan{} : scan_head(view(), limits_.head);
      if (scan.head_bytes > 0) scan.error = take_head(scan.head_bytes);
      if (scan.error && request_.fields.empty()) refused_origin_ = origin_of(view());
      if (scan.error) {
        co_await refuse(std::move(*scan.error));
        co_return false;
      }
      if (scan.head_bytes > 0) co_return true;
      idle_ = buffer_.size() == 0;
      if (idle_ && draining_) co_return false;
      const bool read = co_await read_or_refuse(deadline);
      if (!read) co_return false;
      if (idle_) deadline = Clock::now() + limits_.head_time;
      idle_ = false;
    }
  }

  std::optional<Error> take_head(size_t head_bytes) {
    auto head = check_head(view().substr(0, head_bytes), limits_.head);
    if (!head) return std::move(head.error());
    head_ = std::move(*head);
    if (!head_.keep_alive) closing_ = true;
    request_ = {.method = head_.method,
                .path = std::move(head_.path),
                .query = std::move(head_.query),
                .fields = std::move(head_.fields),
                .body = {},
                .id = {}};
    request_.id = request_id(request_.find("x-request-id"));
    request_.spare = spare_;
    if (head_.framing == Framing::length && head_.content_length > limits_.body_bytes) {
      return too_large();
    }
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(limits_.head.head_bytes));
    parser_->body_limit(limits_.body_bytes);
    parser_->eager(true);
    parser_->on_chunk_header(check_extension_);
    error_code error;
    const size_t taken = parser_->put(asio::buffer(buffer_.data().data(), head_bytes), error);
    if (error == beast::http::error::need_more) error = {};
    if (error || !parser_->is_header_done() || taken != head_bytes) {
      return Error{.kind = ErrorKind::invalid_request,
                   .message = "the request's head is not valid: " + error.message()};
    }
    buffer_.consume(head_bytes);
    return {};
  }

  // False: the request has been answered. Its body, unread, ends the connection.
  Task<bool> pass_gate() {
    std::optional<api::Response> refusal = browsers_.judge(request_);
    if (!refusal && gate_) refusal = gate_(request_);
    if (!refusal) co_return true;
    if (head_.framing != Framing::none) closing_ = true;
    parser_.reset();
    api::Response response = std::move(*refusal);
    co_await respond(std::move(response));
    log_exchange(0);
    if (gone_) closing_ = true;
    co_return false;
  }

  Task<bool> read_body() {
    if (head_.expect_continue && buffer_.size() == 0) {
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      std::array<asio::const_buffer, 1> buffers = {
          asio::buffer(kContinue.data(), kContinue.size())};
      const bool sent = co_await send(buffers);
      if (!sent) co_return false;
    }
    const Clock::time_point start = Clock::now() + limits_.body_grace;
    const size_t received_max = 8 * limits_.body_bytes + kReadBytes;  // framing of chunks included
    size_t received = buffer_.size();
    while (!parser_->is_done()) {
      std::optional<Error> error = parse_body();
      if (!error && received > received_max) error = too_large();
      if (error) {
        co_await refuse(std::move(*error));
        co_return false;
      }
      if (parser_->is_done()) break;
      const size_t before = buffer_.size();
      const auto earned =
          std::chrono::milliseconds(1000 * received / limits_.body_bytes_per_second);
      const bool read = co_await read_or_refuse(start + earned);
      if (!read) co_return false;
      received += buffer_.size() - before;
    }
    request_.body = std::move(parser_->get().body());
    parser_.reset();
    co_return true;
  }

  // Beast lets any byte stand in a quoted chunk extension; others end the line at a bare LF there.
  static void check_extension(uint64_t, beast::string_view extension, error_code& error) {
    for (char c : extension) {
      const auto byte = static_cast<unsigned char>(c);
      if ((byte < 0x20 && c != '\t') || byte == 0x7F) {
        error = beast::http::error::bad_chunk_extension;
      }
    }
  }

  // Beast aborts where it has seen the last chunk's "0\r\n" at the front, and is then asked with
  // one byte more: the shortest end has five.
  bool is_too_short_for_beast() const {
    return head_.framing == Framing::chunked && buffer_.size() < 5 && view().starts_with("0\r\n");
  }

  // Parses what is there, in portions, so that a line or a trailer that is longer than one is
  // refused even if all of it has come.
  std::optional<Error> parse_body() {
    while (buffer_.size() > 0 && !parser_->is_done() && !is_too_short_for_beast()) {
      error_code error;
      const size_t taken = parser_->put(asio::buffer(buffer_.data(), kReadBytes), error);
      buffer_.consume(taken);
      if (error == beast::http::error::need_more) {
        if (taken > 0) continue;
        // Beast waits for a whole line of a chunk's head or of the trailer.
        if (buffer_.size() < kReadBytes) return {};
        error = beast::http::error::header_limit;
      }
      if (error == beast::http::error::body_limit) return too_large();
      if (error) {
        return Error{.kind = ErrorKind::invalid_request,
                     .message = "the request's body is not framed right: " + error.message()};
      }
      if (taken == 0) return {};
    }
    return {};
  }

  Error too_large() const {
    return {.kind = ErrorKind::too_large,
            .message = fmt::format("the body is larger than {} bytes", limits_.body_bytes)};
  }

  // False: the connection ends (who is too slow with a request is told so).
  Task<bool> read_or_refuse(Clock::time_point deadline) {
    const Outcome outcome = co_await read_some(deadline);
    if (outcome == Outcome::timed_out && !idle_) {
      Error error{.kind = ErrorKind::timeout, .message = "the request came too slowly"};
      co_await refuse(std::move(error));
    } else if (outcome == Outcome::ended) {
      gone_ = true;
    }
    co_return outcome == Outcome::done;
  }

  // An idle connection waits without room for what may come: there can be thousands.
  Task<Outcome> read_some(Clock::time_point deadline) {
    if (++reads_ % kTurnReads == 0) co_await let_others();
    for (;;) {
      const Moved moved = read_now();
      if (moved.ended) co_return Outcome::ended;
      if (moved.until == Waiting::none) co_return Outcome::done;
      if (buffer_.size() == 0) buffer_.shrink_to_fit();
      const Outcome waited = co_await connection_->wait(moved.until, deadline);
      reads_ = 0;
      if (waited != Outcome::done) co_return waited;
    }
  }

  Moved read_now() {
    const auto space = buffer_.prepare(std::min(kReadBytes, buffer_.max_size() - buffer_.size()));
    const Moved moved =
        connection_->transport().read({static_cast<char*>(space.data()), space.size()});
    buffer_.commit(moved.bytes);
    return moved;
  }

  // A client whose bytes are always there already must not keep the thread for itself.
  Task<> let_others() { co_await asio::post(connection_->executor(), asio::use_awaitable); }

  std::string_view view() const {
    return {static_cast<const char*>(buffer_.data().data()), buffer_.size()};
  }

  // ---- answering ----

  Task<> answer() {
    const Clock::time_point start = Clock::now();
    bool fault = false;
    try {
      co_await entry_(*this);
    } catch (const std::exception& error) {  // the boundary of one request (DESIGN.md)
      process::log_error("request {}: {}", request_.id, error.what());
      fault = true;
    }
    notify_ = nullptr;
    if (progress_ == Progress::unanswered && !gone_) {
      if (!fault) process::log_error("request {}: no answer was made", request_.id);
      api::Response response = internal_error();
      co_await respond(std::move(response));
    } else if (progress_ == Progress::streaming) {
      if (fault) {
        closing_ = true;  // without the last chunk, so that the client knows
      } else if (head_.version_minor > 0 && !gone_) {
        std::string last = std::exchange(stream_head_, {}) + "0\r\n\r\n";
        std::array<asio::const_buffer, 1> buffers = {asio::buffer(last)};
        co_await send(buffers);
      }
    }
    log_exchange(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    if (gone_) closing_ = true;
    if (draining_ && buffer_.size() == 0) closing_ = true;
  }

  api::Response internal_error() const {
    return api::error_response(
        {.kind = ErrorKind::internal,
         .message = "a fault of the server; the log knows more about request " + request_.id});
  }

  // Answers a request that could not be read, and ends the connection.
  Task<> refuse(Error error) {
    closing_ = true;
    if (request_.id.empty()) request_.id = make_request_id();
    api::Response response = api::error_response(error);
    co_await respond(std::move(response));
    if (request_.method.empty()) {
      process::log_info("refused a request: {} {}", status_, error.message);
    } else {
      log_detail_ = std::move(error.message);
      log_exchange(0);
    }
  }

  std::string head_text(const api::Response& response) {
    if (draining_ || spare_) closing_ = true;
    std::string text =
        fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\nX-Request-Id: {}\r\n", response.status,
                    reason_phrase(response.status), http_date(), request_.id);
    if (closing_) {
      text += "Connection: close\r\n";
    } else if (head_.version_minor == 0) {
      text += "Connection: keep-alive\r\n";
    }
    for (const api::HeaderField& field : response.headers) {
      text += fmt::format("{}: {}\r\n", field.name, field.value);
    }
    const std::string* origin = request_.find("origin");
    if (origin == nullptr && !refused_origin_.empty()) origin = &refused_origin_;
    browsers_.append_fields(text, origin);
    return text;
  }

  Task<bool> send(std::span<asio::const_buffer> buffers) {
    if (gone_) co_return false;
    const Outcome sent = co_await connection_->write(buffers, Clock::now() + limits_.write_time);
    gone_ = gone_ || sent != Outcome::done;
    co_return !gone_;
  }

  void log_exchange(double ms) const {
    const int status = gone_ ? 499 : status_;
    std::string line = fmt::format("{} {} {} in {:.1f} ms, request {}", request_.method,
                                   request_.path, status, ms, request_.id);
    if (!request_.caller.empty()) line += ", key " + request_.caller;
    if (!log_detail_.empty()) line += ": " + log_detail_;
    // Probes and scrapes would drown the rest.
    const bool quiet = status == 200 && request_.method == "GET";
    process::log_line(quiet ? process::LogLevel::debug : process::LogLevel::info, line);
  }

  // ---- is the client still there? ----

  void watch_connection() {
    if (watching_) return;
    watching_ = true;
    connection_->when_readable([self = shared_from_this()](bool whole) {
      self->watching_ = false;
      self->look(whole);
    });
  }

  // Takes what a pipelining client has sent already: behind it may stand its end.
  void look(bool whole) {
    if (!notify_ || gone_) return;
    if (!whole) return lose();
    // Somebody who sends that far ahead is heard again when an answer cannot be written.
    if (buffer_.size() >= limits_.pipelined_bytes) return;
    if (read_now().ended) return lose();
    watch_connection();
  }

  void lose() {
    gone_ = true;
    tell();
  }

  void tell() {
    if (notify_) std::exchange(notify_, nullptr)();
  }

  // ---- the end ----

  Task<> close() {
    if (!gone_) connection_->shut_sending();
    const Clock::time_point deadline = Clock::now() + limits_.linger_time;
    idle_ = true;
    for (size_t left = 4 * limits_.body_bytes; !gone_ && left > 0;) {
      buffer_.clear();
      const Outcome read = co_await read_some(deadline);
      if (read != Outcome::done) break;
      left -= std::min(left, buffer_.size());
    }
    connection_->close();
  }

  const std::shared_ptr<Connection> connection_;
  const Limits& limits_;
  const api::Gate& gate_;
  const OriginPolicy& browsers_;
  const api::EntryPoint& entry_;
  const bool spare_;
  beast::flat_buffer buffer_;  // read, not yet parsed
  std::optional<beast::http::request_parser<beast::http::string_body>> parser_;
  // Named because the parser keeps a reference to it.
  void (*check_extension_)(uint64_t, beast::string_view, error_code&) = check_extension;
  Head head_;
  api::Request request_;
  Progress progress_ = Progress::unanswered;
  int status_ = 0;
  std::string stream_head_;
  std::string refused_origin_;  // of a head that was not taken
  std::string log_detail_;
  std::function<void()> notify_;
  bool watching_ = false;
  int reads_ = 0;         // since the last wait
  bool gone_ = false;     // nothing can be read or written any more
  bool closing_ = false;  // after this exchange
  bool draining_ = false;
  bool idle_ = false;  // no byte of a request is here
};

}  // namespace

std::shared_ptr<Session> make_session(asio::ip::tcp::socket socket, const ServerOptions& options,
                                      const api::EntryPoint& entry, bool spare) {
  boost::system::error_code ignored;  // a socket that is dead already: its first read finds out
  socket.native_non_blocking(true, ignored);
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  const int fd = socket.native_handle();
  auto transport =
      options.certificate ? options.certificate->make_transport(fd) : make_plain_transport(fd);
  auto connection = std::make_shared<Connection>(std::move(socket), std::move(transport));
  return std::make_shared<BeastSession>(std::move(connection), options, entry, spare);
}

}  // namespace chorus::http
