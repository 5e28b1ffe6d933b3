// Tries before it waits: an answer almost always fits the socket's buffer, so that writing it costs
// one system call and neither a turn of the reactor nor a timer.
#include "router/http/connection.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace chorus::http {

namespace asio = boost::asio;
using api::Task;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// Takes the bytes that have gone off the front.
std::span<asio::const_buffer> behind(std::span<asio::const_buffer> buffers, size_t bytes) {
  while (!buffers.empty() && bytes >= buffers.front().size()) {
    bytes -= buffers.front().size();
    buffers = buffers.subspan(1);
  }
  if (!buffers.empty()) buffers.front() += bytes;
  return buffers;
}

}  // namespace

Connection::Connection(tcp::socket socket, std::unique_ptr<Transport> transport)
    : socket_(std::move(socket)),
      transport_(std::move(transport)),
      alarm_(socket_.get_executor()) {}

Task<Connection::Outcome> Connection::wait(Waiting until, Clock::time_point deadline) {
  rang_ = false;
  set_deadline(deadline);
  const auto what = until == Waiting::readable ? tcp::socket::wait_read : tcp::socket::wait_write;
  auto [error] = co_await socket_.async_wait(what, kAwait);
  deadline_ = Clock::time_point::max();
  if (!error) co_return Outcome::done;
  co_return rang_ ? Outcome::timed_out : Outcome::ended;
}

Task<Connection::Outcome> Connection::write(std::span<asio::const_buffer> buffers,
                                            Clock::time_point deadline) {
  buffers = behind(buffers, 0);
  while (!buffers.empty()) {
    const Moved moved = transport_->write(buffers);
    if (moved.ended) co_return Outcome::ended;
    buffers = behind(buffers, moved.bytes);
    if (moved.until == Waiting::none) continue;
    const Outcome waited = co_await wait(moved.until, deadline);
    if (waited != Outcome::done) co_return waited;
  }
  co_return Outcome::done;
}

Task<Connection::Outcome> Connection::open(Clock::time_point deadline) {
  for (;;) {
    const Moved moved = transport_->open();
    if (moved.ended) co_return Outcome::ended;
    if (moved.until == Waiting::none) co_return Outcome::done;
    const Outcome waited = co_await wait(moved.until, deadline);
    if (waited != Outcome::done) co_return waited;
  }
}

void Connection::when_readable(std::function<void(bool)> then) {
  socket_.async_wait(tcp::socket::wait_read,
                     [then = std::move(then)](error_code error) { then(!error); });
}

void Connection::set_deadline(Clock::time_point deadline) {
  deadline_ = deadline;
  if (deadline == Clock::time_point::max()) return;
  if (alarm_set_ && alarm_.expiry() <= deadline) return;
  alarm_set_ = true;
  alarm_.expires_at(deadline);
  alarm_.async_wait([self = shared_from_this()](error_code error) {
    if (!error) self->ring();
  });
}

void Connection::ring() {
  alarm_set_ = false;
  if (!socket_.is_open() || deadline_ == Clock::time_point::max()) return;
  if (Clock::now() < deadline_) return set_deadline(deadline_);
  rang_ = true;
  error_code ignored;  // what cannot be cancelled has ended
  socket_.cancel(ignored);
}

void Connection::shut_sending() {
  transport_->end();
  error_code ignored;  // whatever it is, reading finds out
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
}

void Connection::close() {
  deadline_ = Clock::time_point::max();
  alarm_.cancel();
  error_code ignored;  // whatever it is, the socket is closed afterwards
  socket_.close(ignored);
}

}  // namespace chorus::http
