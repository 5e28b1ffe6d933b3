// Any bytes as a tokenizer.json, and what is read used on texts. Checked: it is refused with a
// FileError or it works: ids exist, with and without offsets they are the same, offsets lie in the
// text, and decoding ends.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "modelfile/error.h"
#include "modelfile/tokenizer_json.h"
#include "router/text/detokenizer.h"
#include "router/text/pipeline/regex.h"
#include "router/text/tokenizer.h"

namespace chorus::text {
namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check_text(const Tokenizer& tokenizer, const std::string& text) {
  const Prompt prompt{text, {{2, static_cast<int64_t>(text.size() / 2 + 2)}}};
  const Encoding encoding = tokenizer.encode_with_offsets(prompt, true);
  require(encoding.ids == tokenizer.encode(prompt, true));
  require(encoding.ids.size() == encoding.offsets.size());
  for (const ByteRange& range : encoding.offsets) {
    require(range.begin >= 0 && range.begin <= range.end);
    require(range.end <= static_cast<int64_t>(text.size()));
  }
  for (const bool skip : {false, true}) {
    Detokenizer detokenizer(tokenizer, {.skip_special_tokens = skip});
    for (const int32_t id : encoding.ids) {
      require(id >= 0 && id < tokenizer.size());
      detokenizer.push(id);
    }
    detokenizer.finish();
  }
}

void check(std::string_view input) {
  try {
    const auto tokenizer = make_tokenizer(modelfile::read_tokenizer(
        {.tokenizer = modelfile::JsonFile(input, "tokenizer.json"), .settings = std::nullopt}));
    for (const char* text : {"", "Hello  wor\tld, it's 2024!\r\n",
                             "e\u0301\ufb01\u4e16\u754c \u0661\u2581a<|end|><br>  x",
                             "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
      check_text(*tokenizer, text);
    }
  } catch (const modelfile::FileError&) {
  } catch (const RegexEffortError&) {
  }
}

}  // namespace
}  // namespace chorus::text

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::text::check({reinterpret_cast<const char*>(data), size});
  return 0;
}
