#include "modelfile/chat_templates.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/modelfile/gguf_writer.h"
#include "tests/modelfile/refusal.h"
#include "tests/modelfile/scratch_folder.h"

namespace chorus::modelfile {
namespace {

using test::refusal;

class Folder {
 public:
  void add(const std::string& name, std::string_view text) {
    std::filesystem::create_directories((folder_.path() / name).parent_path());
    test::save(folder_.path() / name, text);
  }
  ChatTemplates read() const { return folder_chat_templates(folder_.path()); }
  std::string text(std::string_view name) const {
    const ChatTemplates templates = read();
    const ChatTemplateSource* source = templates.find(name);
    return source == nullptr ? "absent" : source->text;
  }
  std::filesystem::path path() const { return folder_.path(); }

 private:
  test::ScratchFolder folder_;
};

TEST_CASE("the newest place of a chat template counts", "[modelfile]") {
  Folder folder;
  CHECK(folder.read().empty());
  folder.add("tokenizer_config.json", R"({"chat_template":[{"name":"tool_use","template":"T"}]})");
  CHECK(folder.text("default") == "absent");
  CHECK(folder.text("tool_use") == "T");
  folder.add("tokenizer_config.json",
             R"({"chat_template":[{"name":"tool_use","template":"T"},
                                  {"name":"default","template":"D"}]})");
  CHECK(folder.text("default") == "D");
  folder.add("tokenizer_config.json", R"({"chat_template":"S"})");
  CHECK(folder.text("default") == "S");
  folder.add("chat_template.json", R"({"chat_template":"P"})");
  CHECK(folder.text("default") == "P");
  folder.add("chat_template.jinja", "J\n");
  CHECK(folder.text("default") == "J\n");
  folder.add("additional_chat_templates/rag.jinja", "R");
  CHECK(folder.text("rag") == "R");
  CHECK(folder.read().sources.size() == 2);
}

TEST_CASE("a template says where it stands", "[modelfile]") {
  Folder folder;
  folder.add("tokenizer_config.json", R"({"chat_template":[{"name":"rag","template":"T"}]})");
  CHECK(folder.read().sources[0].file ==
        (folder.path() / "tokenizer_config.json").string() + ", key chat_template, entry rag");
  folder.add("tokenizer_config.json", R"({"chat_template":[{"name":"rag"}]})");
  CHECK(refusal([&] { folder.read(); }).names("key chat_template"));
  folder.add("tokenizer_config.json", R"({"chat_template":3})");
  CHECK(refusal([&] { folder.read(); }).names("key chat_template"));
}

TEST_CASE("special tokens are texts or objects", "[modelfile]") {
  Folder folder;
  folder.add("special_tokens_map.json", R"({"bos_token":"<old>","unk_token":"<unk>"})");
  folder.add("tokenizer_config.json",
             R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","pad_token":null})");
  using Tokens = std::vector<std::pair<std::string, std::string>>;
  CHECK(folder.read().special_tokens ==
        Tokens{{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}});
}

TEST_CASE("a GGUF file holds named templates and special tokens", "[modelfile]") {
  const std::string bytes =
      test::small_gguf().text("tokenizer.chat_template.tool_use", "T").bytes();
  const Gguf gguf(test::as_bytes(bytes), "small.gguf");
  const ChatTemplates templates = gguf_chat_templates(gguf);
  REQUIRE(templates.sources.size() == 2);
  CHECK(templates.find("default")->text == "{{ messages }}");
  CHECK(templates.find("tool_use")->text == "T");
  CHECK(templates.find("tool_use")->file == "small.gguf, key tokenizer.chat_template.tool_use");
  REQUIRE(templates.special_tokens.size() == 1);
  CHECK(templates.special_tokens[0].first == "eos_token");
  CHECK(templates.special_tokens[0].second == "<|im_end|>");
}

TEST_CASE("a template file is a template, or JSON with one", "[modelfile]") {
  Folder folder;
  folder.add("a.jinja", "A");
  folder.add("b.json", R"({"chat_template":"B"})");
  folder.add("c.json", "{}");
  CHECK(read_chat_template_file(folder.path() / "a.jinja").front().text == "A");
  CHECK(read_chat_template_file(folder.path() / "b.json").front().text == "B");
  CHECK(refusal([&] { read_chat_template_file(folder.path() / "c.json"); }).names("is missing"));
  CHECK(refusal([&] { read_chat_template_file(folder.path() / "d.jinja"); }).names("d.jinja"));
}

}  // namespace
}  // namespace chorus::modelfile
