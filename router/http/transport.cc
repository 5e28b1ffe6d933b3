// Bytes as they are.
#include "router/http/transport.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace chorus::http {
namespace {

Moved outcome(ssize_t bytes, Waiting until) {
  if (bytes > 0) return {.bytes = static_cast<size_t>(bytes)};
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return {.until = until};
  return {.ended = true};
}

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(int socket) : socket_(socket) {}

  Moved open() override { return {}; }

  Moved read(std::span<char> space) override {
    return outcome(::recv(socket_, space.data(), space.size(), 0), Waiting::readable);
  }

  Moved write(std::span<const boost::asio::const_buffer> buffers) override {
    std::array<iovec, 4> parts{};
    const size_t count = std::min(buffers.size(), parts.size());
    for (size_t i = 0; i < count; ++i) {
      parts[i] = {.iov_base = const_cast<void*>(buffers[i].data()), .iov_len = buffers[i].size()};
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    return outcome(::sendmsg(socket_, &message, MSG_NOSIGNAL), Waiting::writable);
  }

  void end() override {}

 private:
  int socket_;
};

}  // namespace

std::unique_ptr<Transport> make_plain_transport(int socket) {
  return std::make_unique<PlainTransport>(socket);
}

}  // namespace chorus::http
