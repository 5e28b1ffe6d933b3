// Finds the model that --model-id names, before anything is started for it.
#pragma once

#include <string>

namespace chorus::launcher {

// The name, for people, of the model in a folder or a .gguf file; its header and its configuration
// are read, not its weights. Throws StartError: model_missing where there is nothing to read,
// model_corrupt where it is damaged or of a kind that Chorus does not know.
std::string check_model(const std::string& model_id);

}  // namespace chorus::launcher
