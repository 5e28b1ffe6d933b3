// A search starts with a small bound on backtracking, under which all sane patterns stay; one that
// passes it is repeated with a greater one, and what it may have spent is taken from the budget.
#include "router/text/pipeline/regex.h"

#include <fmt/format.h>
#include <oniguruma.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "modelfile/error.h"
#include "router/text/unicode/unicode.h"

namespace chorus::text {
namespace {

using modelfile::FileError;

constexpr size_t kPatternBytesMax = 1 << 16;
constexpr unsigned int kParseDepthMax = 100;
constexpr unsigned int kStackEntriesMax = 4'000'000;
constexpr unsigned long kFreeRetries = 300;

void initialise() {
  static std::once_flag once;
  std::call_once(once, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
    onig_set_parse_depth_limit(kParseDepthMax);
    onig_set_warn_func(onig_null_warn);
    onig_set_verb_warn_func(onig_null_warn);
  });
}

// A set of code points by a predicate, as the inside of a class: "\x{41}-\x{5A}...".
template <class Predicate>
std::string ranges_of(const Predicate& holds) {
  std::string ranges;
  constexpr char32_t kEnd = 0x110000;
  for (char32_t code = 0; code < kEnd; ++code) {
    if (!holds(code)) continue;
    char32_t first = code;
    while (code + 1 < kEnd && holds(code + 1)) ++code;
    ranges += fmt::format("\\x{{{:X}}}", static_cast<uint32_t>(first));
    if (code > first) ranges += fmt::format("-\\x{{{:X}}}", static_cast<uint32_t>(code));
  }
  return ranges;
}

bool is_surrogate(char32_t code) {
  return code >= 0xD800 && code < 0xE000;
}

// The inside of a class for a property's name; empty where our tables do not know it, which leaves
// it to Oniguruma.
std::string property_ranges(std::string_view name) {
  using unicode::Category;
  auto category = [](char32_t code) { return unicode::detail_of(code).category; };
  auto by_category = [&](uint32_t categories) {
    return ranges_of([&](char32_t code) {
      return (categories >> category(code) & 1) != 0 && !is_surrogate(code);
    });
  };
  auto by_trait = [](uint16_t trait) {
    return ranges_of([&](char32_t code) { return unicode::has_trait(code, trait); });
  };
  if (uint32_t categories = unicode::categories_named(name); categories != 0) {
    return by_category(categories);
  }
  if (int script = unicode::script_named(name); script >= 0) {
    return ranges_of([&](char32_t code) {
      return unicode::detail_of(code).script == script && !is_surrogate(code);
    });
  }
  std::string plain;
  for (char byte : name) {
    if (byte != '_' && byte != ' ' && byte != '-') {
      plain.push_back(byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : byte);
    }
  }
  if (plain == "alpha" || plain == "alphabetic") return by_trait(unicode::kAlphabetic);
  if (plain == "upper" || plain == "uppercase") return by_trait(unicode::kUppercase);
  if (plain == "lower" || plain == "lowercase") return by_trait(unicode::kLowercase);
  uint32_t digits = unicode::categories_named("nd");
  if (plain == "digit") return by_category(digits);
  if (plain == "word") return ranges_of(unicode::is_word);
  if (plain == "alnum") {
    return ranges_of([&](char32_t code) {
      return unicode::has_trait(code, unicode::kAlphabetic) || (digits >> category(code) & 1) != 0;
    });
  }
  bool print = plain == "print";
  if (print || plain == "graph") {
    uint32_t invisible = unicode::categories_named("cc") | unicode::categories_named("cn") |
                         unicode::categories_named("cs");
    return ranges_of([&](char32_t code) {
      bool space = (unicode::class_of(code) & unicode::kSpace) != 0;
      if (print && category(code) == static_cast<uint8_t>(Category::zs)) return true;
      return !space && (invisible >> category(code) & 1) == 0;
    });
  }
  return {};
}

// Walks a pattern and copies it, classes written out.
class Rewriter {
 public:
  explicit Rewriter(std::string_view pattern) : rest_(pattern) {}

  std::string rewritten() {
    while (!rest_.empty()) step();
    return std::move(out_);
  }

 private:
  void step() {
    if (rest_[0] == '\\' && rest_.size() > 1) return escape();
    if (depth_ > 0 && rest_.substr(0, 2) == "[:" && bracket()) return;
    if (rest_[0] == '[') {
      ++depth_;
      copy(1);
      if (!rest_.empty() && rest_[0] == '^') copy(1);
      if (!rest_.empty() && rest_[0] == ']') copy(1);  // the first one is a character
      return;
    }
    if (rest_[0] == ']' && depth_ > 0) --depth_;
    copy(1);
  }

  void copy(size_t bytes) {
    out_ += rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
  }

  // Puts a set in place of `bytes` of the pattern; false where it is not known.
  bool put(const std::string& ranges, bool negated, size_t bytes) {
    if (ranges.empty()) return false;
    out_ += negated ? "[^" : "[";
    out_ += ranges + "]";
    rest_.remove_prefix(bytes);
    // A '-' that follows a set inside a class stands for itself.
    if (depth_ > 0 && rest_.size() > 1 && rest_[0] == '-' && rest_[1] != ']') {
      out_ += "\\-";
      rest_.remove_prefix(1);
    }
    return true;
  }

