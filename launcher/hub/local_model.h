// Finds the model that --model-id names, before anything is started for it.
#pragma once

#include <optional>
#include <string>

namespace chorus::launcher {

struct FoundModel {
  std::string path;         // what the children open: a folder or a .gguf file
  std::string served_name;  // what clients call it
  std::string commit;       // of a hub's model; empty otherwise
};

struct ModelWish {
  std::string model_id;                         // a path, or a name on a hub
  std::optional<std::string> revision = {};     // of a hub's model
  std::optional<std::string> cache = {};        // --huggingface-hub-cache
  std::optional<std::string> served_name = {};  // unset: by the model
};

// A path that exists comes first, then a name on a hub: found in the cache, or fetched into it.
// Throws StartError: model_missing where there is nothing to read; what find_on_hub throws.
FoundModel find_model(const ModelWish& wish);

// The name, for people, of the model in a folder or a .gguf file; its header and its configuration
// are read, not its weights. Throws StartError: model_missing where there is nothing to read,
// model_corrupt where it is damaged or of a kind that Chorus does not know.
std::string check_model(const std::string& path);

}  // namespace chorus::launcher
