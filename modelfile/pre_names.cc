// The patterns are Oniguruma's Ruby syntax. Three families group digits by threes from the right
// with a look-ahead to the end of the digits at every group, which is quadratic on a long number;
// here only the first group looks ahead, with the same result.
#include "modelfile/pre_names.h"

#include <algorithm>
#include <initializer_list>

namespace chorus::modelfile {
namespace {

using Steps = std::vector<pre_tokenizer::Step>;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kYoutu =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kYoutuScripts =
    R"([가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kKimi =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kUpToThreeDigits = R"(\p{N}{1,3})";
constexpr const char* kDeepseekIdeographs = R"([一-龥぀-ゟ゠-ヿ]+)";
constexpr const char* kDeepseekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kSpark =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)";
constexpr const char* kDeepseekLetters =
    R"(\s?[)"
    R"(A-Za-z\x{00B5}\x{00C0}-\x{00D6}\x{00D8}-\x{00F6}\x{00F8}-\x{01BA}\x{01BC}-\x{01BF})"
    R"(\x{01C4}-\x{0293}\x{0295}-\x{02AF}\x{0370}-\x{0373}\x{0376}\x{0377}\x{037B}-\x{037D})"
    R"(\x{037F}\x{0386}\x{0388}-\x{038A}\x{038C}\x{038E}-\x{03A1}\x{03A3}-\x{03F5})"
    R"(\x{03F7}-\x{0481}\x{048A}-\x{052F}\x{0531}-\x{0556}\x{10A0}-\x{10C5})"
    R"(\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF})"
    R"(\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15})"
    R"(\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B})"
    R"(\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4})"
    R"(\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC})"
    R"(\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115})"
    R"(\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139})"
    R"(\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B})"
    R"(\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B})"
    R"(\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF})"
    R"(\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A})"
    R"(\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2})"
    R"(\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943})"
    R"(]+)";
constexpr const char* kDeepseekPunctuation = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr const char* kDeepseekOldIdeographs = R"([一-龥ࠀ-一가-퟿]+)";
constexpr const char* kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
constexpr const char* kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr const char* kSeed =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kUfakzeka =
    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kExaoneMoe =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr const char* kMinicpm5 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kJais2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})";
constexpr const char* kAsianScripts =
    R"([)"
    R"(\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{309F})"
    R"(\x{30A0}-\x{30FF}\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF}\x{0E40}-\x{0E7F})"
    R"(\x{0E80}-\x{0EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F})"
    R"(\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF})"
    R"(]+)";
// Of a run of numbers, the one or two at its start that do not make up a group of three.
constexpr const char* kOddDigits = R"((?<!\p{N})\p{N}{1,2}(?=(?:\p{N}{3})*(?!\p{N})))";
constexpr const char* kThreeDigits = R"(\p{N}{3})";
// SuperBPE's (?=(\d{3})+(?!\d)), a place: the first of a number, then the others.
constexpr const char* kBeforeThrees = R"((?<!\d\d\d)(?=(?:\d{3})+(?!\d)))";
constexpr const char* kThreesBeforeThree = R"(\d{3}(?=\d{3}))";
// Tiny Aya's \d{1,3}(?=(?:\d{3})*\b): only digits that end where a word ends are grouped so.
constexpr const char* kDigitsAtWordEnd = R"((?<!\d)\d++\b)";
constexpr const char* kOddDigitsOfPiece = R"(\A\d{1,2}(?=(?:\d{3})*\z))";

pre_tokenizer::Split split(const char* pattern) {
  return {.pattern = {.is_regex = true, .text = pattern}};
}

pre_tokenizer::ByteLevel bytes(bool gpt2_pattern) {
  return {.add_prefix_space = false, .use_regex = gpt2_pattern};
}

Steps split_by(std::initializer_list<const char*> patterns) {
  Steps steps;
  for (const char* pattern : patterns) steps.emplace_back(split(pattern));
  steps.emplace_back(bytes(false));
  return steps;
}

Steps gpt2() {
  return {bytes(true)};
}

Steps digits_gpt2() {
  return {pre_tokenizer::Digits{.individual = true}, bytes(true)};
}

Steps falcon() {
  return {pre_tokenizer::Punctuation{.behavior = SplitBehavior::contiguous}, bytes(true),
          pre_tokenizer::Digits{.individual = false}, split("[0-9][0-9][0-9]")};
}

Steps viking() {
  return {split(kBloom), pre_tokenizer::Digits{.individual = true}, bytes(false)};
}

Steps deepseek_llm() {
  return {
      split("[\r\n]"),  split(kDeepseekLetters),       split(kDeepseekPunctuation),
      split(R"(\s+$)"), split(kDeepseekOldIdeographs), pre_tokenizer::Digits{.individual = true},
      bytes(false)};
}

Steps deepseek_coder() {
  return {split("[\r\n]"),
          split(R"(\s?\p{L}+)"),
          split(R"(\s?\p{P}+)"),
          split(kDeepseekOldIdeographs),
          pre_tokenizer::Digits{.individual = true},
          bytes(false)};
}

Steps chameleon() {
  return {split("<sentinel:[0-9]+>"),   split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
          split("([\\t\\n]|    |  )"),  pre_tokenizer::Digits{.individual = true},
          pre_tokenizer::Punctuation{}, bytes(true)};
}

