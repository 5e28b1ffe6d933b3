// One thread moves the bytes (transfers.h); each finished file is hashed on a thread of its own,
// so that the next files keep coming meanwhile.
#include "launcher/hub/download.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <future>
#include <list>
#include <memory>
#include <set>

#include "launcher/hub/checksum.h"
#include "launcher/hub/file_lock.h"
#include "launcher/hub/part_file.h"
#include "launcher/processes/progress_display.h"
#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::launcher {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using process::ExitCode;
using process::StartError;
using std::chrono::milliseconds;

constexpr size_t kConnections = 8;
constexpr int64_t kBlockBytes = 512;  // of st_blocks, whatever the file system's are
constexpr int64_t kDiskReserve = int64_t{64} << 20;
constexpr int64_t kShownMin = int64_t{4} << 20;  // less is not worth a progress bar
constexpr milliseconds kStep{200};

// "bytes 0-99/1000"
struct ContentRange {
  int64_t begin = -1, total = -1;
};

ContentRange content_range(const std::string& text) {
  ContentRange range;
  const size_t space = text.find(' '), dash = text.find('-'), slash = text.find('/');
  if (!text.starts_with("bytes ") || dash == std::string::npos || slash == std::string::npos) {
    return range;
  }
  std::from_chars(text.data() + space + 1, text.data() + dash, range.begin);
  std::from_chars(text.data() + slash + 1, text.data() + text.size(), range.total);
  return range;
}

struct Fetch {
  RemoteFile remote;
  std::unique_ptr<PartFile> file;
  std::vector<bool> running;   // by part
  bool ranges = true;          // the server sends parts; else whole files only
  bool fetched_twice = false;  // after a wrong checksum
  std::future<std::string> checksum;
};

class Download {
 public:
  Download(const DownloadTools& tools, const CacheFolder& cache, const Repository& repository)
      : tools_(tools),
        cache_(cache),
        repository_(repository),
        display_(isatty(STDERR_FILENO) == 1) {
    tools_.transfers.before_log = [this] { display_.hide(); };
  }
  ~Download() {
    stop_ = true;  // the futures wait for their threads
    display_.hide();
    tools_.transfers.before_log = [] {};
  }
  Download(const Download&) = delete;
  Download& operator=(const Download&) = delete;

  void fetch(const std::vector<RemoteFile>& files);

 private:
  std::vector<RemoteFile> lacking(const std::vector<RemoteFile>& files);
  void begin(const RemoteFile& remote);
  void check_disk(const std::vector<RemoteFile>& files) const;
  void start_parts();
  void start_part(Fetch& fetch, size_t part);
  bool accept(Fetch& fetch, size_t part, const Head& head);
  void take(Fetch& fetch, size_t part, std::string_view bytes);
  void part_done(Fetch& fetch, size_t part, const Outcome& outcome);
  void check_sums();
  void settle(Fetch& fetch, const std::string& sum);
  void show();
  [[noreturn]] void wrong_size(const Fetch& fetch, int64_t size) const;

  const DownloadTools& tools_;
  const CacheFolder& cache_;
  const Repository& repository_;
  std::atomic<bool> stop_ = false;
  std::list<FileLock> locks_;
  std::list<Fetch> fetches_;
  ProgressDisplay display_;
  int64_t bytes_before_ = 0, bytes_settled_ = 0;  // at the start; in files that have their names
  int64_t bytes_all_ = 0;
  Clock::time_point started_ = Clock::now(), shown_{};
};

// Those whose bytes are not here, each blob once.
std::vector<RemoteFile> Download::lacking(const std::vector<RemoteFile>& files) {
  std::vector<RemoteFile> lacking;
  std::set<std::string> tags;
  for (const RemoteFile& remote : files) {
    if (!tags.insert(remote.etag).second) continue;
    // Python's packages hold the same lock while they fetch the same blob.
    locks_.emplace_back(cache_.lock(remote.etag), fmt::format("fetching {}", remote.name),
                        tools_.interruption);
    std::error_code error;
    const auto size = fs::file_size(cache_.blob(remote.etag), error);
    if (error || size != static_cast<uintmax_t>(remote.size)) lacking.push_back(remote);
  }
  return lacking;
}

void Download::begin(const RemoteFile& remote) {
  Fetch& fetch = fetches_.emplace_back();
  fetch.remote = remote;
  fetch.file = std::make_unique<PartFile>(cache_.incomplete(remote.etag), remote.size);
  fetch.running.resize(fetch.file->parts().size());
  bytes_before_ += fetch.file->done_bytes();
  bytes_all_ += remote.size;
}

