#include "launcher/hub/hub_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>

#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBlanks = " \t\r\n";

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string trimmed(std::string text) {
  text.erase(0, std::min(text.find_first_not_of(kBlanks), text.size()));
  text.erase(text.find_last_not_of(kBlanks) + 1);
  return text;
}

// The first of these variables that holds something.
template <size_t N>
std::string first_of(const std::array<const char*, N>& names) {
  for (const char* name : names) {
    if (std::string value = trimmed(variable(name)); !value.empty()) return value;
  }
  return "";
}

bool is_true(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return text == "1" || text == "ON" || text == "YES" || text == "TRUE";
}

fs::path with_home(const std::string& text) {
  return text.starts_with("~/") ? fs::path(variable("HOME")) / text.substr(2) : fs::path(text);
}

fs::path hugging_face_home() {
  if (const std::string home = variable("HF_HOME"); !home.empty()) return with_home(home);
  const std::string caches = variable("XDG_CACHE_HOME");
  return (caches.empty() ? with_home("~/.cache") : fs::path(caches)) / "huggingface";
}

std::string token() {
  constexpr std::array kNames = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_API_TOKEN"};
  if (std::string given = first_of(kNames); !given.empty()) return given;
  const std::string path = variable("HF_TOKEN_PATH");
  std::ifstream file(path.empty() ? hugging_face_home() / "token" : with_home(path));
  return trimmed({std::istreambuf_iterator<char>(file), {}});
}

std::chrono::seconds seconds_of(const char* name, std::chrono::seconds fallback) {
  const std::string text = variable(name);
  int value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && stop == text.data() + text.size();
  return whole && value > 0 ? std::chrono::seconds(value) : fallback;
}

std::string endpoint(std::string fallback) {
  std::string address = trimmed(variable("HF_ENDPOINT"));
  if (address.empty()) return fallback;
  while (address.ends_with('/')) address.pop_back();
  if (!address.starts_with("https://") && !address.starts_with("http://")) {
    throw process::StartError(
        process::ExitCode::usage,
        fmt::format("environment variable HF_ENDPOINT: '{}' is not an http or https address",
                    address));
  }
  return address;
}

}  // namespace

HubSettings read_hub_settings(const std::optional<std::string>& cache) {
  HubSettings settings;
  const std::string folder =
      cache ? *cache : first_of(std::array{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  settings.cache = fs::absolute(folder.empty() ? hugging_face_home() / "hub" : with_home(folder));
  settings.endpoint = endpoint(std::move(settings.endpoint));
  settings.token = token();
  settings.offline =
      is_true(variable("HF_HUB_OFFLINE")) || is_true(variable("TRANSFORMERS_OFFLINE"));
  settings.ca_file = first_of(std::array{"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"});
  settings.answer_timeout = seconds_of("HF_HUB_ETAG_TIMEOUT", settings.answer_timeout);
  settings.silence_timeout = seconds_of("HF_HUB_DOWNLOAD_TIMEOUT", settings.silence_timeout);
  return settings;
}

}  // namespace chorus::launcher
