// One connection, from accept to close. Beast stands behind session.cc alone, and does not know
// whether the connection is encrypted.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <memory>

#include "router/api/exchange.h"
#include "router/api/task.h"
#include "router/http/server_options.h"

namespace chorus::http {

// Lives on its socket's executor; all calls come from there.
class Session {
 public:
  virtual ~Session() = default;
  virtual api::Task<> run() = 0;  // once; the session must outlive it
  virtual void drain() = 0;       // closes where idle, else after the answer that is being made
  virtual void abort() = 0;  // closes now; a waiting entry point is told that the client is gone
};

// `options` and `entry` outlive the session. `spare`: as in ServerOptions.
std::shared_ptr<Session> make_session(boost::asio::ip::tcp::socket socket,
                                      const ServerOptions& options, const api::EntryPoint& entry,
                                      bool spare);

}  // namespace chorus::http
