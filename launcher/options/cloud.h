// What a cloud tells a container by its own variables, folders and verb, as values of our options.
// A flag counts before all of it. Where a cloud dictates something (the port), that counts before
// our own variable too, since images set those for everybody.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "process/options.h"

namespace chorus::launcher {

// What is around the process; tests give their own.
struct Surroundings {
  std::function<std::string(const char*)> variable;  // empty where it is not set
  std::filesystem::path root = "/";                  // of the folders that clouds fill
};
Surroundings real_surroundings();

// `sagemaker`: the verb was `serve`, with which SageMaker starts containers.
std::vector<process::Preset> cloud_presets(bool sagemaker, const Surroundings& around);

// Why AIP_STORAGE_URI, a bucket that Vertex AI names, is no model; empty where it is not set.
std::string explain_storage_uri(const Surroundings& around);

}  // namespace chorus::launcher
