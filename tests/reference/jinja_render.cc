// Renders templates for tests/reference/jinja_property.py: one JSON object {template, variables,
// now} per line of standard input, one {text} or {error, line} per line of standard output. Given
// an argument, renders each that many times and adds the best time: {micros}.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "router/text/chat_template.h"

using chorus::text::ChatTemplate;
using chorus::text::Json;

namespace {

Json failed(const chorus::text::TemplateError& error) {
  return {{"error", error.message}, {"line", error.line}, {"message", error.message_index}};
}

Json answer(const Json& request, int repetitions) {
  const auto parsed = ChatTemplate::parse(request.at("template").get<std::string>());
  if (!parsed) return failed(parsed.error());
  Json result;
  for (int i = 0; i < repetitions; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto prompt = parsed->render(request.at("variables"), request.value("now", int64_t{0}));
    const std::chrono::duration<double, std::micro> micros =
        std::chrono::steady_clock::now() - begin;
    if (!prompt) return failed(prompt.error());
    if (i == 0) result = {{"text", prompt->text}, {"micros", micros.count()}};
    result["micros"] = std::min(result["micros"].get<double>(), micros.count());
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const int repetitions = argc > 1 ? std::max(std::atoi(argv[1]), 1) : 1;
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << answer(Json::parse(line), repetitions).dump() << std::endl;
  }
}
