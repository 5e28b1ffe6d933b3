#include "launcher/hub/hub_client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/hub/hub_name.h"
#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

using process::ExitCode;
using process::StartError;

constexpr int kRedirectsMax = 5;
constexpr size_t kTagMax = 128;

[[noreturn]] void corrupt(const std::string& message) {
  throw StartError(ExitCode::model_corrupt, message);
}

// W/"abc" -> abc
std::string bare_tag(std::string tag) {
  if (tag.starts_with("W/")) tag.erase(0, 2);
  if (tag.size() >= 2 && tag.front() == '"' && tag.back() == '"')
    tag = tag.substr(1, tag.size() - 2);
  return tag;
}

// A tag becomes a file's name.
bool is_usable_tag(const std::string& tag) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_';
  };
  return !tag.empty() && tag.size() <= kTagMax && std::all_of(tag.begin(), tag.end(), allowed);
}

std::optional<int64_t> size_in(const std::string& text) {
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && stop == text.data() + text.size() && value >= 0;
  return whole ? std::optional(value) : std::nullopt;
}

using Url = std::unique_ptr<CURLU, void (*)(CURLU*)>;

std::string part_of(const Url& url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url.get(), part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) return "";
  std::string copy(text);
  curl_free(text);
  return copy;
}

std::string origin_of(const Url& url) {
  return part_of(url, CURLUPART_SCHEME) + "://" + part_of(url, CURLUPART_HOST) + ":" +
         part_of(url, CURLUPART_PORT);
}

// Where a redirect leads, if that is on the same host; the others lead to the bytes, and it is the
// redirecting answer that describes them.
std::optional<std::string> same_host_target(const std::string& from, const std::string& location) {
  const Url url(curl_url(), curl_url_cleanup);
  if (curl_url_set(url.get(), CURLUPART_URL, from.c_str(), 0) != CURLUE_OK) return std::nullopt;
  const std::string origin = origin_of(url);
  if (curl_url_set(url.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) return std::nullopt;
  if (origin_of(url) != origin) return std::nullopt;
  return part_of(url, CURLUPART_URL);
}

bool is_redirect(long status) {
  return status >= 301 && status <= 308 && status != 304;
}

// The hub's own words, where it has some; one line of printable text.
std::string words_of(const Outcome& outcome) {
  std::string words = outcome.head.field("x-error-message");
  std::replace_if(
      words.begin(), words.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return words.empty() ? "" : fmt::format(" (\"{}\")", words.substr(0, 300));
}

}  // namespace

std::string HubClient::address_of(const Repository& repository, const std::string& name) const {
  return fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, url_path(repository.id),
                     url_part(repository.commit), url_path(name));
}

Repository HubClient::look_up(const std::string& id, const std::string& revision, int attempts) {
  Repository repository{.id = id, .revision = revision, .commit = {}, .files = {}};
  Outcome answer;
  const std::string url = fmt::format("{}/api/models/{}/revision/{}", settings_.endpoint,
                                      url_path(id), url_part(revision));
  transfers_.add(
      {.subject = id,
       .request = [&] { return Request{.url = url, .silence = settings_.answer_timeout}; },
       .done = [&](const Outcome& outcome) { answer = outcome; },
       .attempts = attempts});
  transfers_.run();
  if (!answer.cause.empty() || answer.head.status != 200) refuse(answer, repository, "");

  const auto json = nlohmann::json::parse(answer.body, nullptr, false);
  const auto nonsense = [&](const char* what) {
    corrupt(fmt::format("{}: what {} answers {}", id, url, what));
  };
  if (!json.is_object()) nonsense("is no JSON object");
  if (!json.contains("sha") || !json["sha"].is_string()) nonsense("names no commit");
  repository.commit = json["sha"].get<std::string>();
  if (!is_usable_tag(repository.commit)) nonsense("names a commit that is none");
  if (!json.contains("siblings") || !json["siblings"].is_array()) nonsense("lists no files");
  for (const auto& file : json["siblings"]) {
    if (!file.is_object() || !file.contains("rfilename") || !file["rfilename"].is_string()) {
      nonsense("lists a file without a name");
    }
    repository.files.push_back(file["rfilename"].get<std::string>());
    if (!is_safe_file_name(repository.files.back())) {
      nonsense(fmt::format("lists the file '{}', a name that leads out of the model's folder",
                           repository.files.back())
                   .c_str());
    }
  }
  return repository;
}

