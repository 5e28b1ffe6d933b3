// How long a model's chat template takes to render a conversation, on one thread.
//   chat_bench CONVERSATION.json TEMPLATE... [--rounds N]
// CONVERSATION is an object with messages (and tools); for each template one line: the median, the
// fastest and the slowest tenth in microseconds, and the bytes of the text. Everything that a
// request pays is in it: adapting the messages, making values, rendering, marking.
// bench/chat_compare.py makes the conversation and runs Python's Jinja beside it.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "router/text/chat_format.h"

namespace {

using chorus::text::ChatFormat;
using chorus::text::ChatInput;
using chorus::text::Json;

ChatFormat read_format(const char* path) {
  chorus::modelfile::ChatTemplates templates;
  templates.sources = chorus::modelfile::read_chat_template_file(path);
  auto format = ChatFormat::make(templates, "<s>", "</s>");
  if (!format) throw std::runtime_error(format.error().message);
  return std::move(*format);
}

void measure(const char* path, const ChatInput& input, int rounds) {
  const ChatFormat format = read_format(path);
  std::vector<double> micros;
  size_t bytes = 0;
  for (int round = 0; round < rounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    const auto chat = format.render(input);
    const std::chrono::duration<double, std::micro> taken =
        std::chrono::steady_clock::now() - begin;
    if (!chat) throw std::runtime_error(fmt::format("{}: {}", path, chat.error().message));
    micros.push_back(taken.count());
    bytes = chat->prompt.text.size();
  }
  std::sort(micros.begin(), micros.end());
  const auto at = [&](double share) {
    return micros[static_cast<size_t>(share * static_cast<double>(micros.size() - 1))];
  };
  fmt::print("{} median_us {:.1f} fast_us {:.1f} slow_us {:.1f} bytes {}\n", path, at(0.5), at(0.1),
             at(0.9), bytes);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: chat_bench CONVERSATION.json TEMPLATE... [--rounds N]\n");
    return 2;
  }
  try {
    std::ifstream file(argv[1]);
    if (!file) throw std::runtime_error(fmt::format("{} cannot be read", argv[1]));
    const Json conversation = Json::parse(file);
    ChatInput input;
    input.messages = conversation.at("messages");
    input.tools = conversation.value("tools", Json());
    int rounds = 2000;
    for (int i = 2; i + 1 < argc; ++i) {
      if (std::string_view(argv[i]) != "--rounds") continue;
      rounds = std::max(std::atoi(argv[i + 1]), 1);
      argc = i;
    }
    for (int i = 2; i < argc; ++i) measure(argv[i], input, rounds);
  } catch (const std::exception& error) {
    fmt::print(stderr, "chat_bench: {}\n", error.what());
    return 66;
  }
}
