#include "modelfile/gguf_model.h"

#include <catch2/catch.hpp>

#include "modelfile/error.h"
#include "tests/modelfile/gguf_writer.h"
#include "tests/modelfile/refusal.h"
#include "tests/modelfile/scratch_folder.h"

namespace chorus::modelfile {
namespace {

using test::as_bytes;
using test::GgufWriter;
using test::refusal;
using Kind = FileError::Kind;

Vocabulary vocabulary_of(const GgufWriter& writer) {
  const std::string file = writer.bytes();
  return gguf_vocabulary(parse_gguf(as_bytes(file), "x.gguf"));
}

GgufWriter with_tokens(const std::string& model = "gpt2") {
  return GgufWriter()
      .text("tokenizer.ggml.model", model)
      .texts("tokenizer.ggml.tokens", {"a", "b", "c", "d"});
}

}  // namespace

TEST_CASE("a key that starts with a dot is prefixed by the architecture", "[modelfile]") {
  const std::string file = test::small_gguf().bytes();
  const Gguf gguf = parse_gguf(as_bytes(file), "x.gguf");
  const auto config = gguf_config(gguf);
  CHECK(config->architecture() == "llama");
  CHECK(config->integer("num_hidden_layers", ".block_count") == 2);
  CHECK(config->number("rms_norm_eps", ".attention.layer_norm_rms_epsilon") == Approx(1e-5));
  CHECK_FALSE(config->find_integer("head_dim", ".attention.key_length").has_value());
  CHECK_FALSE(config->find_integer("only_in_config_json", "").has_value());
  const auto missing = refusal([&] { config->integer("head_dim", ".attention.key_length"); });
  CHECK(missing.names("x.gguf: key llama.attention.key_length is missing"));
}

TEST_CASE("a vocabulary is read with all of its parts", "[modelfile]") {
  const Vocabulary vocabulary =
      vocabulary_of(with_tokens()
                        .text("tokenizer.ggml.pre", "qwen2")
                        .integers("tokenizer.ggml.token_type", {1, 4, 3, 5})
                        .texts("tokenizer.ggml.merges", {"a b", "ab c"})
                        .floats("tokenizer.ggml.scores", {0, -1, -2, -3})
                        .u32("tokenizer.ggml.bos_token_id", 0)
                        .u32("tokenizer.ggml.eos_token_id", 1)
                        .u32("tokenizer.ggml.eot_token_id", 3)
                        .u32("tokenizer.ggml.eom_token_id", 2)
                        .integers("tokenizer.ggml.eog_token_ids", {3, 1})
                        .u32("tokenizer.ggml.unknown_token_id", 0xffffffff)
                        .u32("tokenizer.ggml.padding_token_id", 2)
                        .flag("tokenizer.ggml.add_bos_token", true)
                        .flag("tokenizer.ggml.add_eos_token", true)
                        .flag("tokenizer.ggml.add_space_prefix", false));
  CHECK(vocabulary.model == "gpt2");
  CHECK(vocabulary.pre == "qwen2");
  CHECK(vocabulary.tokens == std::vector<std::string>{"a", "b", "c", "d"});
  CHECK(vocabulary.kinds == std::vector<TokenKind>{TokenKind::normal, TokenKind::user_defined,
                                                   TokenKind::control, TokenKind::unused});
  CHECK(vocabulary.merges == std::vector<std::string>{"a b", "ab c"});
  CHECK(vocabulary.scores == std::vector<float>{0, -1, -2, -3});
  CHECK(vocabulary.bos == 0);
  CHECK(vocabulary.eos == 1);
  CHECK_FALSE(vocabulary.unknown.has_value());
  CHECK(vocabulary.padding == 2);
  CHECK(vocabulary.end_of_turn == std::vector<int32_t>{1, 2, 3});
  CHECK(vocabulary.add_bos);
  CHECK(vocabulary.add_eos);
  CHECK(vocabulary.add_space_prefix == false);
}

TEST_CASE("where the file does not say, BOS follows the kind of vocabulary", "[modelfile]") {
  CHECK_FALSE(vocabulary_of(with_tokens()).add_bos);
  CHECK(vocabulary_of(with_tokens("llama")).add_bos);
  CHECK(vocabulary_of(with_tokens().text("tokenizer.ggml.pre", "llama-bpe")).add_bos);
  CHECK_FALSE(
      vocabulary_of(with_tokens("llama").flag("tokenizer.ggml.add_bos_token", false)).add_bos);
  CHECK(vocabulary_of(with_tokens("t5")).add_eos);
  CHECK_FALSE(vocabulary_of(with_tokens("t5")).add_bos);
  const Vocabulary bert = vocabulary_of(with_tokens("bert")
                                            .u32("tokenizer.ggml.cls_token_id", 1)
                                            .u32("tokenizer.ggml.seperator_token_id", 2));
  CHECK(bert.bos == 1);
  CHECK(bert.eos == 2);
  CHECK((bert.add_bos && bert.add_eos));
  CHECK_FALSE(vocabulary_of(with_tokens()).add_space_prefix.has_value());
  CHECK(vocabulary_of(with_tokens()).kinds == std::vector<TokenKind>(4, TokenKind::normal));
}

TEST_CASE("a vocabulary whose parts disagree is refused", "[modelfile]") {
  const auto refused = [](const GgufWriter& writer) {
    return refusal([&] { vocabulary_of(writer); });
  };
  CHECK(refused(GgufWriter()).names("tokenizer.ggml.model is missing"));
  CHECK(refused(GgufWriter().text("tokenizer.ggml.model", "gpt2")).names("tokenizer.ggml.tokens"));
  CHECK(
      refused(with_tokens().floats("tokenizer.ggml.scores", {1})).names("1 entries for 4 tokens"));
  CHECK(refused(with_tokens().integers("tokenizer.ggml.token_type", {1})).names("1 entries for 4"));
  CHECK(refused(with_tokens().integers("tokenizer.ggml.token_type", {1, 1, 1, 7}))
            .names("unknown kind 7"));
  CHECK(refused(with_tokens().u32("tokenizer.ggml.eos_token_id", 4)).names("is 4"));
  CHECK(refused(with_tokens().integers("tokenizer.ggml.eog_token_ids", {-5})).names("token -5"));
  CHECK(refused(with_tokens().u8("tokenizer.ggml.merges", 1)).names("tokenizer.ggml.merges"));
}

TEST_CASE("a GGUF file opens as a model", "[modelfile]") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "small.gguf";
  test::save(path, test::small_gguf().bytes());
  const auto model = open_gguf_model(path, true);
  CHECK(model->name() == "Small");
  CHECK(model->path() == path);
  REQUIRE(model->chat_templates().sources.size() == 1);
  CHECK(model->chat_templates().sources[0].text == "{{ messages }}");
  CHECK(model->tensor("output_norm.weight").data.size() == 20);
  CHECK(refusal([&] { model->tensor("absent"); }).names("tensor absent is missing"));
  CHECK_FALSE(model->generation_defaults().temperature.has_value());

