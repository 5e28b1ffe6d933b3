// One model's folder in the cache, laid out as Python's huggingface_hub does it, so that either
// finds what the other has fetched:
//
//   models--org--name/refs/main                     the commit that "main" was, last time
//   models--org--name/blobs/<etag>                  the bytes
//   models--org--name/snapshots/<commit>/<file>     a relative link to a blob; where the file
//                                                   system has no links, the file itself
//   .locks/models--org--name/<etag>.lock            held (flock) while that blob is fetched
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace chorus::launcher {

class CacheFolder {
 public:
  CacheFolder(const std::filesystem::path& cache, const std::string& id);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path blob(const std::string& etag) const;
  std::filesystem::path incomplete(const std::string& etag) const;
  std::filesystem::path lock(const std::string& name) const;
  std::filesystem::path snapshot(const std::string& commit) const;

  // The commit of a branch or tag as known here; a commit is itself.
  std::optional<std::string> commit_of(const std::string& revision) const;
  // The names of a snapshot's files whose bytes are there, sorted.
  std::vector<std::string> files_of(const std::string& commit) const;
  // Whether a snapshot has a file of this size.
  bool has(const std::string& commit, const std::string& name, int64_t size) const;

  // Each throws StartError(unavailable) naming the path where the folder cannot be written.
  void prepare() const;
  void remember(const std::string& revision, const std::string& commit) const;
  // Gives a fetched blob its name.
  void keep(const std::filesystem::path& fetched, const std::string& etag) const;
  // Puts a file into a snapshot.
  void link(const std::string& commit, const std::string& name, const std::string& etag) const;
  int64_t free_bytes() const;

 private:
  std::filesystem::path path_, locks_;
};

}  // namespace chorus::launcher
