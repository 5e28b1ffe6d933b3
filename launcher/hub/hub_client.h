// The hub's protocol: what a repository holds, and where and what its files are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/hub/hub_settings.h"
#include "launcher/hub/transfers.h"

namespace chorus::launcher {

struct Repository {
  std::string id;
  std::string revision;  // as asked for
  std::string commit;    // what that is now
  std::vector<std::string> files;
};

struct RemoteFile {
  std::string name;
  std::string etag;  // its checksum, and its blob's name in the cache
  int64_t size = 0;
};

class HubClient {
 public:
  HubClient(const HubSettings& settings, Transfers& transfers)
      : settings_(settings), transfers_(transfers) {}

  // Each throws StartError, by cause: model_missing for what is not there or may not be read,
  // unavailable for a hub that cannot be reached, model_corrupt for answers that make no sense.
  // `attempts`: how often to ask a hub that does not answer.
  Repository look_up(const std::string& id, const std::string& revision, int attempts);
  std::vector<RemoteFile> describe(const Repository& repository,
                                   const std::vector<std::string>& names);

  std::string address_of(const Repository& repository, const std::string& name) const;
  // Throws what a failed request for a file, or for the repository (no name), means.
  [[noreturn]] void refuse(const Outcome& outcome, const Repository& repository,
                           const std::string& name) const;

 private:
  void ask(const Repository& repository, RemoteFile& file, const std::string& url, int redirects);

  const HubSettings& settings_;
  Transfers& transfers_;
};

}  // namespace chorus::launcher
