#include "launcher/options/cloud.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <map>

#include "tests/modelfile/scratch_folder.h"

namespace chorus::launcher {
namespace {

using Values = std::map<std::string, std::string>;

class Cloud {
 public:
  explicit Cloud(Values variables) : variables_(std::move(variables)) {}
  void fill(const std::string& file) {
    const auto path = root_.path() / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "{}";
  }
  std::string path(const std::string& file) const { return root_.path() / file; }
  Surroundings around() const {
    return {.variable =
                [this](const char* name) {
                  const auto found = variables_.find(name);
                  return found == variables_.end() ? std::string() : found->second;
                },
            .root = root_.path()};
  }
  Values presets(bool sagemaker) const {
    Values values;
    for (const auto& preset : cloud_presets(sagemaker, around())) {
      CHECK(values.emplace(preset.option, preset.value).second);  // each option once
      CHECK_FALSE(preset.source.empty());
    }
    return values;
  }

 private:
  test::ScratchFolder root_;
  Values variables_;
};

}  // namespace

TEST_CASE("where no cloud is, nothing is taken from one") {
  CHECK(Cloud(Values{{"PORT", "80"}, {"MODEL_ID", "m"}, {"HF_MODEL_ID", "other"}})
            .presets(false)
            .empty());
}

TEST_CASE("SageMaker's verb and variables become options, as TGI's entry point has them") {
  const Cloud cloud({{"HF_MODEL_ID", "acme/tiny"},
                     {"HF_MODEL_REVISION", "v1"},
                     {"SM_NUM_GPUS", "2"},
                     {"PORT", "80"}});
  CHECK(cloud.presets(true) == Values{{"model-id", "acme/tiny"},
                                      {"revision", "v1"},
                                      {"num-shard", "2"},
                                      {"port", "8080"},
                                      {"payload-limit", "6291456"},
                                      {"graceful-termination-timeout", "25"}});
}

TEST_CASE("SageMaker's limits give way to our own variables, its port to its own variable") {
  const Cloud cloud({{"PAYLOAD_LIMIT", "1000"},
                     {"GRACEFUL_TERMINATION_TIMEOUT", "10"},
                     {"SAGEMAKER_BIND_TO_PORT", "8081"}});
  CHECK(cloud.presets(true) == Values{{"port", "8081"}});
}

TEST_CASE("a model that SageMaker has unpacked is served unless one is named") {
  Cloud cloud(Values{});
  CHECK_FALSE(cloud.presets(true).contains("model-id"));
  cloud.fill("opt/ml/model/model.tar.gz");
  CHECK_FALSE(cloud.presets(true).contains("model-id"));
  cloud.fill("opt/ml/model/config.json");
  CHECK(cloud.presets(true)["model-id"] == cloud.path("opt/ml/model"));
  CHECK_FALSE(cloud.presets(false).contains("model-id"));
  Cloud named(Values{{"HF_MODEL_ID", "acme/tiny"}});
  named.fill("opt/ml/model/config.json");
  named.fill("repository/config.json");
  CHECK(named.presets(true)["model-id"] == "acme/tiny");
}

TEST_CASE("Vertex AI's port counts before the image's") {
  const Cloud cloud(Values{{"AIP_HTTP_PORT", "8080"}, {"PORT", "80"}, {"AIP_PREDICT_ROUTE", "/p"}});
  CHECK(cloud.presets(false) == Values{{"port", "8080"}});
  CHECK(explain_storage_uri(cloud.around()).empty());
  const Cloud bucket(Values{{"AIP_STORAGE_URI", "gs://bucket/model"}});
  CHECK(explain_storage_uri(bucket.around()).find("gs://bucket/model") != std::string::npos);
}

TEST_CASE("models that are mounted where clouds mount them are served") {
  Cloud endpoint(Values{});
  endpoint.fill("repository/config.json");
  CHECK(endpoint.presets(false) == Values{{"model-id", endpoint.path("repository")}});
  Cloud kserve(Values{});
  kserve.fill("mnt/models/tiny.gguf");
  CHECK(kserve.presets(false) == Values{{"model-id", kserve.path("mnt/models/tiny.gguf")}});
  kserve.fill("mnt/models/other.gguf");
  CHECK(kserve.presets(false).empty());
  Cloud named(Values{{"MODEL_ID", "acme/tiny"}});
  named.fill("repository/config.json");
  CHECK(named.presets(false).empty());
}

TEST_CASE("Cloud Run leaves little time to end") {
  CHECK(Cloud(Values{{"K_SERVICE", "chat"}}).presets(false) ==
        Values{{"graceful-termination-timeout", "9"}});
  CHECK(Cloud(Values{{"K_SERVICE", "chat"}, {"GRACEFUL_TERMINATION_TIMEOUT", "30"}})
            .presets(false)
            .empty());
}

}  // namespace chorus::launcher
