// A blocking HTTP client over a raw socket, for tests that must say exactly which bytes they send.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::http_test {

struct Answer {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case
  std::string body;
  bool complete = true;  // a chunked body had its last chunk

  std::string field(std::string_view name) const {
    for (const auto& [key, value] : fields) {
      if (key == name) return value;
    }
    return {};
  }
};

class Client {
 public:
  explicit Client(uint16_t port, int receive_buffer_bytes = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer_bytes > 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    }
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("cannot connect");
    }
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the server has closed: the answers tell
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  void end_sending() { ::shutdown(fd_, SHUT_WR); }
  void reset() {  // RST instead of FIN
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  // More bytes into buffer(); false at the end of the connection.
  bool receive() {
    char bytes[16 * 1024];
    const ssize_t got = ::recv(fd_, bytes, sizeof bytes, 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      throw std::runtime_error("the server does not answer");
    }
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(got));
    return true;
  }
  std::string& buffer() { return buffer_; }

  // Reads until `text` has arrived; false where the connection ends before.
  bool wait_for(std::string_view text) {
    while (buffer_.find(text) == std::string::npos) {
      if (!receive()) return false;
    }
    return true;
  }

  // The next answer; nothing at the end of the connection. `head_only`: it answers a HEAD.
  std::optional<Answer> read(bool head_only = false) {
    size_t head_end = buffer_.find("\r\n\r\n");
    while (head_end == std::string::npos) {
      if (!receive()) {
        if (!buffer_.empty()) throw std::runtime_error("half an answer: " + buffer_);
        return {};
      }
      head_end = buffer_.find("\r\n\r\n");
    }
    Answer answer = parse_head(buffer_.substr(0, head_end));
    buffer_.erase(0, head_end + 4);
    if (head_only || answer.status == 204 || answer.status == 100) return answer;
    if (answer.field("transfer-encoding") == "chunked") {
      read_chunks(answer);
    } else if (const std::string length = answer.field("content-length"); !length.empty()) {
      answer.body = take(std::stoul(length));
    } else {
      while (receive()) {
      }
      answer.body = std::exchange(buffer_, {});
    }
    return answer;
  }

  bool at_end() { return buffer_.empty() && !receive(); }

 private:
  static Answer parse_head(std::string_view head) {
    Answer answer;
    answer.status = std::atoi(std::string(head.substr(9, 3)).c_str());
    for (size_t at = head.find("\r\n"); at != head.npos;) {
      head.remove_prefix(at + 2);
      at = head.find("\r\n");
      const std::string_view line = head.substr(0, at);
      const size_t colon = line.find(": ");
      if (colon == line.npos) throw std::runtime_error("a malformed answer");
      std::string name(line.substr(0, colon));
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      answer.fields.emplace_back(std::move(name), line.substr(colon + 2));
    }
    return answer;
  }

  std::string take(size_t count) {
    while (buffer_.size() < count) {
      if (!receive()) throw std::runtime_error("an answer was cut short");
    }
    std::string out = buffer_.substr(0, count);
    buffer_.erase(0, count);
    return out;
  }

  void read_chunks(Answer& answer) {
    for (;;) {
      while (buffer_.find("\r\n") == std::string::npos) {
        if (!receive()) {
          answer.complete = false;
          return;
        }
      }
      const size_t size = std::stoul(buffer_, nullptr, 16);
      buffer_.erase(0, buffer_.find("\r\n") + 2);
      answer.body += take(size);
      take(2);
      if (size == 0) return;
    }
  }

  int fd_ = -1;
  std::string buffer_;
};

}  // namespace chorus::http_test
