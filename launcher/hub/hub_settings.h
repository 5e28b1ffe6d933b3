// Where models come from and where they are kept: Hugging Face's own variables, so that a machine
// that was set up for its Python packages needs nothing new.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

namespace chorus::launcher {

struct HubSettings {
  std::filesystem::path cache;                      // holds models--org--name folders
  std::string endpoint = "https://huggingface.co";  // without a slash at its end
  std::string token;                                // empty: none
  bool offline = false;                             // the network is left alone
  std::string ca_file;                              // empty: the system's certificates
  std::chrono::seconds answer_timeout{10};          // of questions about a model
  std::chrono::seconds silence_timeout{10};         // without a byte, while a file comes
};

// From the environment: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME and what Python's
// huggingface_hub reads beside them. `cache` comes before HF_HUB_CACHE and HF_HOME. Throws
// StartError(usage) for an endpoint that is no http or https address.
HubSettings read_hub_settings(const std::optional<std::string>& cache);

}  // namespace chorus::launcher
