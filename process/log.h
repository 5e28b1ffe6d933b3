// The log: one line per event on stderr, text or JSON. spdlog stands behind this file alone, since
// its headers cost seconds in every file that includes them.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace chorus::process {

enum class LogLevel { debug, info, warn, error };

struct LogOptions {
  std::string_view process;  // "router", "shard 1"
  bool json = false;
  LogLevel level = LogLevel::info;
};
void start_log(const LogOptions& options);        // once, before threads
LogLevel parse_log_level(std::string_view text);  // "warn"; throws StartError(usage)

void log_line(LogLevel level, std::string_view text);  // any thread; control bytes are escaped
bool log_enabled(LogLevel level);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::debug)) {
    log_line(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
  }
}

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace chorus::process
