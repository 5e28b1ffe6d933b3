#include "router/text/tokenizer.h"

#include <utility>

#include "modelfile/model.h"
#include "modelfile/tokenizer_file.h"
#include "router/text/pipeline_tokenizer.h"

namespace chorus::text {
namespace fs = std::filesystem;
namespace {

class ByTokenDecoder final : public TokenDecoder {
 public:
  ByTokenDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer),
        skip_special_tokens_(skip_special_tokens),
        strip_next_space_(tokenizer.strips_first_space()) {}

  std::string push(int32_t id) override {
    if (id < 0 || id >= tokenizer_.size()) return {};
    std::string_view bytes = tokenizer_.bytes(id);
    if (tokenizer_.is_control(id)) {
      bytes = skip_special_tokens_ ? std::string_view() : tokenizer_.control_bytes(id);
    }
    if (strip_next_space_ && !bytes.empty()) {
      strip_next_space_ = false;
      if (bytes[0] == ' ') bytes.remove_prefix(1);
    }
    return std::string(bytes);
  }
  std::string finish() override { return {}; }

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  bool strip_next_space_;
};

// A folder may hold a tokenizer alone.
bool holds_no_model(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error) || fs::exists(folder / "config.json", error)) return false;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".gguf") return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<TokenDecoder> Tokenizer::make_decoder(bool skip_special_tokens) const {
  return std::make_unique<ByTokenDecoder>(*this, skip_special_tokens);
}

std::unique_ptr<Tokenizer> make_tokenizer(modelfile::TokenizerSpec spec) {
  return std::make_unique<PipelineTokenizer>(std::move(spec));
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error) && path.extension() != ".gguf") {
    return make_tokenizer(modelfile::read_tokenizer_file(path));
  }
  if (holds_no_model(path)) return make_tokenizer(modelfile::read_folder_tokenizer(path));
  return make_tokenizer(modelfile::open_model(path, false)->tokenizer());
}

}  // namespace chorus::text
