#include "launcher/hub/cache_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <system_error>

#include "launcher/hub/hub_name.h"
#include "launcher/processes/descriptor.h"
#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kCopiedMax = 16 << 20;  // bytes

std::string folder_name(const std::string& id) {
  std::string name = "models--";
  for (const char c : id) name += c == '/' ? std::string("--") : std::string(1, c);
  return name;
}

[[noreturn]] void fail(const char* what, const fs::path& path, const std::error_code& error) {
  const bool read_only =
      error == std::errc::read_only_file_system || error == std::errc::permission_denied;
  throw process::StartError(
      process::ExitCode::unavailable,
      fmt::format("cannot {} {}: {}{}", what, path.string(), error.message(),
                  read_only ? "; set HF_HOME or --huggingface-hub-cache to a folder that can be "
                              "written"
                            : ""));
}

[[noreturn]] void fail_errno(const char* what, const fs::path& path) {
  fail(what, path, {errno, std::generic_category()});
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail("make the folder", path, error);
}

// A rename is on the disk once its folder is.
void sync_folder(const fs::path& folder) {
  const Descriptor fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.open() || fsync(fd.get()) != 0) fail_errno("write", folder);
}

void rename_to(const fs::path& from, const fs::path& to) {
  if (rename(from.c_str(), to.c_str()) != 0) fail_errno("write", to);
}

// A name beside `path` that nobody else uses at the moment: the model's lock is held.
fs::path beside(const fs::path& path) {
  return path.parent_path() / ("." + path.filename().string() + ".chorus");
}

}  // namespace

CacheFolder::CacheFolder(const fs::path& cache, const std::string& id)
    : path_(cache / folder_name(id)), locks_(cache / ".locks" / folder_name(id)) {}

fs::path CacheFolder::blob(const std::string& etag) const {
  return path_ / "blobs" / etag;
}

fs::path CacheFolder::incomplete(const std::string& etag) const {
  return path_ / "blobs" / (etag + ".chorus-incomplete");
}

fs::path CacheFolder::lock(const std::string& name) const {
  return locks_ / (name + ".lock");
}

fs::path CacheFolder::snapshot(const std::string& commit) const {
  return path_ / "snapshots" / commit;
}

std::optional<std::string> CacheFolder::commit_of(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  std::ifstream file(path_ / "refs" / revision);
  std::string commit;
  if (!(file >> commit) || !is_safe_file_name(commit)) return std::nullopt;
  return commit;
}

std::vector<std::string> CacheFolder::files_of(const std::string& commit) const {
  std::vector<std::string> names;
  std::error_code error;
  const fs::path folder = snapshot(commit);
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code broken;
    if (at->is_regular_file(broken))
      names.push_back(at->path().lexically_relative(folder).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool CacheFolder::has(const std::string& commit, const std::string& name, int64_t size) const {
  std::error_code error;
  const auto there = fs::file_size(snapshot(commit) / name, error);
  return !error && there == static_cast<uintmax_t>(size);
}

void CacheFolder::prepare() const {
  for (const fs::path& folder : {path_ / "blobs", path_ / "refs", path_ / "snapshots", locks_}) {
    make_folder(folder);
  }
}

void CacheFolder::remember(const std::string& revision, const std::string& commit) const {
  if (is_commit(revision) || commit_of(revision) == commit) return;
  const fs::path path = path_ / "refs" / revision;
  make_folder(path.parent_path());
  std::ofstream file(beside(path), std::ios::trunc);
  file << commit;
  file.close();
  if (!file) fail_errno("write", path);
  rename_to(beside(path), path);
}

void CacheFolder::keep(const fs::path& fetched, const std::string& etag) const {
  rename_to(fetched, blob(etag));
  sync_folder(path_ / "blobs");
}

void CacheFolder::link(const std::string& commit, const std::string& name,
                       const std::string& etag) const {
  const fs::path to = snapshot(commit) / name;
  make_folder(to.parent_path());
  const fs::path target = blob(etag).lexically_relative(to.parent_path());
  const fs::path fresh = beside(to);
  unlink(fresh.c_str());  // left by a launcher that was killed
  if (symlink(target.c_str(), fresh.c_str()) != 0) {
    // No links on this file system: a second name for the same bytes, a copy where that is cheap,
    // or else the blob itself.
    std::error_code error;
    fs::create_hard_link(blob(etag), fresh, error);
    if (error) {
      if (fs::file_size(blob(etag), error) <= kCopiedMax) {
        fs::copy_file(blob(etag), fresh, error);
      } else {
        fs::rename(blob(etag), fresh, error);
      }
    }
    if (error) fail("write", to, error);
  }
  rename_to(fresh, to);
}

int64_t CacheFolder::free_bytes() const {
  struct statvfs state {};
  if (statvfs(path_.c_str(), &state) != 0) fail_errno("look at", path_);
  return static_cast<int64_t>(state.f_bavail) * static_cast<int64_t>(state.f_frsize);
}

}  // namespace chorus::launcher
