// A model by its name on a hub: found in the cache, or fetched into it.
#pragma once

#include <optional>
#include <string>

#include "launcher/hub/hub_name.h"
#include "launcher/hub/hub_settings.h"

namespace chorus::launcher {

struct HubModel {
  std::string path;    // a snapshot's folder, or a GGUF file in one
  std::string commit;  // what the revision was
};

// What is fetched stays in the cache; without the network, or where the hub fails, the cached
// snapshot serves. Throws StartError whose text says what is missing and what to do, and
// Interrupted on a signal, after which the next attempt goes on where this one stopped.
HubModel find_on_hub(const HubSettings& settings, const HubName& name, const std::string& revision);

}  // namespace chorus::launcher
