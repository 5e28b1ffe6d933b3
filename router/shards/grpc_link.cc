// A synchronous gRPC stream: one thread reads, hands the result to the engine and, from inside that
// call, mostly writes the next plan too. Synchronous, since it costs one thread hop less per
// exchange than gRPC's callbacks (measured: 20-30 µs), and there is one stream only. Written by the
// thread that reads, since two threads in one stream at once make gRPC finish the write on a third
// and wake both.
#include "router/shards/grpc_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <thread>

#include "process/exit_codes.h"
#include "proto/chorus/v1/shard.grpc.pb.h"

namespace chorus::shards {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

// Prompt logprobs of a whole step, with room to spare.
constexpr int kMessageBytesMax = 64 << 20;

void write_sampling(const Sampling& in, v1::SamplingParameters& out) {
  out.set_temperature(in.temperature);
  out.set_top_p(in.top_p);
  out.set_top_k(in.top_k);
  out.set_min_p(in.min_p);
  out.set_typical_p(in.typical_p);
  out.set_repetition_penalty(in.repetition_penalty);
  out.set_frequency_penalty(in.frequency_penalty);
  out.set_presence_penalty(in.presence_penalty);
  for (const LogitBias& entry : in.logit_bias) (*out.mutable_logit_bias())[entry.id] = entry.bias;
  out.set_min_tokens(in.min_tokens);
  out.mutable_late_ids()->Add(in.late_ids.begin(), in.late_ids.end());
  out.set_seed(in.seed);
  out.set_choice(in.choice);
  out.set_top_logprobs(in.top_logprobs);
}

void write_row(const Row& in, v1::Row& out) {
  out.set_slot(in.slot);
  if (in.start) {
    auto& start = *out.mutable_start();
    start.set_sequence(static_cast<uint64_t>(in.start->sequence));
    write_sampling(in.start->sampling, *start.mutable_sampling());
    start.mutable_history()->Add(in.start->history.begin(), in.start->history.end());
    start.set_output_begin(in.start->output_begin);
  }
  if (in.continues()) {
    out.mutable_continues()->set_positions_reserved(1);
  } else {
    out.mutable_tokens()->mutable_ids()->Add(in.tokens.begin(), in.tokens.end());
  }
  out.set_position(in.position);
  for (const BlockChange& change : in.block_changes) {
    auto& message = *out.add_block_changes();
    message.set_group(change.group);
    message.mutable_added()->Add(change.added.begin(), change.added.end());
    message.set_first_live(change.first_live);
  }
  out.set_sample(in.sample);
  out.set_output_index(in.output_index);
  out.mutable_logprob_positions()->Add(in.logprob_positions.begin(), in.logprob_positions.end());
  out.set_next_chunk_token(in.next_chunk_token);
}

// `out` may hold the step before: its memory serves again.
void write_step(const Step& step, v1::Step& out) {
  out.Clear();
  out.set_number(step.number);
  for (const Row& row : step.rows) write_row(row, *out.add_rows());
  out.mutable_released_slots()->Add(step.released_slots.begin(), step.released_slots.end());
}

SampledToken read_token(const v1::SampledToken& in) {
  SampledToken token{.id = in.id(), .logprob = in.logprob(), .top = {}};
  token.top.reserve(static_cast<size_t>(in.top_size()));
  for (const auto& top : in.top()) token.top.push_back({top.id(), top.logprob()});
  return token;
}

StepResult read_result(const v1::StepResult& in) {
  StepResult result{.number = in.number(), .rows = {}, .execution_us = in.execution_us()};
  for (const auto& row : in.rows()) {
    RowResult& out = result.rows.emplace_back();
    out.slot = row.slot();
    for (const auto& token : row.tokens()) out.tokens.push_back(read_token(token));
    for (const auto& token : row.prompt()) out.prompt.push_back(read_token(token));
  }
  return result;
}

class GrpcLink final : public Link {
 public:
  explicit GrpcLink(v1::Shard::Stub& stub) : stream_(stub.Run(&context_)) {}

