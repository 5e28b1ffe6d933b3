// TLS on a connection, and the certificate that the server shows.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <mutex>
#include <string>

#include "process/watched_file.h"
#include "router/http/transport.h"

namespace chorus::http {

class Certificate {
 public:
  using Clock = process::WatchedFile::Clock;

  // PEM files: the chain, the server's own certificate first, and its key. Throws StartError
  // (model_missing, model_corrupt) naming flag, file and what is wrong with it.
  Certificate(std::string chain, std::string key);

  // For a connection that begins now; `socket` as for make_plain_transport. Any thread. Looks for
  // changes of the files at most once a second: connections that have begun keep what they began
  // with, and files that cannot be used are logged and change nothing.
  std::unique_ptr<Transport> make_transport(int socket, Clock::time_point now = Clock::now());

 private:
  using Context = std::shared_ptr<SSL_CTX>;
  Context load() const;
  Context current(Clock::time_point now);

  std::mutex mutex_;  // for what is below; held for two stats once a second, else for a copy
  process::WatchedFile chain_, key_;
  Context context_;
};

}  // namespace chorus::http