void Download::fetch(const std::vector<RemoteFile>& files) {
  const std::vector<RemoteFile> lacked = lacking(files);
  check_disk(lacked);
  for (const RemoteFile& remote : lacked) begin(remote);
  if (!fetches_.empty()) {
    process::log_info(
        "fetching {} file{} of {} ({}{}) into {}", fetches_.size(), fetches_.size() == 1 ? "" : "s",
        repository_.id, bytes_text(bytes_all_),
        bytes_before_ > 0 ? fmt::format(", {} of them are there", bytes_text(bytes_before_)) : "",
        cache_.path().string());
  }
  while (!fetches_.empty()) {
    start_parts();
    tools_.transfers.step(kStep);
    check_sums();
    show();
  }
  for (const RemoteFile& remote : files) cache_.link(repository_.commit, remote.name, remote.etag);
}

// Before any file is made; what earlier attempts have brought takes its place already.
void Download::check_disk(const std::vector<RemoteFile>& files) const {
  int64_t needed = 0;
  for (const RemoteFile& remote : files) {
    struct stat there {};
    const bool started = stat(cache_.incomplete(remote.etag).c_str(), &there) == 0;
    needed += std::max<int64_t>(remote.size - (started ? there.st_blocks * kBlockBytes : 0), 0);
  }
  const int64_t free = cache_.free_bytes();
  if (needed == 0 || needed + kDiskReserve <= free) return;
  throw StartError(
      ExitCode::unavailable,
      fmt::format("{} needs {} more in {}, where {} are free; make room there, or set HF_HOME or "
                  "--huggingface-hub-cache to a folder on a larger disk",
                  repository_.id, bytes_text(needed), cache_.path().string(), bytes_text(free)));
}

void Download::start_parts() {
  for (Fetch& fetch : fetches_) {
    if (fetch.checksum.valid()) continue;
    if (!fetch.ranges && fetch.running.size() > 1) continue;  // about to begin anew
    for (size_t part = 0; part < fetch.running.size(); ++part) {
      if (tools_.transfers.active() >= kConnections) return;
      if (!fetch.running[part] && !fetch.file->parts()[part].complete()) start_part(fetch, part);
    }
    if (fetch.file->complete() && !fetch.checksum.valid()) {
      fetch.checksum = std::async(std::launch::async, [this, &fetch] {
        const auto kind = checksum_kind(fetch.remote.etag);
        if (kind == ChecksumKind::none) return fetch.remote.etag;
        return checksum_of(fetch.file->path(), fetch.remote.size, kind, stop_);
      });
    }
  }
}

void Download::start_part(Fetch& fetch, size_t part) {
  fetch.running[part] = true;
  tools_.transfers.add(
      {.subject = fetch.remote.name,
       .request =
           [this, &fetch, part] {
             const Part& wanted = fetch.file->parts()[part];
             Request request{.url = tools_.hub.address_of(repository_, fetch.remote.name),
                             .silence = tools_.settings.silence_timeout};
             if (fetch.ranges && (wanted.done > 0 || fetch.running.size() > 1)) {
               request.range = {.begin = wanted.begin + wanted.done, .end = wanted.end};
             }
             return request;
           },
       .on_head = [this, &fetch, part](const Head& head) { return accept(fetch, part, head); },
       .on_body = [this, &fetch, part](std::string_view bytes) { take(fetch, part, bytes); },
       .whole = [&fetch, part] { return fetch.file->parts()[part].complete(); },
       .done = [this, &fetch, part](const Outcome& outcome) { part_done(fetch, part, outcome); }});
}

bool Download::accept(Fetch& fetch, size_t part, const Head& head) {
  const Part& wanted = fetch.file->parts()[part];
  if (head.status == 206) {
    const ContentRange range = content_range(head.field("content-range"));
    if (range.total >= 0 && range.total != fetch.remote.size) wrong_size(fetch, range.total);
    return range.begin == wanted.begin + wanted.done;
  }
  // The whole file, asked for or not.
  const std::string length = head.field("content-length");
  int64_t size = fetch.remote.size;
  std::from_chars(length.data(), length.data() + length.size(), size);
  if (size != fetch.remote.size) wrong_size(fetch, size);
  if (fetch.running.size() == 1) {
    if (wanted.done > 0) fetch.file->begin_anew();
    return true;
  }
  fetch.ranges = false;
  return false;
}

void Download::take(Fetch& fetch, size_t part, std::string_view bytes) {
  const Part& wanted = fetch.file->parts()[part];
  if (static_cast<int64_t>(bytes.size()) > wanted.end - wanted.begin - wanted.done) {
    throw StartError(ExitCode::model_corrupt,
                     fmt::format("{}: {}: the server sends more bytes than were asked for",
                                 repository_.id, fetch.remote.name));
  }
  fetch.file->write(part, bytes);
}

