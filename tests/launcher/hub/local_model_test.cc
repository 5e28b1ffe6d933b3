#include "launcher/hub/local_model.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "process/exit_codes.h"
#include "tests/modelfile/scratch_folder.h"

namespace chorus::launcher {
namespace {

struct Refusal {
  process::ExitCode code;
  std::string text;
};

template <class Call>
Refusal refusal(Call call) {
  try {
    call();
  } catch (const process::StartError& error) {
    return {error.code(), error.what()};
  }
  return {process::ExitCode::ended_as_asked, "(accepted)"};
}

}  // namespace

TEST_CASE("a path that is not there is missing") {
  for (const char* path : {"/nowhere/model.gguf", "models/model.gguf", "./tiny", "a/b/c"}) {
    const Refusal missing = refusal([&] { find_model({.model_id = path}); });
    CHECK(missing.code == process::ExitCode::model_missing);
    CHECK(missing.text == std::string("--model-id ") + path + ": no such folder or file");
  }
}

TEST_CASE("a path that is there comes before a name on a hub, and its last name is served") {
  const test::ScratchFolder folder;
  const auto model = folder.path() / "some-model.Q4_1.gguf";
  std::ofstream(model) << "GGUF";
  CHECK(find_model({.model_id = model}).served_name == "some-model.Q4_1");
  CHECK(find_model({.model_id = folder.path() / ""}).served_name ==
        folder.path().filename().string());
  CHECK(find_model({.model_id = model, .served_name = "mine"}).served_name == "mine");
  CHECK(find_model({.model_id = model}).commit.empty());
}

TEST_CASE("a file that is no model is corrupt, named in the message") {
  const test::ScratchFolder folder;
  const std::string file = folder.path() / "model.gguf";
  std::ofstream(file) << "this is not a model";
  const Refusal damaged = refusal([&] { check_model(file); });
  CHECK(damaged.code == process::ExitCode::model_corrupt);
  CHECK(damaged.text.find(file) != std::string::npos);
}

TEST_CASE("a folder without config.json is missing something") {
  const test::ScratchFolder folder;
  const Refusal empty = refusal([&] { check_model(folder.path()); });
  CHECK(empty.code == process::ExitCode::model_missing);
}

}  // namespace chorus::launcher
