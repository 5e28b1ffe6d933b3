#include "launcher/hub/transfers.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <csignal>
#include <exception>
#include <random>
#include <stdexcept>
#include <utility>

#include "process/log.h"

namespace chorus::launcher {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kErrorBodyMax = 4096;
constexpr size_t kCollectedMax = size_t{64} << 20;
constexpr long kBufferBytes = 256 * 1024;
constexpr long kRedirectsMax = 5;
constexpr milliseconds kFirstPause{500};
constexpr milliseconds kLongestPause{30'000};
constexpr milliseconds kLongestRetryAfter{300'000};

// curl_global_init wants to be alone; the first Transfers is made while there is one thread.
void start_curl() {
  static const bool started = [] {
    // A connection that the other side has closed must not end the launcher.
    std::signal(SIGPIPE, SIG_IGN);
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  }();
  if (!started) throw std::runtime_error("libcurl cannot be started");
}

bool may_pass(long status) {
  constexpr std::array<long, 6> kPassing = {408, 429, 500, 502, 503, 504};
  return std::find(kPassing.begin(), kPassing.end(), status) != kPassing.end();
}

bool may_pass(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_BAD_CONTENT_ENCODING:
      return true;
    default:
      return false;
  }
}

bool is_success(long status) {
  return status >= 200 && status < 300;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

// Longer with each attempt, and not the same for launchers that failed together.
milliseconds pause_before(int attempt) {
  static std::minstd_rand random{std::random_device{}()};
  const milliseconds full = std::min(kFirstPause * (1 << std::min(attempt, 10)), kLongestPause);
  return milliseconds(
      std::uniform_int_distribution<int64_t>(full.count() / 2, full.count())(random));
}

template <class Value>
void set(CURL* easy, CURLoption option, Value value) {
  if (const CURLcode code = curl_easy_setopt(easy, option, value); code != CURLE_OK) {
    throw std::runtime_error(fmt::format("libcurl refuses option {}: {}", static_cast<int>(option),
                                         curl_easy_strerror(code)));
  }
}

}  // namespace

std::string Head::field(const std::string& name) const {
  const auto found = fields.find(name);
  return found == fields.end() ? "" : found->second;
}

struct Transfers::Active {
  Transfer transfer;
  CURL* easy = nullptr;
  curl_slist* sent_fields = nullptr;
  Clock::time_point start_at = Clock::now();
  int attempt = 0;  // in a row that got no further
  Head head;
  bool head_told = false, declined = false;
  int64_t taken = 0;  // bytes, in this attempt
  std::string body;
  std::exception_ptr thrown;
  std::array<char, CURL_ERROR_SIZE> message{};

  static size_t take_field(char* bytes, size_t, size_t size, void* self);
  static size_t take_body(char* bytes, size_t, size_t size, void* self);
  bool tell_head();  // whether the body is wanted
  bool take(std::string_view bytes);
};

// Nothing may be thrown through libcurl, so what is thrown waits in `thrown`.
size_t Transfers::Active::take_field(char* bytes, size_t, size_t size, void* self) {
  auto& active = *static_cast<Active*>(self);
  const std::string_view line(bytes, size);
  if (line.starts_with("HTTP/")) {  // one head for each redirect and interim answer
    active.head = {};
    return size;
  }
  if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
    active.head.fields[lower(line.substr(0, colon))] = trimmed(line.substr(colon + 1));
  }
  return size;
}

size_t Transfers::Active::take_body(char* bytes, size_t, size_t size, void* self) {
  auto& active = *static_cast<Active*>(self);
  try {
    return active.take({bytes, size}) ? size : CURL_WRITEFUNC_ERROR;
  } catch (...) {
    active.thrown = std::current_exception();
    return CURL_WRITEFUNC_ERROR;
  }
}

bool Transfers::Active::tell_head() {
  if (std::exchange(head_told, true)) return !declined;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &head.status);
  if (is_success(head.status) && transfer.on_head) declined = !transfer.on_head(head);
  return !declined;
}

bool Transfers::Active::take(std::string_view bytes) {
  if (!tell_head()) return false;
  if (!is_success(head.status)) {
    body += bytes.substr(0, kErrorBodyMax - std::min(body.size(), kErrorBodyMax));
    return true;
  }
  taken += static_cast<int64_t>(bytes.size());
  if (transfer.on_body) {
    transfer.on_body(bytes);
    return true;
  }
  if (body.size() + bytes.size() > kCollectedMax) {
    throw std::runtime_error(transfer.subject + ": the answer does not end");
  }
  body += bytes;
  return true;
}

Transfers::Transfers(const HubSettings& settings, const Interruption& interruption)
    : settings_(settings), interruption_(interruption) {
  start_curl();
  multi_ = curl_multi_init();
  if (multi_ == nullptr) throw std::runtime_error("libcurl cannot be started");
}

Transfers::~Transfers() {
  for (const auto& active : active_) stop(*active);
  curl_multi_cleanup(multi_);
}

void Transfers::add(Transfer transfer) {
  active_.push_back(std::make_unique<Active>());
  active_.back()->transfer = std::move(transfer);
}

