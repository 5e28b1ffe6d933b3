// Tokens → tree, by Jinja's grammar. include, import, extends, block and autoescape are refused:
// chat templates are single files that make plain text.
#pragma once

#include <string_view>

#include "router/text/jinja/ast.h"

namespace chorus::text::jinja {

// Throws SyntaxError.
Program parse(std::string_view source);

}  // namespace chorus::text::jinja
