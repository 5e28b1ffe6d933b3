// Runs tokenizers for tests/reference/pipeline_compare.py. One JSON object {tokenizer, texts} per
// line of standard input, the former the text of a tokenizer.json; one list of {ids, offsets,
// special_ids, decoded, plain} or {error} per line of standard output.
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "modelfile/tokenizer_json.h"
#include "router/text/detokenizer.h"
#include "router/text/tokenizer.h"

using nlohmann::json;
using namespace chorus;

namespace {

std::string decoded(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  text::DetokenizerOptions options;
  options.skip_special_tokens = skip;
  text::Detokenizer detokenizer(tokenizer, options);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.push(id).text;
  return text + detokenizer.finish();
}

json answer(const text::Tokenizer& tokenizer, const std::string& given) {
  const text::Encoding encoding = tokenizer.encode_with_offsets({given, {}}, false);
  json offsets = json::array();
  for (const text::ByteRange& range : encoding.offsets) {
    offsets.push_back(range.begin);
    offsets.push_back(range.end);
  }
  const auto special = tokenizer.encode({given, {}}, true);
  return {{"ids", tokenizer.encode({given, {}}, false)},
          {"same", tokenizer.encode({given, {}}, false) == encoding.ids},
          {"offsets", offsets},
          {"special_ids", special},
          {"decoded", decoded(tokenizer, special, true)},
          {"plain", decoded(tokenizer, special, false)}};
}

json answers(const json& request) {
  json all = json::array();
  try {
    const auto tokenizer = text::make_tokenizer(modelfile::read_tokenizer(
        {.tokenizer = modelfile::JsonFile(request.at("tokenizer").get<std::string>(), "given"),
         .settings = std::nullopt}));
    for (const json& given : request.at("texts")) {
      all.push_back(answer(*tokenizer, given.get<std::string>()));
    }
  } catch (const std::exception& error) {
    all.push_back({{"error", error.what()}});
  }
  return all;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << answers(json::parse(line)).dump() << std::endl;
  }
}
