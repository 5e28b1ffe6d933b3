// Tiny random models of every family against the logits of transformers
// (tests/reference/families.py makes them): whole and split in two, weights in f32 and in bf16, as
// a folder and as a GGUF file, on every backend.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <iostream>
#include <optional>

#include "modelfile/error.h"
#include "tests/modelfile/scratch_folder.h"
#include "tests/shard/local_group.h"
#include "tests/shard/models/families.h"

using namespace chorus;
using namespace chorus::tests;

namespace {

// `bf16`: what the weights are stored in, and what a backend that can multiplies in.
using MakeOps = std::unique_ptr<kernels::Ops> (*)(const kernels::CpuOptions&, bool bf16);

struct FamilyBackend {
  const char* name;
  MakeOps make;
  double f32, bf16;  // how far a logit may be off, as a part of the largest one
};
const FamilyBackend kBackends[] = {
    {"reference", [](const auto& cpu, bool) { return kernels::make_reference_ops(cpu); }, 1e-5,
     1e-5},
    // Keys and values in f16.
    {"cpu", [](const auto& cpu, bool) { return kernels::make_cpu_ops(cpu); }, 2e-3, 2e-3},
#ifdef CHORUS_HAS_EMULATION
    {"emulated",
     [](const auto& cpu, bool bf16) {
       const auto type = bf16 ? kernels::DType::bf16 : kernels::DType::f32;
       return kernels::make_emulated_ops(
           {.operand = type, .kv = type, .collective = cpu.collective});
     },
     1e-5, 2.5e-2},
#endif
};

struct Difference {
  double largest = 0;   // of a logit, as a part of the largest logit
  int other_first = 0;  // positions with another likeliest token
};

int first_of(const std::vector<float>& logits) {
  return static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Teacher-forced: every step goes to the next golden position, so prompts come in chunks and keys
// and values of earlier steps are read from the cache.
Difference compare(const TinyModel& tiny, const std::filesystem::path& path, bool bf16,
                   const FamilyBackend& backend, int ranks) {
  const auto model = modelfile::open_model(path);
  const auto checked = [&](const kernels::CpuOptions& options) {
    return kernels::make_checked_ops(backend.make(options, bf16), true);
  };
  LocalGroup group(*model,
                   {.ranks = ranks,
                    .make_ops = checked,
                    .limits = {.slots = 2, .step_tokens_max = 64, .context_max = tiny.context()},
                    .kv_tokens = 256});
  const auto prompt = tiny.prompt();
  const auto expected = tiny.logits(bf16);
  const auto positions = tiny.positions();
  double scale = 0;
  for (const auto& row : expected) {
    for (const float logit : row) scale = std::max<double>(scale, std::abs(logit));
  }
  Difference difference;
  int64_t done = 0, held = 0;
  for (size_t i = 0; i < positions.size(); ++i) {
    const int64_t next = positions[i] + 1;
    step::Row row{.slot = 0,
                  .start = std::nullopt,
                  .tokens = {prompt.begin() + done, prompt.begin() + next},
                  .position = done,
                  .block_changes = {},
                  .sample = true};
    if (i == 0) row.start = step::NewSequence{.sequence = 1};
    group.add_blocks(row, held, next);
    group.execute({.number = 0, .rows = {row}});
    done = next;
    const auto logits = group.logits(0);
    for (size_t id = 0; id < logits.size(); ++id) {
      const double off = std::abs(logits[id] - expected[i][id]);
      difference.largest = std::isnan(off) ? INFINITY : std::max(difference.largest, off / scale);
    }
    difference.other_first += first_of(logits) != first_of(expected[i]);
  }
  return difference;
}

void check(const TinyModel& tiny, const std::filesystem::path& path, bool bf16, int ranks) {
  for (const FamilyBackend& backend : kBackends) {
    CAPTURE(backend.name, bf16, ranks);
    const Difference difference = compare(tiny, path, bf16, backend, ranks);
    std::cout << "  " << backend.name << (bf16 ? " bf16" : " f32") << ", ranks " << ranks
              << ": largest difference " << difference.largest << "\n";
    CHECK(difference.largest <= (bf16 ? backend.bf16 : backend.f32));
    if (bf16) CHECK(difference.largest <= tiny.bf16_noise());
    CHECK(difference.other_first == 0);
  }
}

// What describe() says about a golden model's folder whose config.json has this changed.
std::string refusal(const std::string& name, const nlohmann::json& change) {
  const TinyModel tiny(TinyModel::list().at(name));
  test::ScratchFolder folder;
  tiny.save_folder(folder.path(), false);
  nlohmann::json config = tiny.json()["config"];
  config.merge_patch(change);
  test::save(folder.path() / "config.json", config.dump());
  try {
    models::describe(*modelfile::open_model(folder.path()));
  } catch (const modelfile::FileError& error) {
    return error.what();
  }
  return "nothing was refused";
}

}  // namespace

TEST_CASE("tiny models of every family have transformers' logits, whole and split in two") {
  REQUIRE(TinyModel::list().size() >= 19);
  for (const auto& [name, path] : TinyModel::list()) {
    CAPTURE(name);
    std::cout << name << "\n";
    const TinyModel tiny(path);
    for (const bool bf16 : {false, true}) {
      test::ScratchFolder folder;
      tiny.save_folder(folder.path(), bf16);
      for (const int ranks : {1, 2}) check(tiny, folder.path(), bf16, ranks);
    }
  }
}

#ifdef CHORUS_HAS_EMULATION
// Three bits of mantissa, everything else in f32 (queries and weights of attention in f16): logits
// are off by up to 5e-2 of the largest.
TEST_CASE("with keys and values of fp8 tiny models stay near transformers' logits") {
  const FamilyBackend backend{"emulated, fp8",
                              [](const auto& cpu, bool) {
                                return kernels::make_emulated_ops({.operand = kernels::DType::f32,
                                                                   .kv = kernels::DType::e4m3,
                                                                   .collective = cpu.collective});
                              },
                              7e-2, 7e-2};
  for (const char* name : {"llama2", "qwen3", "gemma2"}) {
    CAPTURE(name);
    const TinyModel tiny(TinyModel::list().at(name));
    test::ScratchFolder folder;
    tiny.save_folder(folder.path(), false);
    for (const int ranks : {1, 2}) {
      const Difference difference = compare(tiny, folder.path(), false, backend, ranks);
      std::cout << name << ", fp8, ranks " << ranks << ": largest difference " << difference.largest
                << ", another first " << difference.other_first << "\n";
      CHECK(difference.largest <= backend.f32);
      CHECK(difference.largest > 1e-2);  // it is fp8
      CHECK(difference.other_first == 0);
    }
  }
}
#endif

TEST_CASE("tiny models of every family that GGUF has give the same logits from GGUF") {
  for (const auto& [name, path] : TinyModel::list()) {
    const TinyModel tiny(path);
    if (!tiny.has_gguf()) continue;
    CAPTURE(name);
    std::cout << name << ", GGUF\n";
    test::ScratchFolder folder;
    tiny.save_gguf(folder.path() / "tiny.gguf");
    for (const int ranks : {1, 2}) check(tiny, folder.path() / "tiny.gguf", false, ranks);
  }
}

TEST_CASE("the text part of a multimodal folder is found under both of its prefixes") {
  const TinyModel::Rename renames[] = {
      [](const std::string& name) { return "language_model." + name; },
      [](const std::string& name) {
        return name.starts_with("model.") ? "model.language_model." + name.substr(6) : name;
      }};
  for (const char* name : {"llama4", "gemma3"}) {
    const TinyModel tiny(TinyModel::list().at(name));
    for (const auto& rename : renames) {
      test::ScratchFolder folder;
      tiny.save_folder(folder.path(), false, rename);
      nlohmann::json text = tiny.json()["config"];
      std::string architecture = text["architectures"][0];
      architecture.replace(architecture.find("ForCausalLM"), std::string::npos,
                           "ForConditionalGeneration");
      text.erase("architectures");
      const nlohmann::json config = {{"architectures", {architecture}}, {"text_config", text}};
      test::save(folder.path() / "config.json", config.dump());
      check(tiny, folder.path(), false, 1);
    }
  }
}

TEST_CASE("what a family has no use for is refused by name") {
  const auto refuses = [](const char* name, const nlohmann::json& change, const char* message) {
    CAPTURE(name, change.dump());
    CHECK_THAT(refusal(name, change), Catch::Contains(message));
  };
  for (const char* name : {"llama2", "mistral", "mixtral", "qwen3", "gemma2", "phi4", "llama4"}) {
    refuses(name, {{"attention_bias", true}}, "attention_bias = true is not built");
    refuses(name, {{"hidden_act", "relu"}, {"hidden_activation", "relu"}},
            "hidden_act \"relu\" is not built yet");
    refuses(name, {{"rope_scaling", {{"rope_type", "dynamic"}, {"type", "dynamic"}}}},
            "rope scaling of type \"dynamic\" is not built");
    refuses(name, {{"head_dim", 24}}, "head_dim 24 is no multiple of 16");
  }
  refuses("llama2", {{"mlp_bias", true}}, "mlp_bias = true is not built");
  refuses("llama2", {{"partial_rotary_factor", 0.5}}, "partial_rotary_factor is not 1");
  refuses("gemma3", {{"use_bidirectional_attention", true}}, "use_bidirectional_attention");
  refuses("gemma3", {{"layer_types", {"linear_attention"}}},
          "layer_types has \"linear_attention\"");
  refuses("gemma3", {{"layer_types", {"full_attention"}}}, "one entry per layer");
  refuses("phi3_long", {{"rope_scaling", {{"long_factor", {1, 2}}}}},
          "rope_scaling.long_factor has 2 numbers, expected 12");
  refuses("phi3_long", {{"partial_rotary_factor", 0.01}}, "0 of a head's 32 elements");
  refuses("mixtral", {{"num_experts_per_tok", 5}}, "num_experts_per_tok = 5 (1 to 4)");
  refuses("qwen3_moe_mixed", {{"mlp_only_layers", {4}}}, "mlp_only_layers names a layer");
  refuses("llama4", {{"no_rope_layers", {1}}}, "no_rope_layers does not have one entry per layer");
  refuses("llama2", {{"architectures", {"FooForCausalLM"}}},
          "there are: LlamaForCausalLM, Llama4ForCausalLM");
}
