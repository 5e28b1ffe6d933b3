#include "launcher/hub/part_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <system_error>
#include <utility>

#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::launcher {
namespace {

constexpr int64_t kPartBytesMin = int64_t{32} << 20;
constexpr int64_t kPartsMax = 16;
constexpr int64_t kUnrecordedMax = int64_t{1} << 20;  // what a kill may cost, per part

// At the end of the file, in the machine's byte order: a cache is not resumed on another machine.
struct RecordHead {
  std::array<char, 8> magic;
  int64_t size;
  int64_t parts;
};
constexpr std::array<char, 8> kMagic = {'c', 'h', 'o', 'r', 'u', 's', '0', '1'};

int64_t record_bytes(size_t parts) {
  return static_cast<int64_t>(sizeof(RecordHead) + parts * sizeof(int64_t));
}

std::vector<Part> cut(int64_t size, int64_t count) {
  std::vector<Part> parts;
  const int64_t length = count == 0 ? 0 : (size + count - 1) / count;
  for (int64_t begin = 0; begin < size; begin += length) {
    parts.push_back({.begin = begin, .end = std::min(begin + length, size)});
  }
  return parts;
}

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
  throw process::StartError(
      process::ExitCode::unavailable,
      fmt::format("cannot {} {}: {}", what, path.string(), std::generic_category().message(errno)));
}

}  // namespace

std::vector<Part> plan_parts(int64_t size) {
  return cut(size, std::clamp<int64_t>(size / kPartBytesMin, 1, kPartsMax));
}

PartFile::PartFile(std::filesystem::path path, int64_t size)
    : path_(std::move(path)),
      size_(size),
      fd_(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666)) {
  if (!fd_.open()) fail(path_, "write");
  read_record();
  if (parts_.empty()) {
    parts_ = plan_parts(size_);
    write_record();
  }
}

PartFile::~PartFile() {
  if (!fd_.open()) return;
  try {
    for (size_t i = 0; i < recorded_.size(); ++i) record(i);
  } catch (const process::StartError& error) {
    // Costs the next attempt what is not recorded, no more.
    process::log_debug("{}", error.what());
  }
}

void PartFile::read_record() {
  struct stat state {};
  if (fstat(fd_.get(), &state) != 0) fail(path_, "look at");
  if (state.st_size == size_) {  // was finished and not yet renamed; the checksum will tell
    parts_ = cut(size_, 1);
    for (Part& part : parts_) part.done = part.end;
    write_record();
    return;
  }
  RecordHead head{};
  if (pread(fd_.get(), &head, sizeof head, size_) != sizeof head) return;
  if (head.magic != kMagic || head.size != size_ || head.parts < 1 || head.parts > kPartsMax)
    return;
  if (state.st_size != size_ + record_bytes(static_cast<size_t>(head.parts))) return;
  std::vector<Part> parts = cut(size_, head.parts);
  std::vector<int64_t> done(parts.size());
  const size_t bytes = done.size() * sizeof(int64_t);
  const auto got = pread(fd_.get(), done.data(), bytes, size_ + static_cast<int64_t>(sizeof head));
  if (static_cast<int64_t>(parts.size()) != head.parts || got != static_cast<ssize_t>(bytes))
    return;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (done[i] < 0 || done[i] > parts[i].end - parts[i].begin) return;
    parts[i].done = done[i];
  }
  parts_ = std::move(parts);
  recorded_ = std::move(done);
}

void PartFile::write_record() {
  const int64_t length = size_ + record_bytes(parts_.size());
  // Cut first: no byte of an older file remains where this one will have a hole.
  if (!parts_.empty() && parts_[0].done == 0 && ftruncate(fd_.get(), 0) != 0) fail(path_, "write");
  if (ftruncate(fd_.get(), length) != 0) fail(path_, "write");
  const RecordHead head{
      .magic = kMagic, .size = size_, .parts = static_cast<int64_t>(parts_.size())};
  recorded_.assign(parts_.size(), 0);
  for (size_t i = 0; i < parts_.size(); ++i) recorded_[i] = parts_[i].done;
  write_at(size_ + static_cast<int64_t>(sizeof head),
           {reinterpret_cast<const char*>(recorded_.data()), recorded_.size() * sizeof(int64_t)});
  write_at(size_, {reinterpret_cast<const char*>(&head), sizeof head});
}

void PartFile::write_at(int64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd_.get(), bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail(path_, "write");
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
}

int64_t PartFile::done_bytes() const {
  return std::accumulate(parts_.begin(), parts_.end(), int64_t{0},
                         [](int64_t sum, const Part& part) { return sum + part.done; });
}

void PartFile::write(size_t part, std::string_view bytes) {
  Part& to = parts_[part];
  assert(to.begin + to.done + static_cast<int64_t>(bytes.size()) <= to.end);
  write_at(to.begin + to.done, bytes);
  to.done += static_cast<int64_t>(bytes.size());
  if (to.complete() || to.done - recorded_[part] >= kUnrecordedMax) record(part);
}

void PartFile::record(size_t part) {
  if (recorded_[part] == parts_[part].done) return;
  recorded_[part] = parts_[part].done;
  const auto offset = size_ + static_cast<int64_t>(sizeof(RecordHead) + part * sizeof(int64_t));
  write_at(offset, {reinterpret_cast<const char*>(&recorded_[part]), sizeof(int64_t)});
}

void PartFile::begin_anew() {
  parts_ = cut(size_, 1);
  write_record();
}

void PartFile::finish() {
  assert(complete());
  if (ftruncate(fd_.get(), size_) != 0 || fsync(fd_.get()) != 0) fail(path_, "write");
  fd_.close();
}

}  // namespace chorus::launcher
