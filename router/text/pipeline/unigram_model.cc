#include "router/text/pipeline/unigram_model.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "modelfile/error.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

constexpr double kUnknownPenalty = 10;

std::vector<std::pair<std::string_view, int32_t>> numbered(const std::vector<std::string>& tokens,
                                                           size_t count) {
  std::vector<std::pair<std::string_view, int32_t>> pairs;
  for (size_t id = 0; id < count; ++id) {
    if (!tokens[id].empty()) pairs.emplace_back(tokens[id], static_cast<int32_t>(id));
  }
  return pairs;
}

}  // namespace

UnigramModel::UnigramModel(const modelfile::TokenizerSpec& spec,
                           const modelfile::UnigramModel& unigram)
    : spec_(unigram), byte_tokens_(spec.tokens) {
  size_t count = unigram.scores.size();
  if (count > spec.tokens.size()) {
    throw modelfile::FileError(modelfile::FileError::Kind::corrupt,
                               "there are more scores than tokens");
  }
  auto pairs = numbered(spec.tokens, count);
  index_ = TokenIndex(pairs.size());
  // The index keeps the first one of equal texts, the reference the last one.
  for (auto pair = pairs.rbegin(); pair != pairs.rend(); ++pair) {
    index_.add(pair->first, pair->second);
  }
  trie_ = TokenTrie(std::move(pairs));
  double lowest = std::numeric_limits<double>::infinity();
  for (double score : unigram.scores) lowest = std::min(lowest, score);
  unknown_score_ = lowest - kUnknownPenalty;
}

void UnigramModel::walk(std::string_view piece, std::vector<Step>& steps) const {
  steps.assign(piece.size() + 1, Step{});
  auto offer = [&](size_t from, size_t to, double score, int32_t id) {
    Step& step = steps[to];
    double total = steps[from].score + score;
    if (step.from != kUnreached && total <= step.score) return;
    step = {total, id, static_cast<uint32_t>(from)};
  };
  for (size_t at = 0; at < piece.size();) {
    auto character = static_cast<size_t>(unicode::decode(piece.substr(at)).bytes);
    bool has_character = false;
    trie_.prefixes(piece.substr(at), [&](size_t bytes, int32_t id) {
      offer(at, at + bytes, spec_.scores[static_cast<size_t>(id)], id);
      has_character = has_character || bytes == character;
    });
    if (!has_character) offer(at, at + character, unknown_score_, kUnknown);
    at += character;
  }
}

// Neighbouring unknown characters are one. The unknown token's own text counts as unknown too.
void UnigramModel::find_path(std::string_view piece, std::vector<TokenSpan>& path) const {
  thread_local std::vector<Step> steps;
  walk(piece, steps);
  path.clear();
  for (auto end = static_cast<uint32_t>(piece.size()); end > 0;) {
    const Step& step = steps[end];
    int32_t id = spec_.unknown && step.id == *spec_.unknown ? kUnknown : step.id;
    if (id == kUnknown && !path.empty() && path.back().id == kUnknown) {
      path.back().begin = step.from;
    } else {
      path.push_back({id, step.from, end});
    }
    end = step.from;
  }
  std::reverse(path.begin(), path.end());
}

void UnigramModel::encode_spans(std::string_view piece, std::vector<TokenSpan>& spans) const {
  thread_local std::vector<TokenSpan> path;
  find_path(piece, path);
  for (const TokenSpan& span : path) {
    if (span.id != kUnknown) {
      spans.push_back(span);
      continue;
    }
    std::string_view text = piece.substr(span.begin, span.end - span.begin);
    if (int32_t id = index_.find(text); id >= 0) {
      spans.push_back({id, span.begin, span.end});
    } else if (spec_.byte_fallback && byte_tokens_.spell(text)) {
      for (char byte : text) spans.push_back({byte_tokens_.of(byte), span.begin, span.end});
    } else if (spec_.unknown) {
      spans.push_back({*spec_.unknown, span.begin, span.end});
    }
  }
}

void UnigramModel::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  thread_local std::vector<TokenSpan> spans;
  spans.clear();
  encode_spans(piece, spans);
  for (const TokenSpan& span : spans) ids.push_back(span.id);
}

}  // namespace chorus::text
