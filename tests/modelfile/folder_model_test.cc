#include "modelfile/folder_model.h"

#include <catch2/catch.hpp>

#include "modelfile/error.h"
#include "tests/modelfile/refusal.h"
#include "tests/modelfile/safetensors_writer.h"
#include "tests/modelfile/scratch_folder.h"

namespace chorus::modelfile {
namespace {

using test::refusal;
using Kind = FileError::Kind;

// A folder with weights and the given config.json; more files are added by name.
class Folder {
 public:
  explicit Folder(const std::string& config = R"({"architectures":["LlamaForCausalLM"]})") {
    add("config.json", config);
    add("model.safetensors", test::small_safetensors());
  }
  void add(const std::string& name, const std::string& content) {
    test::save(scratch_.path() / name, content);
  }
  std::filesystem::path path() const { return scratch_.path(); }
  std::unique_ptr<Model> open(bool read_tensors = true) const {
    return open_folder_model(scratch_.path(), read_tensors);
  }

 private:
  test::ScratchFolder scratch_;
};

}  // namespace

TEST_CASE("config.json answers by key and by path", "[modelfile]") {
  const Folder folder(R"({"architectures":["A","B"],"hidden_size":576,"rms_norm_eps":1e-5,
    "rope_theta":10000,"tie_word_embeddings":true,"sliding_window":null,
    "rope_scaling":{"factor":8.0,"rope_type":"llama3"},"layer_types":["full","sliding"],
    "factors":[1,2.5]})");
  const auto model = folder.open();
  const Config& config = model->config();
  CHECK(config.architecture() == "A");
  CHECK(config.integer("hidden_size", ".embedding_length") == 576);
  CHECK(config.number("rms_norm_eps", "") == 1e-5);
  CHECK(config.number("rope_theta", "") == 10000);
  CHECK(config.find_flag("tie_word_embeddings", "") == true);
  CHECK(config.find_flag("rope_theta", "") == true);  // Python's view of a number
  CHECK_FALSE(config.find_integer("sliding_window", "").has_value());
  CHECK(config.find_number("rope_scaling.factor", "") == 8.0);
  CHECK(config.find_text("rope_scaling.rope_type", "") == "llama3");
  CHECK_FALSE(config.find_number("rope_scaling.absent.deeper", "").has_value());
  CHECK(config.find_texts("layer_types", "") == std::vector<std::string>{"full", "sliding"});
  CHECK(config.find_texts("absent", "").empty());
  CHECK(config.find_numbers("factors", "") == std::vector<double>{1, 2.5});
  CHECK(config.find_numbers("absent", "").empty());
}

TEST_CASE("the text part of a multimodal config.json is looked into", "[modelfile]") {
  const Folder folder(R"({"architectures":["Gemma3ForConditionalGeneration"],"eos_token_id":1,
    "text_config":{"hidden_size":640,"eos_token_id":2,"rope_scaling":{"factor":2}}})");
  const auto model = folder.open();
  CHECK(model->config().integer("hidden_size", "") == 640);
  CHECK(model->config().integer("eos_token_id", "") == 1);
  CHECK(model->config().number("rope_scaling.factor", "") == 2);
}

TEST_CASE("a wrong type in config.json names file and key", "[modelfile]") {
  const Folder folder(R"({"architectures":["A"],"n":"many","x":[1],"big":9223372036854775808,
    "half":0.5,"list":[1,"two"]})");
  const auto model = folder.open();
  const Config& config = model->config();
  const auto wrong = refusal([&] { config.find_integer("n", ""); });
  CHECK(wrong.kind == Kind::corrupt);
  CHECK(wrong.names((folder.path() / "config.json").string() + ": key n is not an integer"));
  CHECK(refusal([&] { config.find_integer("big", ""); }).names("key big"));
  CHECK(refusal([&] { config.find_integer("half", ""); }).names("key half"));
  CHECK(refusal([&] { config.find_number("x", ""); }).names("key x is not a number"));
  CHECK(refusal([&] { config.find_flag("n", ""); }).names("neither true nor false"));
  CHECK(refusal([&] { config.find_text("x", ""); }).names("not a string"));
  CHECK(refusal([&] { config.find_texts("list", ""); }).names("not a list of strings"));
  CHECK(refusal([&] { config.find_numbers("list", ""); }).names("not a list of numbers"));
  CHECK(refusal([&] { config.find_numbers("half", ""); }).names("not a list of numbers"));
  const auto missing = refusal([&] { config.integer("absent", ".gguf_key"); });
  CHECK(missing.names("config.json: key absent is missing"));
}

TEST_CASE("a config.json that is none is refused", "[modelfile]") {
  CHECK(refusal([] { Folder("{\"a\":").open(); }).names("config.json, byte 6: not valid JSON"));
  CHECK(refusal([] { Folder("[]").open(); }).names("an object is expected"));
  CHECK(refusal([] { Folder("{}").open(); }).names("key architectures is missing"));
  CHECK(refusal([] { Folder("").open(); }).names("not valid JSON"));
}

TEST_CASE("generation defaults come from generation_config.json", "[modelfile]") {
  Folder folder;
  CHECK(folder.open()->generation_defaults().eos.empty());
  folder.add("generation_config.json",
             R"({"temperature":0.7,"top_p":0.8,"top_k":20,"do_sample":true,"eos_token_id":[5,3]})");
  const GenerationDefaults defaults = folder.open()->generation_defaults();
  CHECK(defaults.temperature == 0.7);
  CHECK(defaults.top_p == 0.8);
  CHECK(defaults.top_k == 20);
  CHECK(defaults.do_sample == true);
  CHECK(defaults.eos == std::vector<int32_t>{5, 3});
  folder.add("generation_config.json", R"({"eos_token_id":2})");
  CHECK(folder.open()->generation_defaults().eos == std::vector<int32_t>{2});
  folder.add("generation_config.json", R"({"eos_token_id":-2})");
  CHECK(refusal([&] { folder.open()->generation_defaults(); }).names("key eos_token_id"));
}

TEST_CASE("a folder model is named after its folder", "[modelfile]") {
  const Folder folder;
  CHECK(folder.open()->name() == folder.path().filename().string());
  CHECK(open_folder_model(folder.path() / "", true)->name() == folder.path().filename().string());
  CHECK(folder.open(false)->tensor("norm").data.empty());
}

TEST_CASE("a folder without tokenizer.json has no tokenizer to read", "[modelfile]") {
  const auto answer = refusal([] { Folder().open()->tokenizer(); });
  CHECK(answer.kind == Kind::missing);
  CHECK(answer.names("tokenizer.json"));
}

}  // namespace chorus::modelfile