void HubClient::ask(const Repository& repository, RemoteFile& file, const std::string& url,
                    int redirects) {
  const auto understand = [this, &repository, &file, url, redirects](const Outcome& outcome) {
    const Head& head = outcome.head;
    if (!outcome.cause.empty()) refuse(outcome, repository, file.name);
    const bool redirect = is_redirect(head.status);
    if (redirect) {
      const auto target = same_host_target(url, head.field("location"));
      if (target && head.field("x-linked-etag").empty() && redirects < kRedirectsMax) {
        return ask(repository, file, *target, redirects + 1);
      }
    } else if (head.status != 200) {
      refuse(outcome, repository, file.name);
    }
    std::string tag = head.field("x-linked-etag");
    file.etag = bare_tag(tag.empty() ? head.field("etag") : tag);
    if (!is_usable_tag(file.etag)) {
      corrupt(fmt::format("{}: the hub names no checksum (etag) for {}", repository.id, file.name));
    }
    const std::string linked = head.field("x-linked-size");
    const auto size = size_in(!linked.empty() || redirect ? linked : head.field("content-length"));
    if (!size) corrupt(fmt::format("{}: the hub names no size for {}", repository.id, file.name));
    file.size = *size;
  };
  transfers_.add({.subject = file.name,
                  .request =
                      [this, url] {
                        return Request{
                            .url = url, .head_only = true, .silence = settings_.answer_timeout};
                      },
                  .done = understand});
}

std::vector<RemoteFile> HubClient::describe(const Repository& repository,
                                            const std::vector<std::string>& names) {
  std::vector<RemoteFile> files;
  for (const std::string& name : names) files.push_back({.name = name, .etag = {}, .size = 0});
  constexpr size_t kAtOnce = 8;
  for (RemoteFile& file : files) {
    ask(repository, file, address_of(repository, file.name), 0);
    while (transfers_.active() >= kAtOnce) transfers_.step(std::chrono::milliseconds(200));
  }
  transfers_.run();
  return files;
}

void HubClient::refuse(const Outcome& outcome, const Repository& repository,
                       const std::string& name) const {
  const std::string subject =
      name.empty() ? repository.id : fmt::format("{}: {}", repository.id, name);
  if (!outcome.cause.empty()) {
    throw StartError(ExitCode::unavailable,
                     fmt::format("{}: cannot be fetched from {}: {}", subject, settings_.endpoint,
                                 outcome.cause));
  }
  const long status = outcome.head.status;
  const std::string words = words_of(outcome);
  const std::string code = outcome.head.field("x-error-code");
  if (status == 401 || status == 403) {
    const char* advice = settings_.token.empty() ? "set HF_TOKEN to a token that may read it"
                                                 : "the token that is set may not read it";
    throw StartError(
        ExitCode::model_missing,
        fmt::format("{}: the hub answers {}{}: the model does not exist, is private, or is gated; "
                    "{}, and for a gated model accept its licence at {}/{}",
                    subject, status, words, advice, settings_.endpoint, repository.id));
  }
  if (status == 404) {
    std::string what = fmt::format("no model of this name at {}", settings_.endpoint);
    if (code == "RevisionNotFound") what = fmt::format("no revision '{}'", repository.revision);
    if (!name.empty()) what = fmt::format("no such file in revision '{}'", repository.revision);
    throw StartError(ExitCode::model_missing, fmt::format("{}: {}{}", subject, what, words));
  }
  // Behind a '?' stands the signature that lets one fetch the file.
  throw StartError(ExitCode::unavailable,
                   fmt::format("{}: {} answers {}{}", subject,
                               outcome.url.substr(0, outcome.url.find('?')), status, words));
}

}  // namespace chorus::launcher
