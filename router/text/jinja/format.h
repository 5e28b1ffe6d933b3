// Python's two ways of filling text: `text % values` and `text.format(...)`.
#pragma once

#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

// `values`: a tuple, a dict for %(name)s, or one value.
Value format_percent(Engine& engine, const Value& text, const Value& values);
Value format_braces(Engine& engine, const Value& text, const Arguments& arguments);

}  // namespace chorus::text::jinja
