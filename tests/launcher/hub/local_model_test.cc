#include "launcher/hub/local_model.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

struct Refusal {
  process::ExitCode code;
  std::string text;
};

Refusal refusal(const std::string& model_id) {
  try {
    check_model(model_id);
  } catch (const process::StartError& error) {
    return {error.code(), error.what()};
  }
  return {process::ExitCode::ended_as_asked, "(accepted)"};
}

class Folder {
 public:
  Folder() {
    std::string pattern = std::filesystem::temp_directory_path() / "chorus-model-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace

TEST_CASE("a model that is not there is missing, and a hub id is told that hubs come later") {
  const Refusal path = refusal("/nowhere/model.gguf");
  CHECK(path.code == process::ExitCode::model_missing);
  CHECK(path.text == "--model-id /nowhere/model.gguf: no such folder or file");
  const Refusal hub = refusal("someone/some-model");
  CHECK(hub.code == process::ExitCode::model_missing);
  CHECK(hub.text.find("cannot download from a hub yet") != std::string::npos);
}

TEST_CASE("a file that is no model is corrupt, named in the message") {
  const Folder folder;
  const std::string file = folder.path() / "model.gguf";
  std::ofstream(file) << "this is not a model";
  const Refusal damaged = refusal(file);
  CHECK(damaged.code == process::ExitCode::model_corrupt);
  CHECK(damaged.text.find(file) != std::string::npos);
}

TEST_CASE("a folder without config.json is missing something") {
  const Folder folder;
  const Refusal empty = refusal(folder.path());
  CHECK(empty.code == process::ExitCode::model_missing);
}

}  // namespace chorus::launcher
