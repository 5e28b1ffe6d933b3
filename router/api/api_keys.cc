// A key is compared by its SHA-256 with every key there is, in the same time whichever of them it
// is and however much of it is right: a digest that differs in its first byte takes as long as one
// that differs in its last, and the search does not end where it finds.
#include "router/api/api_keys.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::api {
namespace {

using process::ExitCode;
using process::StartError;

constexpr size_t kFileBytesMax = 1 << 20;
constexpr size_t kKeyBytesMax = 4096;
constexpr size_t kCandidatesMax = 4;  // keys of one request that are looked at

std::array<unsigned char, 32> digest_of(std::string_view key) {
  std::array<unsigned char, 32> digest;
  static_assert(digest.size() == SHA256_DIGEST_LENGTH);
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

std::string_view trim(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

bool is_key(std::string_view text) {
  return !text.empty() && text.size() <= kKeyBytesMax &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7F; });
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
           c == '_' || c == '-';
  });
}

// What comes behind "Bearer "; nothing for another scheme. The scheme's case does not count.
std::optional<std::string_view> bearer_key(std::string_view value) {
  constexpr std::string_view kScheme = "bearer";
  if (value.size() <= kScheme.size() || value[kScheme.size()] != ' ') return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if ((value[i] | 0x20) != kScheme[i]) return {};
  }
  return trim(value.substr(kScheme.size() + 1));
}

// The keys that a request brings: Azure's clients send api-key, Anthropic's x-api-key.
std::vector<std::string_view> candidates_of(const Request& request) {
  std::vector<std::string_view> found;
  for (const HeaderField& field : request.fields) {
    if (found.size() == kCandidatesMax) break;
    if (field.name == "authorization") {
      if (const auto key = bearer_key(field.value)) found.push_back(*key);
    } else if (field.name == "x-api-key" || field.name == "api-key") {
      found.push_back(field.value);
    }
  }
  return found;
}

}  // namespace

tl::expected<std::vector<ApiKey>, std::string> parse_api_keys(std::string_view text) {
  std::vector<ApiKey> keys;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#') continue;
    const auto refuse = [&](std::string_view why) {
      return tl::unexpected(fmt::format("line {}: {}", number, why));
    };
    const size_t colon = line.find(':');
    const bool named = colon != line.npos;
    if (named && !is_name(trim(line.substr(0, colon)))) {
      return refuse("a key's name has 1 to 64 letters, digits, dots, dashes or underscores");
    }
    const std::string_view key = named ? trim(line.substr(colon + 1)) : line;
    if (!is_key(key)) return refuse("a key is 1 to 4096 visible ASCII characters without blanks");
    ApiKey entry{
        .name = named ? std::string(trim(line.substr(0, colon))) : fmt::format("key-{}", number),
        .digest = digest_of(key)};
    for (const ApiKey& other : keys) {
      if (other.digest == entry.digest) {
        return refuse(fmt::format("the same key stands above as '{}'", other.name));
      }
    }
    keys.push_back(std::move(entry));
  }
  return keys;
}

ApiKeys::ApiKeys(std::string_view given, const std::optional<std::string>& file) {
  auto parsed = parse_api_keys(given);
  if (!parsed) throw StartError(ExitCode::usage, "--api-key: " + parsed.error());
  given_ = std::move(*parsed);
  std::vector<ApiKey> keys = given_;
  if (file) {
    file_.emplace(*file);
    file_->changed(Clock::now());
    const std::vector<ApiKey> more = read_file();
    keys.insert(keys.end(), more.begin(), more.end());
  }
  keys_ = std::make_shared<const std::vector<ApiKey>>(std::move(keys));
}

std::vector<ApiKey> ApiKeys::read_file() const {
  std::string text;
  try {
    text = process::read_whole(file_->path(), kFileBytesMax);
  } catch (const std::system_error& error) {
    throw StartError(ExitCode::model_missing, fmt::format("--api-key-file: {}", error.what()));
  }
  auto keys = parse_api_keys(text);
  OPENSSL_cleanse(text.data(), text.size());
  if (keys && keys->empty()) keys = tl::unexpected(std::string("there is no key in it"));
  if (keys) return std::move(*keys);
  throw StartError(ExitCode::model_corrupt,
                   fmt::format("--api-key-file: {}: {}", file_->path(), keys.error()));
}

ApiKeys::List ApiKeys::current(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (file_ && file_->changed(now)) {
    try {
      std::vector<ApiKey> keys = given_;
      const std::vector<ApiKey> more = read_file();
      keys.insert(keys.end(), more.begin(), more.end());
      keys_ = std::make_shared<const std::vector<ApiKey>>(std::move(keys));
      process::log_info("read {} again: {} keys are in force", file_->path(), keys_->size());
    } catch (const StartError& error) {
      process::log_error("{}; the {} keys read before stay in force", error.what(), keys_->size());
    }
  }
  return keys_;
}

std::optional<std::string> ApiKeys::name_of(const Request& request, Clock::time_point now) {
  const List keys = current(now);
  const ApiKey* found = nullptr;
  for (const std::string_view candidate : candidates_of(request)) {
    const auto digest = digest_of(candidate);
    for (const ApiKey& key : *keys) {
      const bool same = CRYPTO_memcmp(digest.data(), key.digest.data(), digest.size()) == 0;
      found = same ? &key : found;
    }
  }
  if (found == nullptr) return {};
  return found->name;
}

}  // namespace chorus::api
