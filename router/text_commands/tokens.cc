// tokenize, detokenize and stop.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "process/exit_codes.h"
#include "router/text/detokenizer.h"
#include "router/text/tokenizer.h"
#include "router/text_commands/command.h"

namespace chorus::text_commands {
namespace {

std::shared_ptr<const text::Tokenizer> tokenizer_of(const Flags& flags) {
  if (flags.model_id.empty()) {
    throw process::StartError(process::ExitCode::usage, "--model-id is missing");
  }
  return text::load_tokenizer(flags.model_id);
}

Json tokenize(const text::Tokenizer& tokenizer, const Json& request) {
  auto given = text_field(request, "text");
  if (!given) return failed(given.error());
  const auto add_special = flag_field(request, "add_special_tokens", true);
  if (!add_special) return failed(add_special.error());
  const text::Prompt prompt{.text = std::move(*given), .from_outside = {}};
  return {{"ids", tokenizer.encode(prompt, *add_special)}};
}

// Pieces as they would be sent, one a step; the end sends what was held. A match of a stop string
// ends the text: the steps that follow send nothing.
class Streamed {
 public:
  void add(text::StopStrings::Result result) {
    text_ += result.text;
    pieces_.push_back(std::move(result.text));
    matched_ = result.matched;
  }
  Json answer(const std::string& rest, bool ended) {
    const bool stopped = matched_ || ended;
    return {{"pieces", std::move(pieces_)},
            {"text", text_ + rest},
            {"finish", stopped ? "stop" : "length"}};
  }

 private:
  std::vector<std::string> pieces_;
  std::string text_;
  bool matched_ = false;
};

Field<std::vector<std::string>> stops_of(const Json& request) {
  auto stops = texts_field(request, "stop");
  if (stops && std::find(stops->begin(), stops->end(), "") != stops->end()) {
    return tl::unexpected<std::string>("\"stop\" must not hold an empty text");
  }
  return stops;
}

Json detokenize(const text::Tokenizer& tokenizer, const Json& request) {
  const auto ids = ids_field(request, "ids");
  if (!ids) return failed(ids.error());
  const auto skip_special = flag_field(request, "skip_special_tokens", true);
  if (!skip_special) return failed(skip_special.error());
  auto stops = stops_of(request);
  if (!stops) return failed(stops.error());
  text::Detokenizer detokenizer(tokenizer,
                                {.stops = std::move(*stops), .skip_special_tokens = *skip_special});
  Streamed streamed;
  for (const int32_t id : *ids) streamed.add(detokenizer.push(id));
  const auto& ends = tokenizer.end_ids();
  const bool ended = !ids->empty() && std::binary_search(ends.begin(), ends.end(), ids->back());
  return streamed.answer(detokenizer.finish(), ended);
}

Json stop(const Json& request) {
  const auto chunks = texts_field(request, "chunks");
  if (!chunks) return failed(chunks.error());
  auto stops = stops_of(request);
  if (!stops) return failed(stops.error());
  const auto include_stop = flag_field(request, "include_stop", false);
  if (!include_stop) return failed(include_stop.error());
  text::StopStrings watched(*stops, *include_stop);
  Streamed streamed;
  for (const std::string& chunk : *chunks) streamed.add(watched.push(chunk));
  return streamed.answer(watched.finish(), false);
}

}  // namespace

Answer make_tokenize(const Flags& flags) {
  return [tokenizer = tokenizer_of(flags)](const Json& request) {
    return tokenize(*tokenizer, request);
  };
}

Answer make_detokenize(const Flags& flags) {
  return [tokenizer = tokenizer_of(flags)](const Json& request) {
    return detokenize(*tokenizer, request);
  };
}

Answer make_stop(const Flags&) {
  return stop;
}

}  // namespace chorus::text_commands
