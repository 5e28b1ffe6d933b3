#include "router/api/api_keys.h"

#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "process/exit_codes.h"
#include "router/api/routes.h"
#include "router/api/service.h"
#include "tests/router/api/fake_exchange.h"
#include "tests/router/api/fake_model.h"

namespace chorus {
namespace {

using api::ApiKeys;
using api_test::FakeExchange;

api::Request asking(std::vector<api::HeaderField> fields) {
  api::Request request;
  request.fields = std::move(fields);
  return request;
}

std::string name_of(ApiKeys& keys, const std::string& name, const std::string& value) {
  return keys.name_of(asking({{name, value}})).value_or("(none)");
}

std::string refusal(const std::string& lines) {
  const auto parsed = api::parse_api_keys(lines);
  return parsed ? "(accepted)" : parsed.error();
}

class KeyFile {
 public:
  explicit KeyFile(const std::string& text) { write(text); }
  ~KeyFile() { std::filesystem::remove(path_); }
  void write(const std::string& text) const { std::ofstream(path_) << text; }
  const std::string& path() const { return path_; }

 private:
  std::string path_ =
      std::filesystem::temp_directory_path() / ("chorus-keys-" + std::to_string(getpid()));
};

}  // namespace

TEST_CASE("a key is taken from the headers that clients use, and is exact") {
  ApiKeys keys("# people\nann:sk-1\n\n sk-2 \r\n", {});
  CHECK(name_of(keys, "authorization", "Bearer sk-1") == "ann");
  CHECK(name_of(keys, "authorization", "bEARER  sk-2") == "key-4");
  CHECK(name_of(keys, "x-api-key", "sk-1") == "ann");
  CHECK(name_of(keys, "api-key", "sk-2") == "key-4");
  for (const char* wrong : {"Bearer SK-1", "Bearer sk-", "Bearer sk-12", "Bearer", "Bearer ",
                            "Basic sk-1", "sk-1", "", "Bearer sk-1 sk-2", "Bearer ann:sk-1"}) {
    INFO(wrong);
    CHECK(name_of(keys, "authorization", wrong) == "(none)");
  }
  CHECK(name_of(keys, "cookie", "sk-1") == "(none)");
  CHECK(keys.name_of(asking({{"authorization", "Basic eDp5"}, {"x-api-key", "sk-2"}})) == "key-4");
}

TEST_CASE("a line that is no key is named by its number, without the key") {
  CHECK(refusal("a:sk-1\nann smith:sk-2\n").starts_with("line 2: a key's name"));
  CHECK(refusal("a:\n").starts_with("line 1: a key is"));
  CHECK(refusal("two words\n").starts_with("line 1: a key is"));
  CHECK(refusal("sk-\xC3\xA9\n").starts_with("line 1: a key is"));
  CHECK(refusal("a:sk-1\n\nb:sk-1\n") == "line 3: the same key stands above as 'a'");
  CHECK(refusal("a:sk-1\na:sk-2\n") == "(accepted)");  // one caller changes keys
  for (const std::string lines : {"x y:sekret", "sek ret"}) {
    CHECK(refusal(lines).find("ret") == std::string::npos);
  }
}

TEST_CASE("a key file is read again on change, and a broken one changes nothing") {
  const KeyFile file("old:sk-old\n");
  ApiKeys keys("api-key-1:sk-fixed\n", file.path());
  auto now = ApiKeys::Clock::now();
  const auto asks = [&](const std::string& key) {
    now += std::chrono::seconds(1);
    return keys.name_of(asking({{"authorization", "Bearer " + key}}), now).value_or("(none)");
  };
  CHECK(asks("sk-old") == "old");
  file.write("# rotated\nnew:sk-new\n");
  CHECK(asks("sk-old") == "(none)");
  CHECK(asks("sk-new") == "new");
  file.write("broken line here\n");
  CHECK(asks("sk-new") == "new");
  file.write("");
  CHECK(asks("sk-new") == "new");
  CHECK(asks("sk-fixed") == "api-key-1");
}

TEST_CASE("a key file that cannot be used at the start is refused by name") {
  const KeyFile file("ok\nnot ok\n");
  CHECK_THROWS_WITH(ApiKeys("", file.path()), "--api-key-file: " + file.path() +
                                                  ": line 2: a key is 1 to 4096 visible ASCII "
                                                  "characters without blanks");
  try {
    ApiKeys("", "/no/such/keys");
    FAIL();
  } catch (const process::StartError& error) {
    CHECK(error.code() == process::ExitCode::model_missing);
    CHECK(std::string(error.what()).find("/no/such/keys: No such file") != std::string::npos);
  }
}

// ---- the guard ----

namespace {

struct Guarded {
  explicit Guarded(bool metrics_need_key = false)
      : service({.model_id = "tiny",
                 .version = "1",
                 .keys = &keys,
                 .metrics_need_key = metrics_need_key}) {
    service.serve(api_test::serving_with(engine));
  }

