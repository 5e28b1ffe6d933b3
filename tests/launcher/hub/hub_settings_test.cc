#include "launcher/hub/hub_settings.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <utility>

#include "process/exit_codes.h"
#include "tests/modelfile/scratch_folder.h"

namespace chorus::launcher {
namespace {

// Tests see only the variables they set themselves.
class Variables {
 public:
  Variables(std::initializer_list<std::pair<const char*, std::string>> set) {
    clear();
    for (const auto& [name, value] : set) setenv(name, value.c_str(), 1);
  }
  ~Variables() { clear(); }

 private:
  static void clear() {
    for (const char* name :
         {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN",
          "HUGGING_FACE_HUB_TOKEN", "HF_API_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT",
          "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT"}) {
      unsetenv(name);
    }
  }
};

}  // namespace

TEST_CASE("the cache's folder is where Python's packages have it") {
  const std::string home = std::getenv("HOME");
  {
    const Variables none{};
    CHECK(read_hub_settings({}).cache == home + "/.cache/huggingface/hub");
  }
  {
    const Variables set{{"XDG_CACHE_HOME", "/x"}};
    CHECK(read_hub_settings({}).cache == "/x/huggingface/hub");
  }
  {
    const Variables set{{"HF_HOME", "~/h"}, {"XDG_CACHE_HOME", "/x"}};
    CHECK(read_hub_settings({}).cache == home + "/h/hub");
  }
  const Variables set{{"HF_HOME", "/h"}, {"HUGGINGFACE_HUB_CACHE", "/data"}};
  CHECK(read_hub_settings({}).cache == "/data");
  CHECK(read_hub_settings("/flag").cache == "/flag");
}

TEST_CASE("the token comes from a variable or the file that a login leaves") {
  const test::ScratchFolder folder;
  std::ofstream(folder.path() / "token") << "from-file\n";
  {
    const Variables set{{"HF_HOME", folder.path()}};
    CHECK(read_hub_settings({}).token == "from-file");
  }
  const Variables set{
      {"HF_HOME", folder.path()}, {"HUGGING_FACE_HUB_TOKEN", " old \n"}, {"HF_API_TOKEN", "tgi"}};
  CHECK(read_hub_settings({}).token == "old");
  setenv("HF_TOKEN", "new", 1);
  CHECK(read_hub_settings({}).token == "new");
}

TEST_CASE("endpoint, offline and timeouts") {
  {
    const Variables none{};
    CHECK(read_hub_settings({}).endpoint == "https://huggingface.co");
    CHECK_FALSE(read_hub_settings({}).offline);
  }
  const Variables set{{"HF_ENDPOINT", "http://mirror:8080/"},
                      {"HF_HUB_OFFLINE", "yes"},
                      {"HF_HUB_DOWNLOAD_TIMEOUT", "3"}};
  CHECK(read_hub_settings({}).endpoint == "http://mirror:8080");
  CHECK(read_hub_settings({}).offline);
  CHECK(read_hub_settings({}).silence_timeout == std::chrono::seconds(3));
  setenv("HF_ENDPOINT", "file:///etc", 1);
  CHECK_THROWS_AS(read_hub_settings({}), process::StartError);
}

}  // namespace chorus::launcher
