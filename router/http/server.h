// The listening port and the threads behind it. One io_context a thread; a connection lives and
// dies on one.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "router/api/exchange.h"
#include "router/http/server_options.h"

namespace chorus::http {

// Whether the address (not a name) is one that only this machine reaches.
bool is_loopback(const std::string& address);

class Server {
 public:
  // Binds, listens and serves at once; throws process::StartError(unavailable) naming the address.
  // `entry` is called on the server's threads, several at a time.
  Server(ServerOptions options, api::EntryPoint entry);
  // Closes every connection that is still open. Whatever still holds an Exchange's executor (the
  // engine, through its listeners) must have ended before.
  ~Server();

  uint16_t port() const;

  // Stops accepting, closes idle connections, lets running exchanges end for `at_most`, then closes
  // them; returns when all have ended and the threads are joined. Executors stay valid.
  // A second call does nothing.
  void drain(std::chrono::milliseconds at_most);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace chorus::http
