#include "launcher/hub/file_choice.h"

#include <catch2/catch.hpp>

#include "process/exit_codes.h"

namespace chorus::launcher {
namespace {

using Names = std::vector<std::string>;

std::string refusal(const Names& names, const std::string& choice, process::ExitCode code) {
  try {
    choose_files("acme/tiny", names, choice);
  } catch (const process::StartError& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return "(accepted)";
}

}  // namespace

TEST_CASE("safetensors come before everything else, once") {
  const Names names = {"README.md",
                       "config.json",
                       "tokenizer.json",
                       "model.safetensors",
                       "pytorch_model.bin",
                       "consolidated.safetensors",
                       "tiny-Q4_0.gguf",
                       "original/config.json",
                       "model.fp16.safetensors",
                       "additional_chat_templates/rag.jinja"};
  const FileChoice chosen = choose_files("acme/tiny", names, "");
  CHECK(chosen.texts ==
        Names{"config.json", "tokenizer.json", "additional_chat_templates/rag.jinja"});
  CHECK(chosen.weights == Names{"model.safetensors"});
  CHECK(chosen.index.empty());
  CHECK(chosen.gguf.empty());
}

TEST_CASE("an index is fetched with the texts and names the weights") {
  const FileChoice chosen = choose_files(
      "acme/tiny",
      {"config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"}, "");
  CHECK(chosen.texts == Names{"config.json", "model.safetensors.index.json"});
  CHECK(chosen.index == "model.safetensors.index.json");
  CHECK(chosen.weights.empty());
  CHECK(files_of_index(R"({"weight_map": {"a": "x.safetensors", "b": "x.safetensors",
                                          "c": "w.safetensors"}})",
                       "index") == Names{"w.safetensors", "x.safetensors"});
}

TEST_CASE("an index that is none is refused") {
  for (const char* text : {"", "[]", "{}", R"({"weight_map": []})", R"({"weight_map": {"a": 1}})",
                           R"({"weight_map": {"a": "../x"}})"}) {
    INFO(text);
    CHECK_THROWS_AS(files_of_index(text, "index"), process::StartError);
  }
}

TEST_CASE("what cannot be served is refused with its reason") {
  const auto corrupt = process::ExitCode::model_corrupt;
  CHECK(refusal({"model.safetensors"}, "", corrupt) == "acme/tiny has no config.json");
  CHECK(refusal({"config.json", "pytorch_model.bin"}, "", corrupt)
            .find("only as pytorch_model.bin") != std::string::npos);
  CHECK(
      refusal({"adapter_config.json", "adapter_model.safetensors"}, "", corrupt).find("adapter") !=
      std::string::npos);
  CHECK(refusal({"README.md"}, "", corrupt).find("neither") != std::string::npos);
  CHECK(refusal({"config.json", "model.safetensors"}, "Q4_0", corrupt).find("has none") !=
        std::string::npos);
}

TEST_CASE("quantisations are read from file names") {
  CHECK(quantisation_of("Model-7B.Q4_K_M.gguf") == "Q4_K_M");
  CHECK(quantisation_of("sub/qwen2.5-0.5b-instruct-q8_0.gguf") == "Q8_0");
  CHECK(quantisation_of("model_q5_k_s.gguf") == "Q5_K_S");
  CHECK(quantisation_of("Tiny-UD-IQ2_XXS.gguf") == "UD-IQ2_XXS");
  CHECK(quantisation_of("tiny-BF16-00001-of-00002.gguf") == "BF16");
  CHECK(quantisation_of("gpt-oss-20b-MXFP4.gguf") == "MXFP4");
  CHECK(quantisation_of("phi-3-mini.gguf").empty());
}

TEST_CASE("one GGUF is chosen by its quantisation or its name") {
  const Names names = {"tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "mmproj-tiny-F16.gguf", "config.json"};
  CHECK(choose_files("acme/tiny", names, "q4_k_m").gguf == "tiny-Q4_K_M.gguf");
  CHECK(choose_files("acme/tiny", names, "tiny-Q8_0.gguf").gguf == "tiny-Q8_0.gguf");
  CHECK(choose_files("acme/tiny", {"only.gguf", "mmproj-F16.gguf"}, "").gguf == "only.gguf");
  const auto usage = process::ExitCode::usage;
  CHECK(refusal(names, "", usage) ==
        "acme/tiny has 2 GGUF files; ask for one of: acme/tiny:Q4_K_M, acme/tiny:Q8_0");
  CHECK(refusal(names, "Q5_0", usage) ==
        "acme/tiny: no GGUF file is 'Q5_0'; there are: acme/tiny:Q4_K_M, acme/tiny:Q8_0");
  CHECK(refusal({"a-Q8_0.gguf", "b-Q8_0.gguf"}, "Q8_0", usage) ==
        "acme/tiny has 2 GGUF files that are 'Q8_0'; ask for one of: a-Q8_0.gguf, b-Q8_0.gguf");
}

TEST_CASE("a GGUF in several parts is refused, not fetched by halves") {
  const Names names = {"big-Q8_0-00001-of-00002.gguf", "big-Q8_0-00002-of-00002.gguf"};
  CHECK(refusal(names, "Q8_0", process::ExitCode::model_corrupt).find("several parts") !=
        std::string::npos);
}

}  // namespace chorus::launcher
