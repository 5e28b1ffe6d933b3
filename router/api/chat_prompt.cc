#include "router/api/chat_prompt.h"

#include <fmt/format.h>

#include <utility>

#include "router/api/answering.h"
#include "router/api/prompt_jobs.h"

namespace chorus::api {
namespace {

Error refused_by_template(const text::TemplateError& error) {
  std::string message = "the model's chat template refuses the messages: " + error.message;
  if (error.line > 0) message += fmt::format(" (line {} of the template)", error.line);
  std::string param = "messages";
  if (error.message_index >= 0) param = fmt::format("messages[{}]", error.message_index);
  return {.kind = ErrorKind::template_refused,
          .message = std::move(message),
          .param = std::move(param)};
}

ChatPromptResult make_prompt(const Serving& serving, const text::ChatInput& input,
                             bool add_special) {
  auto rendered = serving.chat_format->render(input);
  if (!rendered) return tl::unexpected(refused_by_template(rendered.error()));
  ChatPrompt prompt{.rendered = std::move(*rendered), .ids = {}};
  prompt.ids = serving.tokenizer->encode(prompt.rendered.prompt, add_special);
  return prompt;
}

}  // namespace

Task<ChatPromptResult> make_chat_prompt(Service& service, ChatRequest& request, size_t body_bytes) {
  const Serving& serving = *service.serving();
  if (!serving.chat_format) {
    co_return tl::unexpected(
        Error{.kind = ErrorKind::template_refused,
              .message = "this model brings no chat template, so it cannot answer messages"});
  }
  text::ChatInput input{.messages = std::move(request.messages),
                        .tools = std::move(request.tools),
                        .documents = std::move(request.documents),
                        .add_generation_prompt = request.add_generation_prompt,
                        .continue_final_message = request.continue_final_message,
                        .kwargs = std::move(request.template_kwargs),
                        .now = seconds_now()};
  if (request.continue_final_message) input.add_generation_prompt = false;
  auto job = [&serving, input = std::move(input), add_special = request.add_special_tokens] {
    return make_prompt(serving, input, add_special);
  };
  co_return co_await run_prompt_job(service, body_bytes, std::move(job));
}

}  // namespace chorus::api
