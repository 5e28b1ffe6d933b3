#include "bench/http_load.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace chorus::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kEvent = "\"content\":\"";
constexpr std::string_view kLastChunk = "\r\n0\r\n\r\n";
constexpr size_t kKeptBytes = std::max(kEvent.size(), kLastChunk.size()) - 1;

double ms(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

void check(bool good, const char* what) {
  if (!good) {
    throw std::runtime_error(fmt::format("{}: {}", what, std::generic_category().message(errno)));
  }
}

int connect_to(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(fd >= 0, "socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "connect");
  const int on = 1;
  check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "TCP_NODELAY");
  return fd;
}

void send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    check(sent > 0, "send");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

std::string post(const Load& load) {
  return fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "{}Content-Length: {}\r\n\r\n{}",
      load.keep_alive ? "" : "Connection: close\r\n", load.body.size(), load.body);
}

class Client {
 public:
  Client(int port, const Load& load, const std::string& request, LoadResult& result)
      : port_(port), load_(load), request_(request), result_(result), left_(load.requests) {}
  ~Client() {
    if (fd_ >= 0) close(fd_);
  }

  void start(int epoll) {
    if (fd_ < 0) {
      fd_ = connect_to(port_);
      epoll_event event{.events = EPOLLIN, .data = {.ptr = this}};
      check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd_, &event) == 0, "epoll_ctl");
    }
    received_.clear();
    counted_ = 0;
    head_bytes_ = 0;
    asked_at_ = Clock::now();
    answering_ = false;
    send_all(fd_, request_);
  }

  // True: this client's last answer is complete.
  bool read(int epoll) {
    std::array<char, 65536> bytes;
    const ssize_t got = recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return false;
    check(got >= 0, "recv");
    if (got == 0) throw std::runtime_error("an answer broke off: " + received_);
    received_.append(bytes.data(), static_cast<size_t>(got));
    if (!take_head() || !take_body()) return false;
    ++result_.answers;
    if (!load_.keep_alive) {
      close(fd_);
      fd_ = -1;
    }
    if (--left_ == 0) return true;
    start(epoll);
    return false;
  }

 private:
  bool take_head() {
    if (head_bytes_ > 0) return true;
    const size_t end = received_.find("\r\n\r\n");
    if (end == received_.npos) return false;
    if (!received_.starts_with("HTTP/1.1 200 ")) throw std::runtime_error(received_);
    head_bytes_ = end + 4;
    if (!load_.stream) {
      constexpr std::string_view kField = "Content-Length: ";
      const size_t at = received_.find(kField);
      if (at >= end) throw std::runtime_error("an answer without Content-Length: " + received_);
      const char* digits = received_.data() + at + kField.size();
      std::from_chars(digits, received_.data() + end, body_bytes_);
    }
    return true;
  }

  bool take_body() {
    if (!load_.stream) return received_.size() >= head_bytes_ + body_bytes_;
    const Clock::time_point now = Clock::now();
    if (!answering_) {
      result_.first_ms.push_back(ms(now - asked_at_));
      answering_ = true;
      last_at_ = now;
    }
    for (size_t at = counted_; (at = received_.find(kEvent, at)) != received_.npos;) {
      at += kEvent.size();
      counted_ = at;
      ++result_.events;
      result_.between_ms.push_back(ms(now - last_at_));
      last_at_ = now;
    }
    if (received_.ends_with(kLastChunk)) return true;
    const size_t dropped = received_.size() - std::min(received_.size(), kKeptBytes);
    received_.erase(0, dropped);
    counted_ -= std::min(counted_, dropped);
    return false;
  }

  const int port_;
  const Load& load_;
  const std::string& request_;
  LoadResult& result_;
  int left_;
  int fd_ = -1;
  std::string received_;
  size_t counted_ = 0;  // bytes whose events are counted
  size_t head_bytes_ = 0;
  size_t body_bytes_ = 0;
  bool answering_ = false;
  Clock::time_point asked_at_, last_at_;
};

}  // namespace

LoadResult run_load(int port, const Load& load) {
  LoadResult result;
  const std::string request = post(load);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  check(epoll >= 0, "epoll_create1");
  std::vector<Client> clients;
  clients.reserve(static_cast<size_t>(load.connections));
  const Clock::time_point began = Clock::now();
  for (int i = 0; i < load.connections; ++i) clients.emplace_back(port, load, request, result);
  for (Client& client : clients) client.start(epoll);
  for (int running = load.connections; running > 0;) {
    std::array<epoll_event, 64> events;
    const int ready = epoll_wait(epoll, events.data(), events.size(), 60'000);
    check(ready >= 0 || errno == EINTR, "epoll_wait");
    if (ready == 0) throw std::runtime_error("no answer for a minute");
    for (int i = 0; i < ready; ++i) {
      if (static_cast<Client*>(events[static_cast<size_t>(i)].data.ptr)->read(epoll)) --running;
    }
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - began).count();
  close(epoll);
  return result;
}

std::vector<int> connect_idle(int port, int count) {
  std::vector<int> connections;
  for (int i = 0; i < count; ++i) connections.push_back(connect_to(port));
  return connections;
}

std::string get(int port, const std::string& path) {
  const int fd = connect_to(port);
  send_all(fd,
           fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path));
  std::string answer;
  std::array<char, 65536> bytes;
  for (ssize_t got = 0; (got = recv(fd, bytes.data(), bytes.size(), 0)) > 0;) {
    answer.append(bytes.data(), static_cast<size_t>(got));
  }
  close(fd);
  return answer;
}

}  // namespace chorus::bench
