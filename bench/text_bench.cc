// How fast a model's tokenizer reads a text, on one thread.
//   text_bench MODEL TEXTFILE [ROUNDS]
// prints one line: MB/s of each round, and the time that making the tokenizer took.
// bench/text_compare.py runs it in turn with the reference tokenizer.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>

#include "router/text/tokenizer.h"

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(fmt::format("{} cannot be read", path));
  return {std::istreambuf_iterator<char>(file), {}};
}

void measure(const char* model, const char* text_path, int rounds) {
  auto start = std::chrono::steady_clock::now();
  auto tokenizer = chorus::text::load_tokenizer(model);
  double made = seconds_since(start);
  chorus::text::Prompt prompt{read_file(text_path), {}};
  size_t tokens = 0;
  fmt::print("MB/s");
  for (int round = 0; round < rounds; ++round) {
    start = std::chrono::steady_clock::now();
    tokens = tokenizer->encode(prompt, false).size();
    fmt::print(" {:.2f}", static_cast<double>(prompt.text.size()) / 1e6 / seconds_since(start));
  }
  fmt::print(" tokens {} made_ms {:.0f}\n", tokens, made * 1e3);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: text_bench MODEL TEXTFILE [ROUNDS]\n");
    return 2;
  }
  try {
    measure(argv[1], argv[2], argc > 3 ? std::atoi(argv[3]) : 5);
  } catch (const std::exception& error) {
    fmt::print(stderr, "text_bench: {}\n", error.what());
    return 66;
  }
}
