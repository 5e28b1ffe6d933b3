// Operations on marked text that filters and methods share.
#pragma once

#include <vector>

#include "router/text/jinja/value.h"

namespace chorus::text::jinja {

enum class Sides { both, left, right };

// Steps to charge for a search from the right, which may compare all of `wanted` at each place.
int64_t backward_work(size_t text_bytes, std::string_view wanted);

// str.strip(chars); null `characters` means whitespace.
MarkedText strip(const MarkedText& text, const std::string* characters, Sides sides);

// str.replace(old, new, count), `count` < 0 for all. What is put in keeps its own origin.
MarkedText replace(Engine& engine, const MarkedText& text, const std::string& old,
                   const MarkedText& fresh, int64_t count);

// str.split() and rsplit(); null `separator` means runs of whitespace, `limit` < 0 none.
std::vector<MarkedText> split(Engine& engine, const MarkedText& text, const std::string* separator,
                              int64_t limit, bool from_right);

// str.splitlines(keepends)
std::vector<MarkedText> split_lines(Engine& engine, const MarkedText& text, bool keep_ends);

// str.center(), ljust() and rjust().
MarkedText padded(Engine& engine, const MarkedText& text, int64_t width, const MarkedText& fill,
                  Sides text_side);

}  // namespace chorus::text::jinja
