// One description of how a model turns text into token ids and back: what a tokenizer.json says,
// and what GGUF vocabularies and SentencePiece files are converted into. Plain values, named after
// the components of Hugging Face's tokenizers, whose semantics they have (their defaults too).
// router/text executes it; nothing here executes anything.
//
// The order of the work on a text: added tokens that match raw text are found; what lies between
// them runs through `normalizer`; added tokens that match normalised text are found; what lies
// between those is cut by `pre_tokenizer` into pieces; `model` makes ids of each piece; the ids of
// `before` and `after` go around the whole where special tokens are asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace chorus::modelfile {

// Text to look for: a regular expression in Oniguruma's Ruby syntax, or plain text.
struct TextPattern {
  bool is_regex = false;
  std::string text;
};

enum class SplitBehavior : uint8_t {
  removed,
  isolated,
  merged_with_previous,
  merged_with_next,
  contiguous
};

// Normalizers. A Sequence is its members, one after another.
namespace normalizer {
enum class Form : uint8_t { nfc, nfd, nfkc, nfkd };
struct Unicode {
  Form form = Form::nfc;
};
struct Lowercase {};
struct Strip {
  bool left = true, right = true;
};
struct StripAccents {};
struct Replace {
  TextPattern pattern;
  std::string content;
};
struct Prepend {  // nothing on an empty text
  std::string text;
};
struct Precompiled {  // SentencePiece's charsmap as it stands in the file, base64 undone
  std::string charsmap;
};
struct Bert {
  bool clean_text = true, handle_chinese_chars = true;
  std::optional<bool> strip_accents;  // absent: as `lowercase`
  bool lowercase = true;
};
struct Nmt {};
struct ByteLevel {};
using Step = std::variant<Unicode, Lowercase, Strip, StripAccents, Replace, Prepend, Precompiled,
                          Bert, Nmt, ByteLevel>;
}  // namespace normalizer

// Pre-tokenizers. A Sequence is its members; each cuts the pieces of the one before.
namespace pre_tokenizer {
struct ByteLevel {
  bool add_prefix_space = true;
  bool use_regex = true;  // GPT-2's pattern
};
struct Split {
  TextPattern pattern;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;
};
enum class PrependScheme : uint8_t { always, first, never };
struct Metaspace {
  std::string replacement = "\u2581";  // one character
  PrependScheme prepend = PrependScheme::always;
  bool split = true;
};
struct Digits {
  bool individual = false;
};
struct Punctuation {
  SplitBehavior behavior = SplitBehavior::isolated;
};
struct Whitespace {};
struct WhitespaceSplit {};
struct Bert {};
struct UnicodeScripts {};
struct FixedLength {
  int64_t length = 5;  // characters; at least 1
};
struct CharDelimiterSplit {
  std::string delimiter;  // one character
};
using Step = std::variant<ByteLevel, Split, Metaspace, Digits, Punctuation, Whitespace,
                          WhitespaceSplit, Bert, UnicodeScripts, FixedLength, CharDelimiterSplit>;
}  // namespace pre_tokenizer

// Models. Ids are indices of TokenizerSpec::tokens.
struct BpeMerge {
  int32_t left = 0, right = 0, joined = 0;
  uint32_t rank = 0;  // the lowest joins first, of equals the leftmost
};
struct BpeModel {
  std::vector<BpeMerge> merges;  // the last one given for a pair counts
  std::optional<int32_t> unknown;
  std::string continuing_subword_prefix, end_of_word_suffix;
  bool fuse_unknown = false;
  bool byte_fallback = false;  // an unknown character becomes its bytes' <0xNN>, if all exist
  bool ignore_merges = false;  // a piece that is a token is that token, before any merging
};
struct UnigramModel {
  std::vector<double> scores;  // one a token of the model: ids 0 .. scores.size() - 1
  std::optional<int32_t> unknown;
  bool byte_fallback = false;
};
struct WordPieceModel {
  std::optional<int32_t> unknown;
  std::string continuing_subword_prefix = "##";
  int64_t input_characters_max = 100;  // of a word; longer ones are unknown
};
struct WordLevelModel {
  std::optional<int32_t> unknown;
};
using TokenModelSpec = std::variant<BpeModel, UnigramModel, WordPieceModel, WordLevelModel>;

// Decoders, in order. None at all: the tokens are joined with spaces.
namespace decoder {
struct ByteLevel {};
struct ByteFallback {};
struct Fuse {};
struct Replace {
  TextPattern pattern;
  std::string content;
};
struct Strip {
  std::string content;  // one character
  int64_t start = 0, stop = 0;
};
struct Metaspace {
  std::string replacement = "\u2581";
  pre_tokenizer::PrependScheme prepend = pre_tokenizer::PrependScheme::always;
};
struct WordPiece {
  std::string prefix = "##";
  bool cleanup = true;
};
struct Bpe {
  std::string suffix = "</w>";
};
struct Ctc {
  std::string pad = "<pad>", word_delimiter = "|";
  bool cleanup = true;
};
using Step =
    std::variant<ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, WordPiece, Bpe, Ctc>;
}  // namespace decoder

// A token that is found in text as a whole, before anything else is done to it.
struct AddedToken {
  int32_t id = 0;
  std::string content;      // not empty
  bool special = false;     // a control token: never made from text that came from outside
  bool normalized = false;  // matches in normalised text, its own content normalised too
  bool left_strip = false;  // eats the white space before it; right_strip what stands behind it
  bool right_strip = false;
  bool single_word = false;  // only where no word character touches it
};

// How offsets are trimmed after tokenising (the ByteLevel and Roberta post-processors): white space
// at a token's ends does not count, but for one space in front of a text with `prefix_space`.
struct OffsetTrim {
  bool prefix_space = true;
};

struct TokenizerSpec {
  std::string source;  // the file it came from, for messages

  // The model's own tokens by id, as the model matches them; "" where an id has none. Added tokens
  // need no entry here; where they have one, it says the same text.
  std::vector<std::string> tokens;
  std::vector<AddedToken> added;  // any order, ids distinct; they may exceed tokens.size()

  std::vector<normalizer::Step> normalizer;
  std::vector<pre_tokenizer::Step> pre_tokenizer;
  TokenModelSpec model;
  std::vector<int32_t> before, after;  // put around the text where special tokens are asked for
  std::optional<OffsetTrim> trim_offsets;
  std::vector<decoder::Step> decoder;
  bool clean_up_spaces = false;  // clean_up_tokenization_spaces

  std::optional<int32_t> bos, eos, unknown, padding;
  std::vector<int32_t> end_of_turn;  // ids that end a turn by the file's word; sorted
  int64_t embedding_rows = 0;  // the model's logits: ids up to there exist, though without a text
};

}  // namespace chorus::modelfile