  test::save(folder.path() / "sampling.gguf", test::small_gguf()
                                                  .f32("general.sampling.temp", 0.5f)
                                                  .i32("general.sampling.top_k", 20)
                                                  .bytes());
  const auto sampling = open_gguf_model(folder.path() / "sampling.gguf", true);
  CHECK(sampling->generation_defaults().temperature == 0.5);
  CHECK(sampling->generation_defaults().top_k == 20);
}

TEST_CASE("without tensors the metadata stays readable and the bytes are gone", "[modelfile]") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "small.gguf";
  GgufWriter writer = test::small_gguf();
  writer.tensor("large", GgufWriter::kF32, {1 << 16}, std::string(1 << 18, 'x'));
  test::save(path, writer.bytes());
  const auto model = open_gguf_model(path, false);
  CHECK(model->tensor("large").shape == std::vector<int64_t>{1 << 16});
  CHECK(model->tensor("large").data.empty());
  CHECK(model->tensors().size() > 1);
}

TEST_CASE("files without an architecture, and parts of a split file, are refused", "[modelfile]") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "nameless.gguf";
  test::save(path, GgufWriter().text("general.name", "x").bytes());
  CHECK(refusal([&] { open_gguf_model(path, true); }).names("general.architecture"));
  test::save(path, test::small_gguf().u16("split.count", 3).bytes());
  const auto split = refusal([&] { open_gguf_model(path, true); });
  CHECK(split.kind == Kind::unsupported);
  CHECK(split.names("one of 3 parts"));
}

TEST_CASE("a file without general.name is named after itself", "[modelfile]") {
  const test::ScratchFolder folder;
  const auto path = folder.path() / "stem.Q4.gguf";
  test::save(path, GgufWriter().text("general.architecture", "llama").bytes());
  CHECK(open_gguf_model(path, true)->name() == "stem.Q4");
}

}  // namespace chorus::modelfile
