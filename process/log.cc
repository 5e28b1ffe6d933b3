// The log over spdlog, which brings the levels, the lock and colour on a terminal. The form of a
// line is ours: text for people, one JSON object per line for collectors, and in both a line of
// the log is one line of output whatever a client or a file put into it (no forged lines, no
// terminal escapes). Colours follow NO_COLOR, and CLICOLOR_FORCE, which the launcher sets for its
// children when their lines end on its terminal.
#include "process/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>

#include "process/exit_codes.h"

namespace chorus::process {
namespace {

struct CodePoint {
  uint32_t value = 0;
  int length = 0;  // 0: not UTF-8 here
};

// Reads one code point; overlong forms, surrogates and cut sequences are not UTF-8.
CodePoint read_code_point(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const int length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < static_cast<size_t>(length)) return {};
  uint32_t value = first & (0x7Fu >> length);
  for (int i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    value = value << 6 | (byte(i) & 0x3Fu);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[length] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
    return {};
  }
  return {value, length};
}

bool is_control(uint32_t c) {
  // U+2028 and U+2029 end a line for many readers, though they are not control characters.
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029;
}

template <class Escape>
void append_escaped(std::string& out, std::string_view text, Escape escape) {
  while (!text.empty()) {
    const CodePoint c = read_code_point(text);
    const size_t length = c.length > 0 ? c.length : 1;
    if (!escape(c, static_cast<unsigned char>(text[0]))) out.append(text.substr(0, length));
    text.remove_prefix(length);
  }
}

void append_text(std::string& out, std::string_view text) {
  append_escaped(out, text, [&](CodePoint c, unsigned char byte) {
    if (c.length > 0 && (c.value == '\t' || !is_control(c.value))) return false;
    if (c.length == 0 || c.value < 0x80) {
      out += c.value == '\n' ? "\\n" : fmt::format("\\x{:02x}", byte);
    } else {
      out += fmt::format("\\u{:04x}", c.value);
    }
    return true;
  });
}

void append_json(std::string& out, std::string_view text) {
  out += '"';
  append_escaped(out, text, [&](CodePoint c, unsigned char) {
    if (c.length == 0) {
      out += "\\ufffd";
    } else if (c.value == '"' || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (is_control(c.value)) {
      out += fmt::format("\\u{:04x}", c.value);
    } else {
      return false;
    }
    return true;
  });
  out += '"';
}

std::string_view level_name(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
    case spdlog::level::debug:
      return "DEBUG";
    case spdlog::level::info:
      return "INFO";
    case spdlog::level::warn:
      return "WARN";
    case spdlog::level::err:
    case spdlog::level::critical:
    case spdlog::level::off:
    case spdlog::level::n_levels:
      break;
  }
  return "ERROR";
}

std::string utc(spdlog::log_clock::time_point time) {
  const auto since = time.time_since_epoch();
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
  const std::time_t seconds = millis / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     millis % 1000);
}

class LineFormatter final : public spdlog::formatter {
 public:
  LineFormatter(std::string process, bool json) : process_(std::move(process)), json_(json) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    std::string line;
    if (json_) {
      line = fmt::format(R"({{"timestamp":"{}","level":"{}","target":)", utc(message.time),
                         level_name(message.level));
      append_json(line, process_);
      line += R"(,"message":)";
      append_json(line, text);
      line += "}\n";
    } else {
      line = utc(message.time) + ' ';
      message.color_range_start = line.size();
      line += level_name(message.level);
      message.color_range_end = line.size();
      line += ' ' + process_ + ": ";
      append_text(line, text);
      line += '\n';
    }
    out.append(line.data(), line.data() + line.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<LineFormatter>(process_, json_);
  }

 private:
  std::string process_;
  bool json_;
};

bool variable_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

bool wants_colour(bool json) {
  if (json || variable_set("NO_COLOR")) return false;
  return variable_set("CLICOLOR_FORCE") || isatty(STDERR_FILENO) == 1;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warn:
      return spdlog::level::warn;
    case LogLevel::error:
      break;
  }
  return spdlog::level::err;
}

std::shared_ptr<spdlog::logger> make_logger(const LogOptions& options) {
  const auto mode =
      wants_colour(options.json) ? spdlog::color_mode::always : spdlog::color_mode::never;
  auto sink = std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(mode);
  auto logger = std::make_shared<spdlog::logger>(std::string(options.process), std::move(sink));
  logger->set_formatter(
      std::make_unique<LineFormatter>(std::string(options.process), options.json));
  logger->set_level(to_spdlog(options.level));
  return logger;
}

// Lines logged before start_log (and in tests) come out too, as text.
std::shared_ptr<spdlog::logger>& current_logger() {
  static std::shared_ptr<spdlog::logger> logger = make_logger({.process = "chorus"});
  return logger;
}

}  // namespace

void start_log(const LogOptions& options) {
  current_logger() = make_logger(options);
}

LogLevel parse_log_level(std::string_view text) {
  if (text == "debug" || text == "trace") return LogLevel::debug;
  if (text == "info") return LogLevel::info;
  if (text == "warn" || text == "warning") return LogLevel::warn;
  if (text == "error") return LogLevel::error;
  throw StartError(ExitCode::usage,
                   fmt::format("log level '{}' is not one of debug, info, warn, error", text));
}

bool log_enabled(LogLevel level) {
  return current_logger()->should_log(to_spdlog(level));
}

void log_line(LogLevel level, std::string_view text) {
  current_logger()->log(to_spdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

}  // namespace chorus::process
