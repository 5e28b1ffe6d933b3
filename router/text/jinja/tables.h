// The tables that find_filter and find_method search, one per file of builtins.
#pragma once

#include <algorithm>
#include <span>

#include "router/text/jinja/builtins.h"

namespace chorus::text::jinja {

std::span<const BuiltinRow> text_filters();
std::span<const BuiltinRow> value_filters();
std::span<const BuiltinRow> sequence_filters();
std::span<const BuiltinRow> selection_filters();
std::span<const BuiltinRow> text_methods();
std::span<const BuiltinRow> text_class_methods();

inline Builtin find_row(std::span<const BuiltinRow> rows, std::string_view name) {
  const auto found = std::find_if(rows.begin(), rows.end(),
                                  [&](const BuiltinRow& row) { return row.first == name; });
  return found == rows.end() ? nullptr : found->second;
}

}  // namespace chorus::text::jinja
