#include "launcher/hub/hub_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "launcher/hub/cache_folder.h"
#include "launcher/hub/download.h"
#include "launcher/hub/file_choice.h"
#include "launcher/hub/file_lock.h"
#include "launcher/hub/hub_client.h"
#include "launcher/hub/interruption.h"
#include "launcher/hub/transfers.h"
#include "process/exit_codes.h"
#include "process/log.h"

namespace chorus::launcher {
namespace {

using process::ExitCode;
using process::StartError;

constexpr int kAttempts = 4;
constexpr int kAttemptsWithCopy = 2;  // where the cache could serve as well

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

HubModel model_of(const CacheFolder& cache, const std::string& commit, const FileChoice& chosen) {
  const auto folder = cache.snapshot(commit);
  return {.path = chosen.gguf.empty() ? folder : folder / chosen.gguf, .commit = commit};
}

// What the cache holds of a model, without asking anybody.
struct Cached {
  std::optional<HubModel> model;
  std::string lack;  // why there is none
};

Cached find_cached(const CacheFolder& cache, const HubName& name, const std::string& revision) {
  const auto commit = cache.commit_of(revision);
  const std::vector<std::string> files =
      commit ? cache.files_of(*commit) : std::vector<std::string>{};
  if (files.empty()) {
    return {.model = {},
            .lack = fmt::format("revision '{}' is not in {}", revision, cache.path().string())};
  }
  const auto snapshot = cache.snapshot(*commit);
  try {
    const FileChoice chosen = choose_files(name.id, files, name.choice);
    std::vector<std::string> weights = chosen.weights;
    if (!chosen.index.empty()) {
      weights = files_of_index(read_file(snapshot / chosen.index), chosen.index);
    }
    for (const std::string& file : weights) {
      if (!std::binary_search(files.begin(), files.end(), file)) {
        return {.model = {}, .lack = fmt::format("{} is missing", (snapshot / file).string())};
      }
    }
    return {.model = model_of(cache, *commit, chosen), .lack = {}};
  } catch (const StartError& error) {
    return {.model = {}, .lack = fmt::format("in {}: {}", snapshot.string(), error.what())};
  }
}

// Whether the cached model is of this commit and has every file, so that a cache which cannot be
// written serves too.
bool has_all(const CacheFolder& cache, const std::string& commit, const FileChoice& chosen) {
  const std::vector<std::string> files = cache.files_of(commit);
  const auto there = [&](const std::string& file) {
    return std::binary_search(files.begin(), files.end(), file);
  };
  return std::all_of(chosen.texts.begin(), chosen.texts.end(), there) &&
         std::all_of(chosen.weights.begin(), chosen.weights.end(), there) &&
         (chosen.gguf.empty() || there(chosen.gguf));
}

class Fetching {
 public:
  Fetching(const HubSettings& settings, const CacheFolder& cache)
      : settings_(settings),
        cache_(cache),
        transfers_(settings, interruption_),
        hub_(settings, transfers_) {}

  Repository look_up(const std::string& id, const std::string& revision, int attempts) {
    return hub_.look_up(id, revision, attempts);
  }
  HubModel fetch(const Repository& repository, const FileChoice& chosen);

 private:
  void fetch_files(const Repository& repository, const std::vector<std::string>& names);

  const HubSettings& settings_;
  const CacheFolder& cache_;
  Interruption interruption_;
  Transfers transfers_;
  HubClient hub_;
};

void Fetching::fetch_files(const Repository& repository, const std::vector<std::string>& names) {
  const auto files = hub_.describe(repository, names);
  download({settings_, interruption_, transfers_, hub_}, cache_, repository, files);
}

// The weights come last and the revision is remembered at the end, so that neither a snapshot with
// weights nor a remembered commit lacks anything.
HubModel Fetching::fetch(const Repository& repository, const FileChoice& chosen) {
  cache_.prepare();
  const FileLock lock(cache_.lock("chorus"), fmt::format("fetching {}", repository.id),
                      interruption_);
  if (!chosen.gguf.empty()) {
    fetch_files(repository, {chosen.gguf});
  } else {
    fetch_files(repository, chosen.texts);
    std::vector<std::string> weights = chosen.weights;
    if (!chosen.index.empty()) {
      const auto index = cache_.snapshot(repository.commit) / chosen.index;
      weights =
          files_of_index(read_file(index), fmt::format("{}: {}", repository.id, chosen.index));
    }
    fetch_files(repository, weights);
  }
  cache_.remember(repository.revision, repository.commit);
  return model_of(cache_, repository.commit, chosen);
}

}  // namespace

HubModel find_on_hub(const HubSettings& settings, const HubName& name,
                     const std::string& revision) {
  const CacheFolder cache(settings.cache, name.id);
  const Cached cached = find_cached(cache, name, revision);
  if (settings.offline && !cached.model) {
    throw StartError(ExitCode::model_missing,
                     fmt::format("{}: HF_HUB_OFFLINE is set, and the model is not in the cache: {}",
                                 name.id, cached.lack));
  }
  if (cached.model && (settings.offline || is_commit(revision))) return *cached.model;

  Fetching fetching(settings, cache);
  Repository repository;
  try {
    repository = fetching.look_up(name.id, revision, cached.model ? kAttemptsWithCopy : kAttempts);
  } catch (const StartError& error) {
    if (!cached.model) throw;
    process::log_warn("{}; serving the copy in the cache, commit {}", error.what(),
                      cached.model->commit);
    return *cached.model;
  }
  const FileChoice chosen = choose_files(name.id, repository.files, name.choice);
  if (cached.model && cached.model->commit == repository.commit &&
      has_all(cache, repository.commit, chosen)) {
    return *cached.model;
  }
  return fetching.fetch(repository, chosen);
}

}  // namespace chorus::launcher
