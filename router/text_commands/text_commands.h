// chorus-router text COMMAND: tokenizer, templates and stop strings of a model, without a server
// and without its weights. Reads one JSON object per line of standard input and answers each with
// one on standard output at once, so that it can be talked to through a pipe.
#pragma once

#include <string_view>

namespace chorus::text_commands {

// `argv` begins with the program's name, "text" and the command. Returns the exit code; throws
// process::StartError and modelfile::FileError where it cannot begin.
int run(int argc, const char* const* argv, std::string_view version);

}  // namespace chorus::text_commands
