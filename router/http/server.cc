// One acceptor, on the first thread, deals the sockets out in turn. Each thread owns its sessions:
// they are spawned, counted, told to drain and waited for there, so nothing is locked.
#include "router/http/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <functional>
#include <optional>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "process/exit_codes.h"
#include "process/log.h"
#include "router/http/session.h"

namespace chorus::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// A thread and the sessions that live on it.
class Worker {
 public:
  Worker(const ServerOptions& options, const api::EntryPoint& entry,
         std::function<void()> connection_ended)
      : options_(options),
        entry_(entry),
        connection_ended_(std::move(connection_ended)),
        work_(asio::make_work_guard(context_)),
        deadline_(context_) {}

  void start() {
    thread_ = std::thread([this] { context_.run(); });
  }
  void join() { thread_.join(); }
  asio::io_context& context() { return context_; }

  void adopt(tcp::socket socket, bool spare) {
    auto session = draining_ ? nullptr : open_session(std::move(socket), spare);
    if (session == nullptr) return connection_ended_();
    sessions_.insert(session);
    asio::co_spawn(context_, session->run(), [this, session](std::exception_ptr fault) {
      if (fault) log_fault(fault);
      sessions_.erase(session);
      connection_ended_();
      end_when_empty();
    });
  }

  void drain(std::chrono::milliseconds at_most) {
    draining_ = true;
    for (const auto& session : sessions_) session->drain();
    deadline_.expires_after(at_most);
    deadline_.async_wait([this](error_code error) {
      if (error) return;
      for (const auto& session : sessions_) session->abort();
    });
    end_when_empty();
  }

 private:
  // Nothing, and a closed socket, where no session can be made (no memory for TLS).
  std::shared_ptr<Session> open_session(tcp::socket socket, bool spare) {
    try {
      return make_session(std::move(socket), options_, entry_, spare);
    } catch (const std::exception&) {
      log_fault(std::current_exception());
      return nullptr;
    }
  }

  static void log_fault(const std::exception_ptr& fault) {
    try {
      std::rethrow_exception(fault);
    } catch (const std::exception& error) {
      process::log_error("a connection failed: {}", error.what());
    }
  }

  void end_when_empty() {
    if (!draining_ || !sessions_.empty()) return;
    deadline_.cancel();
    work_.reset();
  }

  const ServerOptions& options_;
  const api::EntryPoint& entry_;
  const std::function<void()> connection_ended_;
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::steady_timer deadline_;
  std::unordered_set<std::shared_ptr<Session>> sessions_;
  bool draining_ = false;
  std::thread thread_;
};

tcp::endpoint resolve(asio::io_context& context, const std::string& address, uint16_t port) {
  error_code error;
  const asio::ip::address numeric = asio::ip::make_address(address, error);
  if (!error) return {numeric, port};
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(address, std::to_string(port), tcp::resolver::passive, error);
  if (!error && !found.empty()) return found.begin()->endpoint();
  throw process::StartError(process::ExitCode::unavailable,
                            fmt::format("cannot listen on {}:{}: {}", address, port,
                                        error ? error.message() : "the name has no address"));
}

}  // namespace

struct Server::Parts {
  Parts(ServerOptions given, api::EntryPoint given_entry)
      : options(std::move(given)), entry(std::move(given_entry)) {
    for (int i = 0; i < std::max(1, options.threads); ++i) {
      workers.push_back(std::make_unique<Worker>(options, entry, [this] { connection_ended(); }));
    }
    acceptor.emplace(workers[0]->context());
    retry.emplace(workers[0]->context());
  }

  void listen() {
    const tcp::endpoint endpoint = resolve(workers[0]->context(), options.address, options.port);
    error_code error;
    acceptor->open(endpoint.protocol(), error);
    if (!error) acceptor->set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      throw process::StartError(process::ExitCode::unavailable,
                                fmt::format("cannot listen on {}:{}: {}", options.address,
                                            options.port, error.message()));
    }
    port = acceptor->local_endpoint().port();
  }

  // On the first thread. Waits for a connection to end where there are as many as there may be.
  void accept() {
    if (!acceptor->is_open()) return;  // draining
    if (full()) {
      waiting = true;
      if (full() || !waiting.exchange(false)) return;  // connection_ended() goes on
    }
    Worker& worker = *workers[next++ % workers.size()];
    acceptor->async_accept(worker.context(), [this, &worker](error_code error, tcp::socket socket) {
      if (!acceptor->is_open()) return;  // draining
      if (error) return accept_later(error);
      const bool spare = ++connections > options.connections_max;
      if (spare) tell_of_crowd();
      asio::post(worker.context(), [&worker, spare, socket = std::move(socket)]() mutable {
        worker.adopt(std::move(socket), spare);
      });
      accept();
    });
  }

  bool full() const { return connections >= options.connections_max + options.spare_connections; }

  void connection_ended() {  // on any thread
    --connections;
    if (waiting.exchange(false)) asio::post(workers[0]->context(), [this] { accept(); });
  }

  void tell_of_crowd() {
    const auto now = std::chrono::steady_clock::now();
    if (now < quiet_until) return;
    quiet_until = now + std::chrono::seconds(10);
    process::log_warn("{} connections: more get 503, the last ones are kept for probes",
                      options.connections_max);
  }

  // Out of file descriptors, mostly: they come back as connections end.
  void accept_later(error_code error) {
    process::log_warn("cannot accept a connection: {}", error.message());
    retry->expires_after(std::chrono::milliseconds(100));
    retry->async_wait([this](error_code cancelled) {
      if (!cancelled && acceptor->is_open()) accept();
    });
  }

  void drain(std::chrono::milliseconds at_most) {
    if (std::exchange(drained, true)) return;
    // From the first thread, so that a socket accepted before is adopted before.
    asio::post(workers[0]->context(), [this, at_most] {
      error_code ignored;  // the acceptor is closed afterwards in any case
      acceptor->close(ignored);
      retry->cancel();
      for (auto& worker : workers) {
        asio::post(worker->context(), [&worker, at_most] { worker->drain(at_most); });
      }
    });
    for (auto& worker : workers) worker->join();
  }

  ServerOptions options;
  api::EntryPoint entry;
  std::vector<std::unique_ptr<Worker>> workers;
  std::optional<tcp::acceptor> acceptor;
  std::optional<asio::steady_timer> retry;
  size_t next = 0;
  std::atomic<size_t> connections{0};
  std::atomic<bool> waiting{false};  // for one of them to end
  std::chrono::steady_clock::time_point quiet_until{};
  uint16_t port = 0;
  bool drained = false;
};

bool is_loopback(const std::string& address) {
  error_code error;
  return asio::ip::make_address(address, error).is_loopback() && !error;
}

Server::Server(ServerOptions options, api::EntryPoint entry)
    : parts_(std::make_unique<Parts>(std::move(options), std::move(entry))) {
  parts_->listen();
  parts_->accept();
  for (auto& worker : parts_->workers) worker->start();
}

Server::~Server() {
  drain(std::chrono::milliseconds(0));
}

uint16_t Server::port() const {
  return parts_->port;
}

void Server::drain(std::chrono::milliseconds at_most) {
  parts_->drain(at_most);
}

}  // namespace chorus::http
