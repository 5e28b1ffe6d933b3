// How a connection's bytes get through its socket: as they are, or over TLS. Nothing here waits:
// each call does what can be done now and says what to wait for.
#pragma once

#include <boost/asio/buffer.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace chorus::http {

enum class Waiting : uint8_t { none, readable, writable };

struct Moved {
  size_t bytes = 0;  // 0 where nothing could be moved
  Waiting until = Waiting::none;
  bool ended = false;  // closed or broken: nothing comes or goes any more
};

class Transport {
 public:
  virtual ~Transport() = default;
  // Before the first byte. Done where it neither waits nor has ended.
  virtual Moved open() = 0;
  virtual Moved read(std::span<char> space) = 0;
  // The first bytes of `buffers`, as many as go at once.
  virtual Moved write(std::span<const boost::asio::const_buffer> buffers) = 0;
  // Tells the other side that nothing more will be written, as far as the protocol has words for
  // it; tries once.
  virtual void end() = 0;
};

// `socket` does not block, and outlives the transport.
std::unique_ptr<Transport> make_plain_transport(int socket);

}  // namespace chorus::http
