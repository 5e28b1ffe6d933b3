// One row per metric: name, type, label, help. Durations use TGI's buckets (35 steps from 0.15 ms
// by 1.5); lengths grow by two instead of TGI's hundred equal steps, because their upper end is
// not known before the model is. The engine keeps its own counts: they are copied when asked for.
#include "router/api/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <atomic>
#include <cassert>
#include <sstream>
#include <vector>

namespace chorus::api {
namespace {

enum class Type : uint8_t { counter, duration, length, gauge };

struct Row {
  Metric metric;
  Type type;
  const char* name;
  const char* label;  // nullptr: none
  const char* help;
};

constexpr std::array kRows = {
    Row{Metric::request_count, Type::counter, "tgi_request_count", nullptr,
        "Requests for a generation"},
    Row{Metric::request_success, Type::counter, "tgi_request_success", nullptr,
        "Generations that ended by themselves"},
    Row{Metric::request_failure, Type::counter, "tgi_request_failure", "err",
        "Requests that got no complete answer, by reason"},
    Row{Metric::request_duration, Type::duration, "tgi_request_duration", nullptr,
        "Seconds from a request's arrival to its last token"},
    Row{Metric::validation_duration, Type::duration, "tgi_request_validation_duration", nullptr,
        "Seconds for validating, rendering and tokenising a request"},
    Row{Metric::queue_duration, Type::duration, "tgi_request_queue_duration", nullptr,
        "Seconds that a request waits for its seat"},
    Row{Metric::inference_duration, Type::duration, "tgi_request_inference_duration", nullptr,
        "Seconds from a request's seat to its last token"},
    Row{Metric::first_token_duration, Type::duration, "chorus_request_first_token_duration",
        nullptr, "Seconds from a request's arrival to its first token"},
    Row{Metric::time_per_token_duration, Type::duration, "tgi_request_mean_time_per_token_duration",
        nullptr, "Mean seconds from one token of a request to the next"},
    Row{Metric::input_length, Type::length, "tgi_request_input_length", nullptr,
        "Tokens in a request's prompt"},
    Row{Metric::generated_tokens, Type::length, "tgi_request_generated_tokens", nullptr,
        "Tokens generated for a request"},
    Row{Metric::max_new_tokens, Type::length, "tgi_request_max_new_tokens", nullptr,
        "Tokens a request allowed"},
    Row{Metric::queue_size, Type::gauge, "tgi_queue_size", nullptr, "Requests that wait"},
    Row{Metric::batch_current_size, Type::gauge, "tgi_batch_current_size", nullptr,
        "Sequences that are being generated"},
    Row{Metric::batch_current_max_tokens, Type::gauge, "tgi_batch_current_max_tokens", nullptr,
        "Tokens that those sequences may come to hold"},
    Row{Metric::batch_inference_count, Type::counter, "tgi_batch_inference_count", "method",
        "Steps with prompts (prefill) and with decodes; one may be both"},
    Row{Metric::preempted, Type::counter, "chorus_preempted_total", nullptr,
        "Sequences that gave their seat to older ones"},
    Row{Metric::kv_blocks, Type::gauge, "chorus_kv_blocks", nullptr,
        "Blocks of the key-value cache"},
    Row{Metric::kv_blocks_used, Type::gauge, "chorus_kv_blocks_used", nullptr,
        "Blocks of the key-value cache in use"},
    Row{Metric::steps, Type::counter, "chorus_steps_total", nullptr, "Steps executed"},
    Row{Metric::prefill_tokens, Type::counter, "chorus_prefill_tokens_total", nullptr,
        "Prompt tokens computed"},
    Row{Metric::decode_tokens, Type::counter, "chorus_decode_tokens_total", nullptr,
        "Tokens generated, over all requests"},
    Row{Metric::step_duration, Type::counter, "chorus_step_seconds_total", nullptr,
        "Seconds the shards spent in steps"},
};

prometheus::Histogram::BucketBoundaries buckets_of(Type type) {
  prometheus::Histogram::BucketBoundaries buckets;
  if (type == Type::duration) {
    double edge = 0.00015;
    for (int i = 0; i < 35; ++i, edge *= 1.5) buckets.push_back(edge);
  } else {
    for (int i = 0; i <= 20; ++i) buckets.push_back(static_cast<double>(1 << i));
  }
  return buckets;
}

// Raises a counter to a total kept elsewhere; two scrapes at once must not add a part twice.
class Total {
 public:
  void raise(prometheus::Counter& counter, int64_t total, double unit) {
    int64_t seen = seen_;
    while (total > seen) {
      if (seen_.compare_exchange_weak(seen, total)) {
        counter.Increment(static_cast<double>(total - seen) * unit);
        return;
      }
    }
  }

