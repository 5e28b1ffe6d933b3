// Fetches files of a repository into the cache.
#pragma once

#include <vector>

#include "launcher/hub/cache_folder.h"
#include "launcher/hub/hub_client.h"

namespace chorus::launcher {

struct DownloadTools {
  const HubSettings& settings;
  const Interruption& interruption;
  Transfers& transfers;
  HubClient& hub;
};

// Those that the snapshot lacks: in parts, several at once, from where an earlier attempt stopped.
// Each is compared with its checksum before it gets its name, and `files` are in the snapshot when
// this returns. A wrong checksum is fetched once more. Throws StartError: model_corrupt for a file
// that is not what the hub says it is, unavailable for too little disk or a hub that went away.
// The model's lock must be held.
void download(const DownloadTools& tools, const CacheFolder& cache, const Repository& repository,
              const std::vector<RemoteFile>& files);

// "4.1 GB"
std::string bytes_text(int64_t bytes);

}  // namespace chorus::launcher
