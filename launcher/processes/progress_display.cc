// The progress line. What a child says about itself is text from another process, so only
// printable ASCII of it reaches the terminal.
#include "launcher/processes/progress_display.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "process/log.h"

namespace chorus::launcher {
namespace {

constexpr size_t kBarCells = 24;

size_t terminal_columns() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace

std::string progress_bar(double fraction, std::string_view what, size_t columns) {
  const double share = std::clamp(fraction, 0.0, 1.0);
  std::string bar(static_cast<size_t>(share * kBarCells), '#');
  bar.resize(kBarCells, ' ');
  std::string line = fmt::format("[{}] {:3} % {}", bar, static_cast<int>(share * 100), what);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c < 0x20 || c >= 0x7F; }, '?');
  line.resize(std::min(line.size(), columns));
  return line;
}

void ProgressDisplay::show(double fraction, std::string_view what) {
  if (!terminal_) {
    const int tenths = static_cast<int>(fraction * 10 + 1e-9);
    if (tenths > tenths_) process::log_info("{}: {} %", what, tenths * 10);
    tenths_ = std::max(tenths, tenths_);
    return;
  }
  std::string line = progress_bar(fraction, what, terminal_columns() - 1);
  if (shown_ && line == line_) return;
  line_ = std::move(line);
  std::fputs(("\r\x1b[K" + line_).c_str(), stderr);
  std::fflush(stderr);
  shown_ = true;
}

void ProgressDisplay::hide() {
  if (!shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace chorus::launcher
