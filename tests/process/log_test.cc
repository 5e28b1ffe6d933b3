#include "process/log.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "process/exit_codes.h"

namespace chorus::process {
namespace {

// What `write` puts on stderr.
template <class Write>
std::string logged(const LogOptions& options, Write write) {
  std::FILE* file = std::tmpfile();
  const int before = dup(STDERR_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  start_log(options);
  write();
  start_log({.process = "test"});
  dup2(before, STDERR_FILENO);
  close(before);
  std::rewind(file);
  std::string text(4000, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

std::string behind_time(const std::string& line) {
  REQUIRE(line.size() > 25);
  CHECK(line[4] == '-');
  CHECK(line[10] == 'T');
  CHECK(line.substr(23, 2) == "Z ");
  return line.substr(25);
}

}  // namespace

TEST_CASE("a text line holds time, level, process and message") {
  unsetenv("CLICOLOR_FORCE");
  const std::string line = logged({.process = "shard 1"}, [] { log_warn("{} blocks left", 3); });
  CHECK(behind_time(line) == "WARN shard 1: 3 blocks left\n");
}

TEST_CASE("a message cannot forge lines or terminal sequences") {
  const std::string line =
      logged({.process = "router"}, [] { log_info("{}", "a\nb\x1b[2J\xff\u0085\u00e9\u2028"); });
  CHECK(behind_time(line) == "INFO router: a\\nb\\x1b[2J\\xff\\u0085\u00e9\\u2028\n");
}

TEST_CASE("a JSON line is one object whatever the message holds") {
  const std::string line = logged({.process = "router", .json = true},
                                  [] { log_error("{}", "say \"hi\"\\\n\x01\xc3 \u00e9"); });
  const size_t level = line.find("\"level\"");
  REQUIRE(level != std::string::npos);
  CHECK(line.substr(level) ==
        "\"level\":\"ERROR\",\"target\":\"router\",\"message\":"
        "\"say \\\"hi\\\"\\\\\\n\\u0001\\ufffd \u00e9\"}\n");
}

TEST_CASE("lines below the level are left out") {
  const std::string text = logged({.process = "x", .level = LogLevel::warn}, [] {
    log_info("no");
    log_debug("no");
    log_error("yes");
  });
  CHECK(behind_time(text) == "ERROR x: yes\n");
}

TEST_CASE("colour is forced by CLICOLOR_FORCE and taken away by NO_COLOR") {
  setenv("CLICOLOR_FORCE", "1", 1);
  const std::string coloured = logged({.process = "x"}, [] { log_error("m"); });
  setenv("NO_COLOR", "1", 1);
  const std::string plain = logged({.process = "x"}, [] { log_error("m"); });
  unsetenv("CLICOLOR_FORCE");
  unsetenv("NO_COLOR");
  CHECK(coloured.find("\x1b[") != std::string::npos);
  CHECK(plain.find('\x1b') == std::string::npos);
}

TEST_CASE("level names are read and others refused") {
  CHECK(parse_log_level("debug") == LogLevel::debug);
  CHECK(parse_log_level("warn") == LogLevel::warn);
  CHECK_THROWS_AS(parse_log_level("loud"), StartError);
}

}  // namespace chorus::process
