// Tokens in, pieces out: what a listener makes of an engine's tokens.
#include "router/api/generation.h"

#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>

#include "tests/router/api/fake_model.h"

namespace chorus {
namespace {

using api::Generation;
using api::Outcome;
using api::Piece;
using api_test::WordTokenizer;
using engine::FinishReason;
using engine::Verdict;

constexpr int32_t kHello = WordTokenizer::kHello, kWorld = WordTokenizer::kWorld,
                  kEnd = WordTokenizer::kEnd, kPad = WordTokenizer::kPad;

struct Setup {
  explicit Setup(std::vector<std::string> stop = {}, bool stream = true, int64_t unwritten_max = 4)
      : ends(static_cast<size_t>(tokenizer.size())),
        inbox(std::make_shared<api::Inbox>(context.get_executor())),
        generation({.tokenizer = &tokenizer,
                    .end_ids = &ends,
                    .stop = std::move(stop),
                    .keep_tokens = true,
                    .stream = stream,
                    .unwritten_max = unwritten_max},
                   inbox) {
    ends[kEnd] = true;
  }
  Verdict token(int32_t id) { return generation.accept({.id = id, .logprob = -1, .top = {}}); }
  std::vector<Piece> pieces() {
    generation.flush();
    return arrived();
  }
  std::vector<Piece> arrived() {
    context.restart();
    context.poll();
    return inbox->take();
  }

  boost::asio::io_context context;
  WordTokenizer tokenizer;
  std::vector<bool> ends;
  std::shared_ptr<api::Inbox> inbox;
  Generation generation;
};

TEST_CASE("each token of a stream is a piece, and the end token is counted but not shown") {
  Setup setup;
  CHECK(setup.token(kHello) == Verdict::go_on);
  CHECK(setup.token(kWorld) == Verdict::go_on);
  CHECK(setup.token(kEnd) == Verdict::stop);
  setup.generation.finished(FinishReason::stopped, "");
  const auto pieces = setup.pieces();
  REQUIRE(pieces.size() == 3);
  CHECK(pieces[0].text == "Hello");
  CHECK(pieces[0].tokens.size() == 1);
  CHECK(pieces[1].text == " world");
  CHECK(pieces[2].text.empty());
  CHECK(pieces[2].tokens.empty());
  REQUIRE(pieces[2].end);
  CHECK(pieces[2].end->outcome == Outcome::stop);
  CHECK(pieces[2].end->completion_tokens == 3);
}

TEST_CASE("without streaming there is one piece with everything") {
  Setup setup({}, false);
  for (int32_t id : {kHello, kWorld}) setup.token(id);
  CHECK(setup.pieces().empty());
  setup.generation.finished(FinishReason::length, "");
  const auto pieces = setup.pieces();
  REQUIRE(pieces.size() == 1);
  CHECK(pieces[0].text == "Hello world");
  CHECK(pieces[0].tokens.size() == 2);
  CHECK(pieces[0].end->outcome == Outcome::length);
  CHECK(pieces[0].end->completion_tokens == 2);
}

TEST_CASE("a stop string ends the text before it, and its tokens are not reported") {
  Setup setup({"o w"});
  CHECK(setup.token(kPad) == Verdict::go_on);
  CHECK(setup.token(kHello) == Verdict::go_on);
  CHECK(setup.token(kWorld) == Verdict::stop);
  const auto pieces = setup.pieces();
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[0].text == "Hell");
  CHECK(pieces[0].tokens.size() == 2);  // the control token, and the one that is shown in part
  CHECK(pieces[1].tokens.empty());
  CHECK(pieces[1].end->completion_tokens == 3);
}

TEST_CASE("pieces set out with the step's flush, the last one at once") {
  Setup setup;
  setup.token(kHello);
  CHECK(setup.arrived().empty());
  setup.generation.flush();
  CHECK(setup.arrived().size() == 1);
  setup.token(kWorld);
  setup.token(kEnd);
  CHECK(setup.arrived().size() == 2);
}

TEST_CASE("half a character waits for its other half, with its logprobs") {
  Setup setup;
  setup.token(WordTokenizer::kSmileHead);
  CHECK(setup.pieces().empty());
  setup.token(WordTokenizer::kSmileTail);
  const auto pieces = setup.pieces();
  REQUIRE(pieces.size() == 1);
  CHECK(pieces[0].text == "\xF0\x9F\x98\x80");
  CHECK(pieces[0].tokens.size() == 2);
}

TEST_CASE("what was held back is shown when the answer ends") {
  Setup setup({"Hello you"});
  setup.token(kHello);
  setup.token(WordTokenizer::kSmileHead);
  const bool by_length = GENERATE(true, false);
  if (by_length) {
    setup.generation.finished(FinishReason::length, "");
  } else {
    setup.token(kEnd);
  }
  std::string text;
  size_t tokens = 0;
  for (const Piece& piece : setup.pieces()) {
    text += piece.text;
    tokens += piece.tokens.size();
  }
  CHECK(text == "Hello\xEF\xBF\xBD");
  CHECK(tokens == 2);
}

TEST_CASE("a client that is behind makes the listener unready until it has read on") {
  Setup setup;
  for (int i = 0; i < 3; ++i) setup.token(kHello);
  CHECK(setup.generation.ready());
  setup.token(kHello);
  CHECK_FALSE(setup.generation.ready());
  setup.token(kHello);  // the one that was being sampled
  CHECK_FALSE(setup.generation.written(1));
  CHECK_FALSE(setup.generation.ready());
  CHECK(setup.generation.written(1));
  CHECK(setup.generation.ready());
  CHECK_FALSE(setup.generation.written(3));
}

TEST_CASE("failure and cancellation are told once") {
  Setup setup;
  setup.token(kHello);
  setup.generation.finished(FinishReason::failed, "the shard is gone");
  const auto pieces = setup.pieces();
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[1].end->outcome == Outcome::failed);
  CHECK(pieces[1].end->message == "the shard is gone");
}

}  // namespace
}  // namespace chorus
