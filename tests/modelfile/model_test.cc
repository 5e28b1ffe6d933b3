#include "modelfile/model.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "modelfile/error.h"
#include "tests/modelfile/gguf_writer.h"
#include "tests/modelfile/refusal.h"
#include "tests/modelfile/safetensors_writer.h"
#include "tests/modelfile/scratch_folder.h"

namespace chorus::modelfile {
namespace {

using test::Refusal;
using test::refusal;
using Kind = FileError::Kind;

Refusal refusal_of(const std::filesystem::path& path) {
  return refusal([&] { open_model(path); });
}

}  // namespace

TEST_CASE("a .gguf file opens, and the folder that holds it alone", "[modelfile]") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "small.gguf";
  test::save(path, test::small_gguf().bytes());
  CHECK(open_model(path)->path() == path);
  CHECK(open_model(folder.path())->path() == path);
  CHECK(open_model(folder.path())->config().format() == Format::gguf);
  test::save(folder.path() / "other.gguf", test::small_gguf().bytes());
  const Refusal two = refusal_of(folder.path());
  CHECK(two.kind == Kind::unsupported);
  CHECK(two.names("2 .gguf files"));
  CHECK(two.names("other.gguf"));
}

TEST_CASE("a folder with config.json is a Hugging Face folder", "[modelfile]") {
  const test::ScratchFolder folder;
  test::save(folder.path() / "extra.gguf", test::small_gguf().bytes());
  test::save(folder.path() / "config.json", R"({"architectures":["LlamaForCausalLM"]})");
  test::save(folder.path() / "model.safetensors", test::small_safetensors());
  const auto model = open_model(folder.path());
  CHECK(model->config().format() == Format::safetensors);
  CHECK(model->tensor("norm").data.size() == 8);
}

TEST_CASE("a config.json beside a lone .gguf file does not make a Hugging Face folder",
          "[modelfile]") {
  const test::ScratchFolder folder;
  test::save(folder.path() / "config.json", R"({"model_type":"llama"})");
  CHECK(refusal_of(folder.path()).names("config.json: key architectures is missing"));
  test::save(folder.path() / "config.json", R"({"architectures":["LlamaForCausalLM"]})");
  CHECK(refusal_of(folder.path()).names("neither model.safetensors nor"));
  test::save(folder.path() / "small.gguf", test::small_gguf().bytes());
  CHECK(open_model(folder.path())->config().format() == Format::gguf);
}

TEST_CASE("a path that is no model says what a model is", "[modelfile]") {
  const test::ScratchFolder folder;
  const Refusal missing = refusal_of(folder.path() / "absent.gguf");
  CHECK(missing.kind == Kind::missing);
  CHECK(missing.names((folder.path() / "absent.gguf").string()));
  CHECK(
      missing.names("a .gguf file, a folder that holds one .gguf file, or a Hugging Face folder"));
  const Refusal empty = refusal_of(folder.path());
  CHECK(empty.kind == Kind::missing);
  CHECK(empty.names("neither config.json nor a .gguf file"));
  test::save(folder.path() / "notes.txt", "not a model at all");
  CHECK(refusal_of(folder.path() / "notes.txt").names("not a GGUF file"));
  test::save(folder.path() / "empty.gguf", "");
  CHECK(refusal_of(folder.path() / "empty.gguf").kind == Kind::corrupt);
  test::save(folder.path() / "model.safetensors", test::small_safetensors());
  CHECK(refusal_of(folder.path() / "model.safetensors").names("name the folder instead"));
}

TEST_CASE("a pipe or a device is refused without waiting for it", "[modelfile]") {
  const test::ScratchFolder folder;
  const auto pipe = folder.path() / "pipe.gguf";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(refusal_of(pipe).names("neither a file nor a folder"));
  CHECK(refusal_of("/dev/null").kind == Kind::unsupported);
}

}  // namespace chorus::modelfile
