// The lines a child tells the launcher, written and read. A line is at most PIPE_BUF bytes, so it
// arrives whole even where two threads of a child write at once.
#include "process/status_pipe.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cmath>
#include <csignal>
#include <ctime>

#include "process/log.h"

namespace chorus::process {
namespace {

// Writes without the SIGPIPE that a pipe whose reader is gone would raise: blocks the signal for
// this thread, and takes away the one the write may have left pending.
ssize_t write_quietly(int fd, std::string_view line) {
  sigset_t pipe_signal;
  sigset_t before;
  sigset_t pending;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  ssize_t written = 0;
  do {
    written = write(fd, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  const int error = written < 0 ? errno : 0;
  if (error == EPIPE && sigismember(&pending, SIGPIPE) == 0) {
    const timespec at_once{};
    sigtimedwait(&pipe_signal, nullptr, &at_once);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return written;
}

void write_line(int fd, std::string line) {
  if (fd < 0) return;
  std::replace_if(
      line.begin(), line.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, ' ');
  line.resize(std::min<size_t>(line.size(), PIPE_BUF - 1));
  line += '\n';
  if (write_quietly(fd, line) < 0 && errno != EPIPE) {
    log_warn("the launcher's status pipe cannot be written (error {})", errno);
  }
}

// The next word of `text`, which loses it and the space behind it.
std::string_view take_word(std::string_view& text) {
  const size_t end = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

void StatusPipe::progress(double fraction, std::string_view what) const {
  write_line(fd_, fmt::format("progress {:.4f} {}", fraction, what));
}

void StatusPipe::ready(std::string_view detail) const {
  write_line(fd_, fmt::format("ready {}", detail));
}

void StatusPipe::failed(int exit_code, std::string_view message) const {
  write_line(fd_, fmt::format("failed {} {}", exit_code, message));
}

std::optional<Status> parse_status(std::string_view line) {
  const std::string_view kind = take_word(line);
  if (kind == "ready") return Ready{.detail = std::string(line)};
  if (kind == "progress") {
    const auto fraction = number<double>(take_word(line));
    if (!fraction || !std::isfinite(*fraction)) return std::nullopt;
    return Progress{.fraction = std::clamp(*fraction, 0.0, 1.0), .what = std::string(line)};
  }
  if (kind == "failed") {
    const auto code = number<int>(take_word(line));
    if (!code || *code < 1 || *code > 255) return std::nullopt;
    return Failed{.exit_code = *code, .message = std::string(line)};
  }
  return std::nullopt;
}

}  // namespace chorus::process