void Transfers::start(Active& active) {
  const Request request = active.transfer.request();
  active.head = {};
  active.head_told = active.declined = false;
  active.taken = 0;
  active.body.clear();
  active.message[0] = '\0';
  active.easy = curl_easy_init();
  if (active.easy == nullptr) throw std::runtime_error("libcurl cannot make a transfer");
  CURL* easy = active.easy;
  const bool secure = request.url.starts_with("https://");
  set(easy, CURLOPT_URL, request.url.c_str());
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(easy, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
  set(easy, CURLOPT_FOLLOWLOCATION, request.head_only ? 0L : 1L);
  set(easy, CURLOPT_MAXREDIRS, kRedirectsMax);
  set(easy, CURLOPT_NOBODY, request.head_only ? 1L : 0L);
  // One connection each: that is what makes parallel parts faster.
  set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_BUFFERSIZE, kBufferBytes);
  set(easy, CURLOPT_CONNECTTIMEOUT, static_cast<long>(settings_.answer_timeout.count()));
  set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(request.silence.count()));
  set(easy, CURLOPT_USERAGENT, "chorus-launcher");
  if (!settings_.ca_file.empty()) set(easy, CURLOPT_CAINFO, settings_.ca_file.c_str());
  // libcurl drops a field named Authorization when a redirect leaves host, port or protocol.
  active.sent_fields = curl_slist_append(nullptr, "Accept-Encoding: identity");
  if (!settings_.token.empty()) {
    const std::string field = "Authorization: Bearer " + settings_.token;
    active.sent_fields = curl_slist_append(active.sent_fields, field.c_str());
  }
  set(easy, CURLOPT_HTTPHEADER, active.sent_fields);
  if (request.range) {
    const auto range = fmt::format("{}-{}", request.range->begin, request.range->end - 1);
    set(easy, CURLOPT_RANGE, range.c_str());
  }
  set(easy, CURLOPT_HEADERFUNCTION, &Active::take_field);
  set(easy, CURLOPT_HEADERDATA, &active);
  set(easy, CURLOPT_WRITEFUNCTION, &Active::take_body);
  set(easy, CURLOPT_WRITEDATA, &active);
  set(easy, CURLOPT_ERRORBUFFER, active.message.data());
  set(easy, CURLOPT_PRIVATE, &active);
  if (curl_multi_add_handle(multi_, easy) != CURLM_OK) {
    throw std::runtime_error("libcurl cannot start a transfer");
  }
}

void Transfers::stop(Active& active) {
  if (active.easy == nullptr) return;
  curl_multi_remove_handle(multi_, active.easy);
  curl_easy_cleanup(std::exchange(active.easy, nullptr));
  curl_slist_free_all(std::exchange(active.sent_fields, nullptr));
}

void Transfers::finish(Active& active, int curl_code) {
  auto code = static_cast<CURLcode>(curl_code);
  Outcome outcome;
  try {
    if (code == CURLE_OK && !active.thrown) active.tell_head();
  } catch (...) {
    active.thrown = std::current_exception();
  }
  if (active.thrown) std::rethrow_exception(active.thrown);
  curl_easy_getinfo(active.easy, CURLINFO_RESPONSE_CODE, &active.head.status);
  const char* url = nullptr;
  curl_easy_getinfo(active.easy, CURLINFO_EFFECTIVE_URL, &url);
  outcome.url = url == nullptr ? "" : url;
  outcome.declined = active.declined;
  const bool answered = code == CURLE_OK || active.declined;
  const bool good = answered && !active.declined && is_success(active.head.status);
  if (!answered) {
    outcome.cause = active.message[0] != '\0' ? active.message.data() : curl_easy_strerror(code);
  } else if (good && active.transfer.whole && !active.transfer.whole()) {
    outcome.cause = "the answer ended early";
    code = CURLE_PARTIAL_FILE;
  }
  curl_off_t retry_after = 0;
  curl_easy_getinfo(active.easy, CURLINFO_RETRY_AFTER, &retry_after);
  stop(active);
  outcome.head = std::move(active.head);
  outcome.body = std::move(active.body);
  // Only parts get further with each attempt: whole files begin again.
  if (active.taken > 0 && outcome.head.status == 206) active.attempt = 0;

  const bool passing =
      outcome.cause.empty() ? !outcome.declined && may_pass(outcome.head.status) : may_pass(code);
  if (passing && ++active.attempt < active.transfer.attempts) {
    milliseconds pause = pause_before(active.attempt - 1);
    if (retry_after > 0) {
      pause = std::min(milliseconds(std::chrono::seconds(retry_after)), kLongestRetryAfter);
    }
    before_log();
    process::log_warn("{}: {}; trying again in {:.1f} s", active.transfer.subject,
                      outcome.cause.empty()
                          ? fmt::format("the server answers {}", outcome.head.status)
                          : outcome.cause,
                      static_cast<double>(pause.count()) / 1000);
    active.start_at = Clock::now() + pause;
    return;
  }
  outcome.given_up = passing;
  const auto at = std::find_if(active_.begin(), active_.end(),
                               [&](const auto& one) { return one.get() == &active; });
  assert(at != active_.end());
  const auto kept = std::move(*at);
  active_.erase(at);
  if (kept->transfer.done) kept->transfer.done(outcome);
}

milliseconds Transfers::until_next_start(milliseconds most) const {
  milliseconds wait = most;
  const auto now = Clock::now();
  for (const auto& active : active_) {
    if (active->easy != nullptr) continue;
    wait = std::min(wait, std::chrono::ceil<milliseconds>(active->start_at - now));
  }
  return std::max(wait, milliseconds(0));
}

void Transfers::step(milliseconds wait) {
  const auto now = Clock::now();
  for (const auto& active : active_) {
    if (active->easy == nullptr && active->start_at <= now) start(*active);
  }
  int running = 0;
  curl_multi_perform(multi_, &running);
  int left = 0;
  bool finished = false;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    Active* active = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &active);
    finish(*active, code);
    finished = true;
  }
  if (!finished) {
    curl_waitfd signals{.fd = interruption_.fd(), .events = CURL_WAIT_POLLIN, .revents = 0};
    curl_multi_poll(multi_, &signals, 1, static_cast<int>(until_next_start(wait).count()), nullptr);
  }
  interruption_.check();
}

void Transfers::run() {
  while (active() > 0) step(milliseconds(200));
}

}  // namespace chorus::launcher