void Download::part_done(Fetch& fetch, size_t part, const Outcome& outcome) {
  fetch.running[part] = false;
  if (outcome.head.status == 416) wrong_size(fetch, -1);
  if (!outcome.declined) {
    if (!outcome.cause.empty() || outcome.head.status < 200 || outcome.head.status > 299) {
      tools_.hub.refuse(outcome, repository_, fetch.remote.name);
    }
    return;
  }
  if (fetch.ranges) {
    throw StartError(
        ExitCode::unavailable,
        fmt::format("{}: {}: the server answers with a range that was not asked for: "
                    "'{}'",
                    repository_.id, fetch.remote.name, outcome.head.field("content-range")));
  }
  // The parts that still run end the same way; with the last of them the file begins anew.
  if (std::count(fetch.running.begin(), fetch.running.end(), true) > 0) return;
  process::log_debug("{}: the server sends whole files only", fetch.remote.name);
  fetch.file->begin_anew();
  fetch.running.assign(fetch.file->parts().size(), false);
}

void Download::check_sums() {
  for (auto at = fetches_.begin(); at != fetches_.end();) {
    Fetch& fetch = *at;
    ++at;
    if (!fetch.checksum.valid()) continue;
    if (fetch.checksum.wait_for(milliseconds(0)) != std::future_status::ready) continue;
    settle(fetch, fetch.checksum.get());
  }
}

void Download::settle(Fetch& fetch, const std::string& sum) {
  const RemoteFile& remote = fetch.remote;
  if (sum == remote.etag) {
    if (checksum_kind(sum) == ChecksumKind::none) {
      display_.hide();
      process::log_warn(
          "{}: {}: the hub names no checksum ('{}'), so only the size is known to be "
          "right",
          repository_.id, remote.name, sum);
    }
    fetch.file->finish();
    cache_.keep(fetch.file->path(), remote.etag);
    bytes_settled_ += remote.size;
    fetches_.remove_if([&](const Fetch& one) { return &one == &fetch; });
    return;
  }
  if (fetch.fetched_twice) {
    fs::remove(fetch.file->path());
    throw StartError(
        ExitCode::model_corrupt,
        fmt::format("{}: {}: wrong checksum, twice: the hub says {}, what it sends has {}; nothing "
                    "of it is kept",
                    repository_.id, remote.name, remote.etag, sum));
  }
  display_.hide();
  process::log_warn("{}: {}: wrong checksum ({} instead of {}); fetching it once more",
                    repository_.id, remote.name, sum, remote.etag);
  fetch.fetched_twice = true;
  fetch.file->begin_anew();
  fetch.running.assign(fetch.file->parts().size(), false);
}

void Download::wrong_size(const Fetch& fetch, int64_t size) const {
  throw StartError(ExitCode::model_corrupt,
                   fmt::format("{}: {}: wrong size: the hub says {} bytes, what it sends has {}",
                               repository_.id, fetch.remote.name, fetch.remote.size,
                               size < 0 ? "fewer" : fmt::format("{}", size)));
}

void Download::show() {
  const auto now = Clock::now();
  if (now - shown_ < milliseconds(100) || bytes_all_ < kShownMin) return;
  shown_ = now;
  int64_t done = bytes_settled_;
  for (const Fetch& fetch : fetches_) done += fetch.file->done_bytes();
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const double rate =
      static_cast<double>(std::max<int64_t>(done - bytes_before_, 0)) / std::max(seconds, 0.001);
  std::string left;
  if (rate > 0 && done < bytes_all_) {
    const auto whole = static_cast<int64_t>(static_cast<double>(bytes_all_ - done) / rate);
    left = fmt::format(", {}:{:02} left", whole / 60, whole % 60);
  }
  display_.show(static_cast<double>(done) / static_cast<double>(bytes_all_),
                fmt::format("{} of {}, {}/s{}, {}", bytes_text(done), bytes_text(bytes_all_),
                            bytes_text(static_cast<int64_t>(rate)), left, repository_.id));
}

}  // namespace

std::string bytes_text(int64_t bytes) {
  auto amount = static_cast<double>(bytes);
  for (const char* unit : {"B", "kB", "MB", "GB"}) {
    if (amount < 999.5) {
      return amount < 10 && *unit != 'B' ? fmt::format("{:.1f} {}", amount, unit)
                                         : fmt::format("{:.0f} {}", amount, unit);
    }
    amount /= 1000;
  }
  return fmt::format("{:.2f} TB", amount);
}

void download(const DownloadTools& tools, const CacheFolder& cache, const Repository& repository,
              const std::vector<RemoteFile>& files) {
  std::vector<RemoteFile> missing;
  for (const RemoteFile& file : files) {
    if (!cache.has(repository.commit, file.name, file.size)) missing.push_back(file);
  }
  if (missing.empty()) return;
  Download(tools, cache, repository).fetch(missing);
}

}  // namespace chorus::launcher
