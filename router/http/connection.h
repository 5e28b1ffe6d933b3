// A socket, its transport, and patience: the waits of a session, each with a time at which it ends.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <span>

#include "router/api/task.h"
#include "router/http/transport.h"

namespace chorus::http {

// Lives on its socket's executor; all calls come from there.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Outcome : uint8_t { done, ended, timed_out };

  Connection(boost::asio::ip::tcp::socket socket, std::unique_ptr<Transport> transport);

  boost::asio::any_io_executor executor() { return socket_.get_executor(); }
  Transport& transport() { return *transport_; }

  // Until the socket is ready (or broken: the next try tells), or the time has come. One at a time.
  api::Task<Outcome> wait(Waiting until, Clock::time_point deadline);
  // All of `buffers`, which are used up.
  api::Task<Outcome> write(std::span<boost::asio::const_buffer> buffers,
                           Clock::time_point deadline);
  // The transport's hello.
  api::Task<Outcome> open(Clock::time_point deadline);

  // Calls `then` once when there is something to read, beside whatever else waits. False: broken.
  void when_readable(std::function<void(bool)> then);

  void shut_sending();
  void close();  // wakes what waits

 private:
  void set_deadline(Clock::time_point deadline);
  void ring();

  boost::asio::ip::tcp::socket socket_;
  std::unique_ptr<Transport> transport_;
  // One alarm, set anew only when it would ring too late: most waits end long before their time,
  // and an alarm that rings too early looks at the deadline again.
  boost::asio::steady_timer alarm_;
  bool alarm_set_ = false;
  Clock::time_point deadline_ = Clock::time_point::max();
  bool rang_ = false;
};

}  // namespace chorus::http