Steps llama3() {
  return split_by({kLlama3});
}
Steps qwen2() {
  return split_by({kQwen2});
}
Steps o200k() {
  return split_by({kO200k});
}
Steps deepseek_v3() {
  return split_by({kUpToThreeDigits, kDeepseekIdeographs, kDeepseekV3});
}

const std::vector<NamedPipeline>& pipelines() {
  static const std::vector<NamedPipeline> all = {
      {.names = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
                 "lfm2", "jina-v5-nano"},
       .pre_tokenizer = llama3,
       .ignore_merges = true,
       .starts_with_bos = true},
      {.names = {"dbrx", "smaug-bpe", "chatglm-bpe"}, .pre_tokenizer = llama3},
      {.names = {"glm4", "glm5"}, .pre_tokenizer = llama3, .ignore_merges = true},
      {.names = {"jais-2"}, .pre_tokenizer = [] { return split_by({kJais2}); }},
      {.names = {"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2"},
       .pre_tokenizer = qwen2,
       .nfc = true},
      {.names = {"megrez", "hunyuan", "solar-open", "grok-2"}, .pre_tokenizer = qwen2},
      {.names = {"qwen35"}, .pre_tokenizer = [] { return split_by({kQwen35}); }, .nfc = true},
      {.names = {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}, .pre_tokenizer = o200k},
      {.names = {"granite-embed-multi-97m"}, .pre_tokenizer = o200k, .ignore_merges = true},
      {.names = {"tiny_aya", "cohere2moe"},
       .pre_tokenizer =
           [] {
             return split_by({kDigitsAtWordEnd, kOddDigitsOfPiece, kO200k});
           },
       .nfc = true},
      {.names = {"tekken"},
       .pre_tokenizer = [] { return split_by({kTekken}); },
       .ignore_merges = true,
       .starts_with_bos = true},
      {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
       .pre_tokenizer = deepseek_v3},
      {.names = {"deepseek-llm"}, .pre_tokenizer = deepseek_llm},
      {.names = {"deepseek-coder"}, .pre_tokenizer = deepseek_coder},
      {.names = {"spark2_5"},
       .pre_tokenizer =
           [] {
             return split_by({kUpToThreeDigits, kDeepseekIdeographs, kSpark, R"(\p{N})"});
           }},
      {.names = {"youtu"},
       .pre_tokenizer =
           [] {
             return split_by({kYoutuScripts, kYoutu});
           },
       .ignore_merges = true},
      {.names = {"falcon"}, .pre_tokenizer = falcon},
      {.names = {"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de",
                 "a.x-4.0", "mellum", "exaone4", "jina-v1-en", "jina-v2-code", "roberta-bpe",
                 "jais", "trillion", "granite-docling"},
       .pre_tokenizer = gpt2},
      {.names = {"mpt", "olmo", "modern-bert"}, .pre_tokenizer = gpt2, .nfc = true},
      {.names = {"starcoder", "refact", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"},
       .pre_tokenizer = digits_gpt2},
      {.names = {"command-r"}, .pre_tokenizer = digits_gpt2, .nfc = true},
      {.names = {"bloom", "poro-chat", "gpt3-finnish"},
       .pre_tokenizer = [] { return split_by({kBloom}); }},
      {.names = {"viking"}, .pre_tokenizer = viking},
      {.names = {"chameleon"}, .pre_tokenizer = chameleon, .starts_with_bos = true},
      {.names = {"kimi-k2"},
       .pre_tokenizer = [] { return split_by({kKimi}); },
       .ignore_merges = true},
      {.names = {"superbpe"},
       .pre_tokenizer =
           [] {
             return split_by({R"(\p{N}+)", kBeforeThrees, kThreesBeforeThree});
           }},
      {.names = {"bailingmoe", "bailingmoe2", "llada-moe"},
       .pre_tokenizer = [] { return split_by({kBailing}); }},
      {.names = {"seed-coder"}, .pre_tokenizer = [] { return split_by({kSeed}); }},
      {.names = {"ufakzeka"}, .pre_tokenizer = [] { return split_by({kUfakzeka}); }},
      {.names = {"afmoe"},
       .pre_tokenizer =
           [] {
             return split_by({kOddDigits, kThreeDigits, kAsianScripts, kDeepseekV3});
           }},
      {.names = {"laguna"},
       .pre_tokenizer =
           [] {
             return split_by({R"([^\n]+|[\n]+)", kQwen2});
           }},
      {.names = {"exaone-moe"}, .pre_tokenizer = [] { return split_by({kExaoneMoe}); }},
      {.names = {"minicpm5"},
       .pre_tokenizer =
           [] {
             return split_by({kUpToThreeDigits, kMinicpm5});
           },
       .ignore_merges = true},
  };
  return all;
}

}  // namespace

const NamedPipeline* find_pipeline(std::string_view pre) {
  for (const NamedPipeline& pipeline : pipelines()) {
    const auto& names = pipeline.names;
    if (std::find(names.begin(), names.end(), pre) != names.end()) return &pipeline;
  }
  return nullptr;
}

std::string known_pipelines() {
  std::vector<std::string_view> names;
  for (const NamedPipeline& pipeline : pipelines()) {
    names.insert(names.end(), pipeline.names.begin(), pipeline.names.end());
  }
  std::sort(names.begin(), names.end());
  std::string list;
  for (const std::string_view name : names) {
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  return list;
}

}  // namespace chorus::modelfile