  // The status that http would answer: the gate's, or the route's.
  api::Response ask(std::string_view method, std::string_view path, const std::string& key) {
    api::Request request;
    request.method = method;
    request.path = path;
    request.id = "r";
    if (!key.empty()) request.fields = {{"authorization", "Bearer " + key}};
    if (auto refusal = service.gate()(request)) return *refusal;
    FakeExchange exchange(std::move(request));
    api_test::answer(context, service.entry(), exchange);
    return exchange.response;
  }

  ApiKeys keys{"ann:right", {}};
  boost::asio::io_context context;
  api_test::FakeEngine engine{{.tokens = {api_test::WordTokenizer::kEnd}}};
  api::Service service;
};

}  // namespace

TEST_CASE("every route but health and metrics wants a key, and the right one") {
  Guarded guarded;
  const std::vector<std::string_view> open = {"/", "/health", "/ping", "/metrics"};
  for (const api::Route& route : api::routes()) {
    INFO(route.method << " " << route.path);
    const bool is_open =
        route.method == "GET" && std::find(open.begin(), open.end(), route.path) != open.end();
    CHECK((guarded.ask(route.method, route.path, "").status != 401) == is_open);
    CHECK((guarded.ask(route.method, route.path, "wrong").status != 401) == is_open);
    CHECK(guarded.ask(route.method, route.path, "right").status != 401);
  }
  CHECK(guarded.ask("HEAD", "/health", "").status == 200);
  CHECK(guarded.ask("GET", "/nothing", "").status == 401);
  CHECK(guarded.ask("GET", "/nothing", "right").status == 404);
  CHECK(guarded.ask("DELETE", "/health", "").status == 401);
  CHECK(Guarded(true).ask("GET", "/metrics", "").status == 401);
  CHECK(Guarded(true).ask("GET", "/metrics", "right").status == 200);
}

TEST_CASE("without a key the answer is OpenAI's 401, and says nothing of the key sent") {
  Guarded guarded;
  const api::Response response = guarded.ask("GET", "/v1/models", "sekret");
  const auto error = nlohmann::json::parse(response.body)["error"];
  CHECK(error["code"] == "invalid_api_key");
  CHECK(error["type"] == "invalid_request_error");
  CHECK(response.headers.at(0).name == "WWW-Authenticate");
  CHECK(response.body.find("sekret") == std::string::npos);
}

TEST_CASE("on a spare connection only probes are answered") {
  Guarded guarded;
  for (const auto& [path, status] : std::vector<std::pair<std::string, int>>{
           {"/health", 0}, {"/metrics", 0}, {"/info", 503}, {"/nothing", 503}}) {
    api::Request request = asking({{"authorization", "Bearer right"}});
    request.method = "GET";
    request.path = path;
    request.spare = true;
    const auto refusal = guarded.service.gate()(request);
    CHECK((refusal ? refusal->status : 0) == status);
  }
}

TEST_CASE("a route that needs a key is closed where no gate was passed") {
  Guarded guarded;
  api::Request request = asking({{"authorization", "Bearer right"}});
  request.method = "GET";
  request.path = "/info";
  FakeExchange exchange(std::move(request));
  api_test::answer(guarded.context, guarded.service.entry(), exchange);
  CHECK(exchange.response.status == 401);
}

}  // namespace chorus
