#include "router/text/pipeline/aligned_text.h"

namespace chorus::text {

AlignedText align(std::string_view part, size_t begin, bool tracked) {
  AlignedText aligned{std::string(part), {}};
  if (!tracked) return aligned;
  aligned.origin.reserve(part.size());
  for (size_t at = 0; at < part.size();) {
    int bytes = unicode::decode(part.substr(at)).bytes;
    auto first = static_cast<uint32_t>(begin + at);
    aligned.origin.insert(aligned.origin.end(), static_cast<size_t>(bytes),
                          {first, first + static_cast<uint32_t>(bytes)});
    at += static_cast<size_t>(bytes);
  }
  return aligned;
}

void Rewrite::put(char32_t code, int32_t change) {
  size_t before = made_.text.size();
  unicode::append_utf8(made_.text, code);
  if (source_.tracked()) {
    // What was added shares the origin of what stands before it in the source.
    Origin origin = source_.origin.front();
    if (change > 0 && at_ == 0) origin.end = origin.begin;
    size_t from = change > 0 ? at_ - 1 : at_;
    if (from < source_.origin.size()) origin = source_.origin[from];
    made_.origin.insert(made_.origin.end(), made_.text.size() - before, origin);
  }
  for (int32_t replaced = 1 - change; replaced > 0 && change <= 0; --replaced) {
    if (at_ >= source_.text.size()) break;
    at_ += static_cast<size_t>(unicode::decode(std::string_view(source_.text).substr(at_)).bytes);
  }
}

void Rewrite::keep(size_t bytes) {
  made_.text.append(source_.text, at_, bytes);
  if (source_.tracked()) {
    auto from = source_.origin.begin() + static_cast<std::ptrdiff_t>(at_);
    made_.origin.insert(made_.origin.end(), from, from + static_cast<std::ptrdiff_t>(bytes));
  }
  at_ += bytes;
}

void rewrite(AlignedText& text, const std::vector<unicode::Changed>& codes, size_t skipped) {
  if (!text.tracked()) {
    text.text.clear();
    for (const unicode::Changed& entry : codes) unicode::append_utf8(text.text, entry.code);
    return;
  }
  Rewrite writer(text);
  writer.skip(skipped);
  for (const unicode::Changed& entry : codes) writer.put(entry.code, entry.change);
  writer.finish();
}

}  // namespace chorus::text
