// Who may ask. The keys come from the launcher (--api-key) and from a file (--api-key-file) that is
// read again when it changes. Only digests are kept, so no dump or log can hold a key.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "process/watched_file.h"
#include "router/api/exchange.h"

namespace chorus::api {

struct ApiKey {
  std::string name;  // for the log
  std::array<unsigned char, 32> digest;
};

// The lines of a key file: `name:key` or `key` (its name is then "key-<line>"); blank lines and
// those that start with # say nothing. Keys are visible ASCII; the error names the line, never
// the key.
tl::expected<std::vector<ApiKey>, std::string> parse_api_keys(std::string_view text);

class ApiKeys {
 public:
  using Clock = process::WatchedFile::Clock;

  // `given`: lines as above. Throws StartError (model_missing, model_corrupt) naming file and line
  // where `file` is given and cannot be used.
  ApiKeys(std::string_view given, const std::optional<std::string>& file);

  // The name of the key that the request brings; nothing where it brings none of ours. Any thread.
  // Looks for changes of the file at most once a second; a file that cannot be used is logged, and
  // the keys read before stay in force.
  std::optional<std::string> name_of(const Request& request, Clock::time_point now = Clock::now());

 private:
  using List = std::shared_ptr<const std::vector<ApiKey>>;
  std::vector<ApiKey> read_file() const;
  List current(Clock::time_point now);

  std::vector<ApiKey> given_;
  std::mutex mutex_;  // for the two below; held for a stat once a second, else for a copy
  std::optional<process::WatchedFile> file_;
  List keys_;
};

}  // namespace chorus::api