 private:
  std::atomic<int64_t> seen_{0};
};

}  // namespace

struct Metrics::Registry {
  prometheus::Registry all;
  std::array<prometheus::Family<prometheus::Counter>*, kRows.size()> counter_families{};
  std::array<prometheus::Counter*, kRows.size()> counters{};
  std::array<prometheus::Histogram*, kRows.size()> histograms{};
  std::array<prometheus::Gauge*, kRows.size()> gauges{};
  Total steps, prefill_tokens, decode_tokens, step_us, prefill_steps, decode_steps, preempted;

  void add_row(size_t i) {
    const Row& row = kRows[i];
    assert(static_cast<size_t>(row.metric) == i);
    switch (row.type) {
      case Type::counter:
        counter_families[i] =
            &prometheus::BuildCounter().Name(row.name).Help(row.help).Register(all);
        if (row.label == nullptr) counters[i] = &counter_families[i]->Add({});
        return;
      case Type::duration:
      case Type::length:
        histograms[i] =
            &prometheus::BuildHistogram().Name(row.name).Help(row.help).Register(all).Add(
                {}, buckets_of(row.type));
        return;
      case Type::gauge:
        gauges[i] = &prometheus::BuildGauge().Name(row.name).Help(row.help).Register(all).Add({});
    }
  }

  void set(Metric gauge, int64_t value) {
    gauges[static_cast<size_t>(gauge)]->Set(static_cast<double>(value));
  }
  prometheus::Counter& counter(Metric metric) { return *counters[static_cast<size_t>(metric)]; }
  prometheus::Counter& counter(Metric metric, std::string_view label) {
    const auto i = static_cast<size_t>(metric);
    return counter_families[i]->Add({{kRows[i].label, std::string(label)}});
  }
};

Metrics::Metrics() : registry_(std::make_unique<Registry>()) {
  for (size_t i = 0; i < kRows.size(); ++i) registry_->add_row(i);
}

Metrics::~Metrics() = default;

void Metrics::add(Metric counter, std::string_view label) {
  if (kRows[static_cast<size_t>(counter)].label == nullptr) {
    registry_->counter(counter).Increment();
  } else {
    registry_->counter(counter, label).Increment();
  }
}

void Metrics::observe(Metric histogram, double value) {
  registry_->histograms[static_cast<size_t>(histogram)]->Observe(value);
}

std::string Metrics::text(const engine::EngineStats* engine) {
  if (engine != nullptr) {
    Registry& all = *registry_;
    all.set(Metric::queue_size, engine->queued);
    all.set(Metric::batch_current_size, engine->running);
    all.set(Metric::batch_current_max_tokens, engine->running_tokens_max);
    all.prefill_steps.raise(all.counter(Metric::batch_inference_count, "prefill"),
                            engine->prefill_steps, 1);
    all.decode_steps.raise(all.counter(Metric::batch_inference_count, "decode"),
                           engine->decode_steps, 1);
    all.preempted.raise(all.counter(Metric::preempted), engine->preempted, 1);
    all.set(Metric::kv_blocks, engine->kv_blocks);
    all.set(Metric::kv_blocks_used, engine->kv_blocks_used);
    all.steps.raise(all.counter(Metric::steps), engine->steps, 1);
    all.prefill_tokens.raise(all.counter(Metric::prefill_tokens), engine->prefill_tokens, 1);
    all.decode_tokens.raise(all.counter(Metric::decode_tokens), engine->decode_tokens, 1);
    all.step_us.raise(all.counter(Metric::step_duration), engine->step_us_sum, 1e-6);
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, registry_->all.Collect());
  return out.str();
}

}  // namespace chorus::api