  void escape() {
    char kind = rest_[1];
    if ((kind == 'p' || kind == 'P') && rest_.size() > 2 && rest_[2] == '{') {
      size_t end = rest_.find('}');
      if (end != std::string_view::npos) {
        std::string_view name = rest_.substr(3, end - 3);
        bool negated = kind == 'P';
        if (name.starts_with('^')) {
          negated = !negated;
          name.remove_prefix(1);
        }
        // \p{Punct} is punctuation alone, [[:punct:]] has symbols too.
        if (put(property_ranges(name), negated, end + 1)) return;
      }
    } else if (kind == 'd' || kind == 'D') {
      put(property_ranges("nd"), kind == 'D', 2);
      return;
    } else if (kind == 'w' || kind == 'W') {
      put(word(), kind == 'W', 2);
      return;
    } else if ((kind == 'b' || kind == 'B') && depth_ == 0) {
      return boundary(kind == 'B');
    }
    copy(2);
  }

  // Outside of classes, Oniguruma counts six number signs of Latin-1 to the word characters.
  std::string word() const {
    std::string ranges = ranges_of(unicode::is_word);
    return depth_ > 0 ? ranges : ranges + kLatinNumbers;
  }

  void boundary(bool negated) {
    std::string set = "[" + ranges_of(unicode::is_word) + kLatinNumbers + "]";
    const char* first = negated ? "=" : "!";
    const char* second = negated ? "!" : "=";
    out_ += "(?:(?<=" + set + ")(?" + first + set + ")|(?<!" + set + ")(?" + second + set + "))";
    rest_.remove_prefix(2);
  }

  // [:alpha:] and the like, inside a class.
  bool bracket() {
    size_t end = rest_.find(":]");
    if (end == std::string_view::npos || end > 20) return false;
    std::string_view name = rest_.substr(2, end - 2);
    bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    std::string ranges = property_ranges(name);
    if (name == "punct") ranges += property_ranges("s");
    return put(ranges, negated, end + 2);
  }

  static constexpr const char* kLatinNumbers = "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

  std::string_view rest_;
  std::string out_;
  int depth_ = 0;  // of classes
};

std::string message_of(int code, OnigErrorInfo* details) {
  OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
  int bytes = onig_error_code_to_str(text, code, details);
  return {reinterpret_cast<char*>(text), static_cast<size_t>(std::max(bytes, 0))};
}

}  // namespace

std::string with_ranges(std::string_view pattern) {
  return Rewriter(pattern).rewritten();
}

struct Regex::Compiled {
  Compiled(const std::string& pattern, const std::string& source) : name(pattern) {
    initialise();
    auto fail = [&](const std::string& why) {
      throw FileError(FileError::Kind::corrupt,
                      fmt::format("{}: the pattern \"{:.200}\" {}", source, pattern, why));
    };
    if (pattern.size() > kPatternBytesMax) fail("is too long");
    std::string ranges = with_ranges(pattern);
    const auto* begin = reinterpret_cast<const OnigUChar*>(ranges.data());
    OnigErrorInfo details;
    int code = onig_new(&regex, begin, begin + ranges.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                        ONIG_SYNTAX_RUBY, &details);
    if (code != ONIG_NORMAL) fail("is no regular expression: " + message_of(code, &details));
  }
  ~Compiled() {
    if (regex != nullptr) onig_free(regex);
  }
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;

  std::string name;
  regex_t* regex = nullptr;
};

Regex::Regex(const std::string& pattern, const std::string& source)
    : compiled_(std::make_unique<Compiled>(pattern, source)) {}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

namespace {

// What a search needs besides the pattern, kept by each thread.
struct Scratch {
  Scratch() : region(onig_region_new()), parameters(onig_new_match_param()) {}
  ~Scratch() {
    onig_region_free(region, 1);
    onig_free_match_param(parameters);
  }
  OnigRegion* region;
  OnigMatchParam* parameters;
};

}  // namespace

Regex::Match Regex::search(std::string_view text, size_t from, Budget& budget) const {
  thread_local Scratch scratch;
  const auto* begin = reinterpret_cast<const OnigUChar*>(text.data());
  const OnigUChar* end = begin + text.size();
  for (unsigned long retries = kFreeRetries;; retries *= 16) {
    if (retries > kFreeRetries) {
      if (budget.retries_left_ == 0) {
        throw RegexEffortError(fmt::format(
            "the model's pattern \"{:.200}\" takes too long on this text", compiled_->name));
      }
      retries = static_cast<unsigned long>(std::min<uint64_t>(retries, budget.retries_left_));
      budget.retries_left_ -= retries;
    }
    onig_initialize_match_param(scratch.parameters);
    onig_set_retry_limit_in_match_of_match_param(scratch.parameters, retries);
    onig_set_retry_limit_in_search_of_match_param(scratch.parameters, retries);
    onig_set_match_stack_limit_size_of_match_param(scratch.parameters, kStackEntriesMax);
    int at = onig_search_with_param(compiled_->regex, begin, end, begin + from, end, scratch.region,
                                    ONIG_OPTION_NONE, scratch.parameters);
    if (at >= 0) {
      return {static_cast<size_t>(scratch.region->beg[0]),
              static_cast<size_t>(scratch.region->end[0]), true};
    }
    if (at == ONIG_MISMATCH) return {text.size(), text.size(), false};
    if (at != ONIGERR_RETRY_LIMIT_IN_MATCH_OVER && at != ONIGERR_RETRY_LIMIT_IN_SEARCH_OVER) {
      throw RegexEffortError(fmt::format("the model's pattern \"{:.200}\" fails on this text: {}",
                                         compiled_->name, message_of(at, nullptr)));
    }
  }
}

}  // namespace chorus::text
