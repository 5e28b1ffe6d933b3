// The corpus of requests that two readers could cut apart differently, one file for this test and
// for the one behind real proxies (tests/smuggling/).
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace chorus::http_test {

struct SmugglingCase {
  std::string name;
  std::string bytes;
  int status;        // of the only answer; 200: taken, and what follows is answered too
  std::string body;  // what the server must have read as the body, where taken
};

// A string of the file stands for bytes: its code points, all below 256.
inline std::string bytes_of(const std::string& utf8) {
  std::string bytes;
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto first = static_cast<unsigned char>(utf8[i]);
    if (first < 0x80) {
      bytes += utf8[i];
    } else {
      bytes += static_cast<char>((first & 3U) << 6 | (static_cast<unsigned char>(utf8[++i]) & 63U));
    }
  }
  return bytes;
}

inline std::vector<SmugglingCase> smuggling_corpus() {
  std::ifstream file(CHORUS_SOURCE_DIR "/tests/router/http/smuggling.json");
  std::vector<SmugglingCase> cases;
  for (const auto& row : nlohmann::json::parse(file)) {
    cases.push_back({.name = row["name"],
                     .bytes = bytes_of(row["bytes"].get<std::string>()),
                     .status = row["status"],
                     .body = row.value("body", "")});
  }
  return cases;
}

}  // namespace chorus::http_test
