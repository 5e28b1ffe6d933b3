// The contracts (docs/operators.md has them as a table):
// - SageMaker starts `IMAGE serve`, wants port 8080, unpacks a model into /opt/ml/model, sends up
// to
//   6 MB and kills 30 s after SIGTERM. TGI's entry point adds the HF_MODEL_* and SM_* names.
// - Vertex AI sets AIP_HTTP_PORT (and the routes, which are rows of the options table).
// - Hugging Face's Inference Endpoints mount the model at /repository, KServe at /mnt/models.
// - Cloud Run and Knative set PORT and K_SERVICE; Cloud Run kills 10 s after SIGTERM.
#include "launcher/options/cloud.h"

#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <system_error>

namespace chorus::launcher {
namespace {

namespace fs = std::filesystem;
using process::Preset;

// A folder of Hugging Face files, or one that holds a single .gguf file: then that.
std::optional<fs::path> model_in(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "config.json", error)) return folder;
  std::optional<fs::path> found;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() != ".gguf") continue;
    if (found) return std::nullopt;
    found = at->path();
  }
  return found;
}

class Presets {
 public:
  explicit Presets(const Surroundings& around) : around_(around) {}

  std::string value(const char* variable) const { return around_.variable(variable); }
  bool given(const char* variable) const { return !value(variable).empty(); }

  void take(const char* option, const char* variable) {
    if (!given(variable)) return;
    add(option, value(variable), fmt::format("environment variable {}", variable));
  }
  // Unless our own variable says something else.
  void suggest(const char* option, const char* own, const char* value, const char* source) {
    if (!given(own)) add(option, value, source);
  }
  void add(const char* option, std::string value, std::string source) {
    presets_.push_back({.option = option, .value = std::move(value), .source = std::move(source)});
  }
  void model_from(const char* folder) {
    if (found_ || given("MODEL_ID")) return;
    if (const auto model = model_in(around_.root / folder)) {
      add("model-id", model->string(), fmt::format("the folder /{}", folder));
      found_ = true;
    }
  }
  void model_found() { found_ = true; }
  std::vector<Preset> all() { return std::move(presets_); }

 private:
  const Surroundings& around_;
  std::vector<Preset> presets_;
  bool found_ = false;
};

void add_sagemaker(Presets& presets) {
  if (presets.given("HF_MODEL_ID")) {
    presets.take("model-id", "HF_MODEL_ID");
    presets.model_found();
  }
  presets.model_from("opt/ml/model");
  presets.take("revision", "HF_MODEL_REVISION");
  presets.take("quantize", "HF_MODEL_QUANTIZE");
  if (presets.value("SM_NUM_GPUS") != "0") presets.take("num-shard", "SM_NUM_GPUS");  // 0: no GPU
  if (presets.given("SAGEMAKER_BIND_TO_PORT")) {
    presets.take("port", "SAGEMAKER_BIND_TO_PORT");
  } else {
    presets.add("port", "8080", "the verb serve (SageMaker)");
  }
  constexpr const char* kSource = "SageMaker's limit";
  presets.suggest("payload-limit", "PAYLOAD_LIMIT", "6291456", kSource);
  presets.suggest("graceful-termination-timeout", "GRACEFUL_TERMINATION_TIMEOUT", "25", kSource);
}

}  // namespace

Surroundings real_surroundings() {
  return {.variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  }};
}

std::vector<Preset> cloud_presets(bool sagemaker, const Surroundings& around) {
  Presets presets(around);
  if (sagemaker) {
    add_sagemaker(presets);
  } else {
    presets.take("port", "AIP_HTTP_PORT");
    if (presets.given("K_SERVICE")) {
      presets.suggest("graceful-termination-timeout", "GRACEFUL_TERMINATION_TIMEOUT", "9",
                      "Cloud Run's limit (K_SERVICE is set)");
    }
  }
  presets.model_from("repository");
  presets.model_from("mnt/models");
  return presets.all();
}

std::string explain_storage_uri(const Surroundings& around) {
  const std::string uri = around.variable("AIP_STORAGE_URI");
  if (uri.empty()) return "";
  return fmt::format(
      "environment variable AIP_STORAGE_URI='{}': buckets are not read; set MODEL_ID to a name on "
      "the Hugging Face hub, or to a folder that the bucket is mounted or copied to",
      uri);
}

}  // namespace chorus::launcher