  ~GrpcLink() override {
    context_.TryCancel();
    if (reader_.joinable()) reader_.join();
  }

  void start(Callbacks callbacks) override {
    callbacks_ = std::move(callbacks);
    reader_ = std::thread([this] { read(); });
  }

  // A failed write means that the stream has ended, which the reader finds and reports.
  void send(const Step& step) override {
    write_step(step, *step_.mutable_step());
    stream_->Write(step_);
  }

 private:
  void read() {
    v1::FromShard message;
    while (stream_->Read(&message)) {
      if (message.has_result()) callbacks_.on_result(read_result(message.result()));
    }
    const grpc::Status status = stream_->Finish();
    callbacks_.on_lost(status.ok() ? "the shard ended the stream" : status.error_message());
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ToShard, v1::FromShard>> stream_;
  v1::ToShard step_;
  Callbacks callbacks_;
  std::thread reader_;
};

class GrpcClient final : public Client {
 public:
  explicit GrpcClient(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
    // Pings that measure a network: one a message, here to find out nothing.
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4 << 20);
    stub_ = v1::Shard::NewStub(grpc::CreateCustomInsecureChannelFromFd("shard", fd, arguments));
  }

  ShardInfo wait_until_ready(const std::function<void(LoadProgress)>& progress,
                             const std::function<bool()>& cancelled) override {
    for (v1::HealthResponse health; !health.loaded();
         std::this_thread::sleep_for(milliseconds(5))) {
      grpc::ClientContext context;
      context.set_deadline(system_clock::now() + std::chrono::seconds(5));
      context.set_wait_for_ready(true);
      expect(stub_->Health(&context, {}, &health), "Health");
      progress({health.load_fraction(), health.load_stage()});
      if (cancelled()) return {};
    }
    grpc::ClientContext info_context, warmup_context;
    v1::InfoResponse info;
    info_context.set_deadline(system_clock::now() + std::chrono::seconds(60));
    expect(stub_->Info(&info_context, {}, &info), "Info");
    v1::WarmupResponse warmup;
    warmup_context.set_deadline(system_clock::now() + std::chrono::minutes(5));
    expect(stub_->Warmup(&warmup_context, {}, &warmup), "Warmup");
    return read_info(info, warmup);
  }

  std::unique_ptr<Link> open_link() override { return std::make_unique<GrpcLink>(*stub_); }

 private:
  static void expect(const grpc::Status& status, std::string_view call) {
    if (status.ok()) return;
    if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
      throw process::StartError(process::ExitCode::unavailable, status.error_message());
    }
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
      throw ShardGone(process::ExitCode::fault,
                      fmt::format("the shard was gone before it was ready ({}: {})", call,
                                  status.error_message()));
    }
    throw process::StartError(
        process::ExitCode::fault,
        fmt::format("the shard does not answer {}: {}", call, status.error_message()));
  }

  static ShardInfo read_info(const v1::InfoResponse& in, const v1::WarmupResponse& warmup) {
    ShardInfo info{.model_name = in.model_name(),
                   .backend = in.backend(),
                   .ranks = in.ranks(),
                   .vocab_size = in.vocab_size(),
                   .context_max = in.context_max(),
                   .block_tokens = in.block_tokens(),
                   .slots = in.slots(),
                   .step_tokens_max = in.step_tokens_max(),
                   .top_logprobs_max = in.top_logprobs_max(),
                   .kv_groups = {}};
    for (int i = 0; i < in.kv_groups_size(); ++i) {
      const auto& group = in.kv_groups(i);
      info.kv_groups.push_back(
          {.kind = group.kind() == v1::KV_KIND_SLIDING ? KvKind::sliding : KvKind::full,
           .window = group.window(),
           .block_bytes = group.block_bytes(),
           .blocks = i < warmup.blocks_size() ? warmup.blocks(i) : 0});
    }
    return info;
  }

  std::unique_ptr<v1::Shard::Stub> stub_;
};

}  // namespace

std::unique_ptr<Client> Client::connect(int channel_fd) {
  return std::make_unique<GrpcClient>(channel_fd);
}

}  // namespace chorus::shards
