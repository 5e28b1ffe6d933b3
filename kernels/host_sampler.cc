#include "kernels/host_sampler.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace chorus::kernels {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

Range share(int64_t count, int worker, int workers) {
  return {count * worker / workers, count * (worker + 1) / workers};
}

}  // namespace

HostSampler::HostSampler(const SampleArgs& args, Collective* collective)
    : args_(args),
      collective_(collective != nullptr && collective->ranks() > 1 ? collective : nullptr),
      ranks_(collective_ != nullptr ? collective_->ranks() : 1),
      rank_(collective_ != nullptr ? collective_->rank() : 0),
      rows_(static_cast<size_t>(args.logits.rows)) {
  const auto own = rows_.size(), all = own * static_cast<size_t>(ranks_);
  own_findings_.resize(own);
  own_model_.resize(own);
  own_masses_.resize(own);
  own_drawn_.resize(own);
  all_findings_.resize(all);
  all_model_.resize(all);
  all_masses_.resize(all);
  all_drawn_.resize(all);
  if (collective_ != nullptr) whole_row_.resize(static_cast<size_t>(args.vocab_size));
}

const SamplingParams& HostSampler::params(int64_t row) const {
  return static_cast<const SamplingParams*>(args_.params.data)[row];
}

float* HostSampler::slice(int64_t row) const {
  return static_cast<float*>(args_.logits.data) + row * slice_size();
}

bool HostSampler::adjusted(int64_t row) const {
  return params(row).adjusted != 0 && params(row).forced < 0;
}

// The same on every rank, as the parameters are.
bool HostSampler::any_adjusted(const Turn& turn) const {
  for (int64_t row = 0; row < turn.rows; ++row) {
    if (adjusted(row)) return true;
  }
  return false;
}

std::span<Adjustment> HostSampler::adjustments(int slot) const {
  auto* list = reinterpret_cast<Adjustment*>(static_cast<std::byte*>(args_.adjustments.data) +
                                             slot * args_.adjustments.cols);
  const auto count = static_cast<const int32_t*>(args_.adjustment_counts.data)[slot];
  return {list, static_cast<size_t>(count)};
}

// What is reported, best first.
const Candidates& HostSampler::model_candidates(int64_t row) const {
  const Row& state = rows_[static_cast<size_t>(row)];
  return adjusted(row) ? state.model : state.finding.candidates;
}

void HostSampler::run(int worker, Collective::Workers& workers) {
  const View& logits = args_.logits;
  const Turn turn{worker, workers, logits.live_rows == nullptr ? logits.rows : *logits.live_rows};
  assert(turn.rows >= 0 && turn.rows <= logits.rows);
  if (turn.rows == 0) return;
  size_for(turn);
  take_out_adjusted(turn);
  find_best(turn);
  sum_masses(turn);
  draw(turn);
  draw_by_mass(turn);
  draw_from_whole_rows(turn);
  find_model_logits(turn);
  report(turn);
}

// The number of workers is known at the first run.
void HostSampler::size_for(const Turn& turn) {
  const size_t parts = rows_.size() * static_cast<size_t>(turn.workers.count());
  if (turn.worker == 0 && part_findings_.size() < parts) {
    part_findings_.resize(parts);
    part_masses_.resize(parts);
  }
  turn.workers.barrier();
}

// all = every rank's `own`, [ranks, rows]. Own values are complete when all workers are here.
template <class T>
void HostSampler::exchange(std::vector<T>& all, std::vector<T>& own, const Turn& turn) {
  turn.workers.barrier();
  if (collective_ != nullptr) {
    collective_->all_gather(reinterpret_cast<std::byte*>(all.data()),
                            reinterpret_cast<const std::byte*>(own.data()),
                            turn.rows * static_cast<int64_t>(sizeof(T)), turn.worker, turn.workers);
  } else {
    if (turn.worker == 0) std::copy_n(own.begin(), turn.rows, all.begin());
  }
  turn.workers.barrier();
}

void HostSampler::take_out_adjusted(const Turn& turn) {
  if (!any_adjusted(turn)) return;
  for (int64_t row = turn.worker; row < turn.rows; row += turn.workers.count()) {
    Adjusted& taken = rows_[static_cast<size_t>(row)].adjusted;
    taken.ids.clear();
    taken.model.clear();
    taken.drawn.clear();
    if (!adjusted(row)) continue;
    for (const Adjustment& adjustment : adjustments(params(row).slot)) {
      if (adjustment.id < args_.vocab.begin || adjustment.id >= args_.vocab.end) continue;
      float& logit = slice(row)[adjustment.id - args_.vocab.begin];
      taken.ids.push_back(adjustment.id);
      taken.model.push_back(logit);
      taken.drawn.push_back(adjusted_logit(logit, adjustment, params(row)));
      logit = kLowest;
    }
  }
  turn.workers.barrier();
}

// Turns what was found in the rest of an adjusted row's slice into what is in all of it.
void HostSampler::add_adjusted(int64_t row) {
  Candidates& drawn = own_findings_[static_cast<size_t>(row)].candidates;
  // The places of those taken out are not candidates.
  while (drawn.count > 0 && drawn.best[drawn.count - 1].logit == kLowest) --drawn.count;
  Candidates& model = own_model_[static_cast<size_t>(row)];
  model = drawn;
  const int wanted = candidates_needed(params(row));
  const Adjusted& taken = rows_[static_cast<size_t>(row)].adjusted;
  for (size_t i = 0; i < taken.ids.size(); ++i) {
    if (taken.model[i] > kLowest) add_candidate(model, {taken.model[i], taken.ids[i]}, wanted);
    if (taken.drawn[i] > kLowest) add_candidate(drawn, {taken.drawn[i], taken.ids[i]}, wanted);
  }
}

// In the places of the adjusted tokens: `drawn` for the draw to look at, `model` in the end.
void HostSampler::put_in(int64_t row, const std::vector<float>& logits) {
  const std::vector<int32_t>& ids = rows_[static_cast<size_t>(row)].adjusted.ids;
  for (size_t i = 0; i < ids.size(); ++i) slice(row)[ids[i] - args_.vocab.begin] = logits[i];
}

void HostSampler::find_best(const Turn& turn) {
  const int count = turn.workers.count();
  const auto capacity = static_cast<int64_t>(rows_.size());
  const Range piece = share(slice_size(), turn.worker, count);
  for (int64_t row = 0; row < turn.rows; ++row) {
    Finding& part = part_findings_[static_cast<size_t>(turn.worker * capacity + row)];
    const int64_t first_id = args_.vocab.begin + piece.begin;
    find_candidates(part.candidates, slice(row) + piece.begin, piece.size(),
                    static_cast<int32_t>(first_id), candidates_needed(params(row)));
    const int64_t forced = params(row).forced - first_id;
    const bool here = params(row).forced >= 0 && forced >= 0 && forced < piece.size();
    part.forced =
        here ? Candidate{slice(row)[piece.begin + forced], params(row).forced} : Candidate{0, -1};
  }
  turn.workers.barrier();

  const auto merge = [&](Finding& into, const Finding& part, int64_t row) {
    merge_candidates(into.candidates, part.candidates, candidates_needed(params(row)));
    if (part.forced.id >= 0) into.forced = part.forced;
  };
  for (int64_t row = turn.worker; row < turn.rows; row += count) {
    Finding& own = own_findings_[static_cast<size_t>(row)];
    own = part_findings_[static_cast<size_t>(row)];
    for (int worker = 1; worker < count; ++worker) {
      merge(own, part_findings_[static_cast<size_t>(worker * capacity + row)], row);
    }
    if (adjusted(row)) add_adjusted(row);
  }
  exchange(all_findings_, own_findings_, turn);
  if (any_adjusted(turn)) exchange(all_model_, own_model_, turn);
  for (int64_t row = turn.worker; row < turn.rows; row += count) {
    Row& state = rows_[static_cast<size_t>(row)];
    state.draw = kind_of_draw(params(row), args_.vocab_size);
    state.finding = all_findings_[static_cast<size_t>(row)];
    for (int rank = 1; rank < ranks_; ++rank) {
      merge(state.finding, all_findings_[static_cast<size_t>(rank * turn.rows + row)], row);
    }
    if (adjusted(row)) {
      state.model = all_model_[static_cast<size_t>(row)];
      for (int rank = 1; rank < ranks_; ++rank) {
        merge_candidates(state.model, all_model_[static_cast<size_t>(rank * turn.rows + row)],
                         candidates_needed(params(row)));
      }
    }
    const Candidates* const both[] = {&state.finding.candidates, &model_candidates(row)};
    for (const Candidates* found : both) {
      if (found->count > 0 && std::isfinite(found->best[0].logit)) continue;
      throw std::runtime_error("sample: the logits of row " + std::to_string(row) +
                               " are not finite numbers");
    }
  }
  turn.workers.barrier();
}

// At the row's temperature; of what min_p leaves where the draw is by place.
Mass HostSampler::tempered_mass(int64_t row, const float* logits, int64_t count) const {
  const Row& state = rows_[static_cast<size_t>(row)];
  return mass_of(logits, count, state.finding.candidates.best[0].logit, params(row).temperature,
                 state.draw == Draw::mass ? mass_floor(params(row)) : 0);
}

void HostSampler::sum_masses(const Turn& turn) {
  const int count = turn.workers.count();
  const auto capacity = static_cast<int64_t>(rows_.size());
  const Range piece = share(slice_size(), turn.worker, count);
  for (int64_t row = 0; row < turn.rows; ++row) {
    const Row& state = rows_[static_cast<size_t>(row)];
    const float* logits = slice(row) + piece.begin;
    Masses& part = part_masses_[static_cast<size_t>(turn.worker * capacity + row)];
    part.model = mass_of(logits, piece.size(), model_candidates(row).best[0].logit, 1);
    part.tempered = 0;
    if (needs_tempered_mass(state.draw)) part.tempered = tempered_mass(row, logits, piece.size());
  }
  turn.workers.barrier();
  for (int64_t row = turn.worker; row < turn.rows; row += count) {
    Masses& own = own_masses_[static_cast<size_t>(row)];
    own = {};
    for (int worker = 0; worker < count; ++worker) {
      const Masses& part = part_masses_[static_cast<size_t>(worker * capacity + row)];
      own = {own.model + part.model, own.tempered + part.tempered};
    }
    if (!adjusted(row)) continue;
    const Row& state = rows_[static_cast<size_t>(row)];
    const Adjusted& taken = state.adjusted;
    const auto tokens = static_cast<int64_t>(taken.ids.size());
    own.model += mass_of(taken.model.data(), tokens, model_candidates(row).best[0].logit, 1);
    if (needs_tempered_mass(state.draw)) {
      own.tempered += tempered_mass(row, taken.drawn.data(), tokens);
    }
    put_in(row, taken.drawn);
  }
  exchange(all_masses_, own_masses_, turn);
}

void HostSampler::draw(const Turn& turn) {
  for (int64_t row = turn.worker; row < turn.rows; row += turn.workers.count()) {
    Row& state = rows_[static_cast<size_t>(row)];
    state.masses = {};
    for (int rank = 0; rank < ranks_; ++rank) {
      const Masses& part = all_masses_[static_cast<size_t>(rank * turn.rows + row)];
      state.masses = {state.masses.model + part.model, state.masses.tempered + part.tempered};
    }
    const Candidates& candidates = state.finding.candidates;
    if (state.draw == Draw::forced) {
      assert(state.finding.forced.id == params(row).forced && "a forced id is in the vocabulary");
      state.chosen = state.finding.forced;
    } else if (state.draw == Draw::best) {
      state.chosen = candidates.best[0];
    } else if (state.draw == Draw::candidates &&
               !draw_from_candidates(state.chosen, params(row), candidates, state.masses.tempered,
                                     args_.vocab_size)) {
      state.draw = Draw::whole_row;
    }
  }
  turn.workers.barrier();
}

// The rank whose slice holds the place finds the token and tells the others.
void HostSampler::draw_by_mass(const Turn& turn) {
  const auto by_mass = [&](int64_t row) {
    return rows_[static_cast<size_t>(row)].draw == Draw::mass;
  };
  bool any = false;
  for (int64_t row = 0; row < turn.rows; ++row) any = any || by_mass(row);
  if (!any) return;
  for (int64_t row = turn.worker; row < turn.rows; row += turn.workers.count()) {
    Candidate& drawn = own_drawn_[static_cast<size_t>(row)];
    drawn = {0, -1};
    if (!by_mass(row)) continue;
    const Row& state = rows_[static_cast<size_t>(row)];
    Mass place = place_of_draw(params(row), state.masses.tempered);
    int owner = 0;
    for (;; ++owner) {
      const Mass mass = all_masses_[static_cast<size_t>(owner * turn.rows + row)].tempered;
      if (mass > place) break;
      place -= mass;
    }
    if (owner != rank_) continue;
    drawn = find_at(slice(row), slice_size(), static_cast<int32_t>(args_.vocab.begin),
                    state.finding.candidates.best[0].logit, params(row), place);
  }
  take_drawn(turn);
}

// A row for which no rank has drawn a token keeps its own.
void HostSampler::take_drawn(const Turn& turn) {
  exchange(all_drawn_, own_drawn_, turn);
  for (int64_t row = turn.worker; row < turn.rows; row += turn.workers.count()) {
    for (int rank = 0; rank < ranks_; ++rank) {
      const Candidate& drawn = all_drawn_[static_cast<size_t>(rank * turn.rows + row)];
      if (drawn.id >= 0) rows_[static_cast<size_t>(row)].chosen = drawn;
    }
  }
}

void HostSampler::draw_from_whole_rows(const Turn& turn) {
  for (int64_t row = 0; row < turn.rows; ++row) {
    Row& state = rows_[static_cast<size_t>(row)];
    if (state.draw != Draw::whole_row) continue;
    const float* whole = slice(row);
    if (collective_ != nullptr) {
      // Zeros but for the rank's slice; the sum over ranks puts the row together exactly.
      if (turn.worker == 0) {
        std::fill(whole_row_.begin(), whole_row_.end(), 0.0F);
        std::copy_n(slice(row), slice_size(), whole_row_.begin() + args_.vocab.begin);
      }
      turn.workers.barrier();
      collective_->all_reduce(whole_row_.data(), args_.vocab_size, turn.worker, turn.workers);
      turn.workers.barrier();
      whole = whole_row_.data();
    }
    // Without a group the workers sort different rows at the same time.
    const int64_t taker = collective_ != nullptr ? 0 : row % turn.workers.count();
    if (turn.worker == taker) {
      state.chosen = draw_from_row(params(row), whole, args_.vocab_size,
                                   state.finding.candidates.best[0].logit, state.masses.tempered);
    }
    if (collective_ != nullptr) turn.workers.barrier();
  }
  turn.workers.barrier();
}

// Of the adjusted rows' tokens. Each has one rank that knows it.
void HostSampler::find_model_logits(const Turn& turn) {
  if (!any_adjusted(turn)) return;
  for (int64_t row = turn.worker; row < turn.rows; row += turn.workers.count()) {
    const Row& state = rows_[static_cast<size_t>(row)];
    const int32_t id = state.chosen.id;
    const bool here = id >= args_.vocab.begin && id < args_.vocab.end;
    Candidate& found = own_drawn_[static_cast<size_t>(row)];
    found = {0, -1};
    if (!adjusted(row)) continue;
    if (here) found = {slice(row)[id - args_.vocab.begin], id};
    const std::vector<int32_t>& ids = state.adjusted.ids;
    const auto taken = std::find(ids.begin(), ids.end(), id);
    if (taken != ids.end()) {
      found.logit = state.adjusted.model[static_cast<size_t>(taken - ids.begin())];
    }
  }
  take_drawn(turn);
}

void HostSampler::report(const Turn& turn) {
  auto* results = static_cast<Sampled*>(args_.results.data);
  auto* last_tokens = static_cast<int32_t*>(args_.last_tokens.data);
  for (int64_t row = turn.worker; row < turn.rows; row += turn.workers.count()) {
    const Row& state = rows_[static_cast<size_t>(row)];
    const Candidates& candidates = model_candidates(row);
    const float max = candidates.best[0].logit;
    Sampled& result = results[row];
    result.token = state.chosen.id;
    result.logprob = logprob_of(state.chosen.logit, max, state.masses.model);
    result.top_count = std::min(params(row).top_logprobs, candidates.count);
    for (int i = 0; i < result.top_count; ++i) {
      result.top_ids[i] = candidates.best[i].id;
      result.top_logprobs[i] = logprob_of(candidates.best[i].logit, max, state.masses.model);
    }
    if (params(row).slot >= 0) last_tokens[params(row).slot] = result.token;
    if (!adjusted(row)) continue;
    put_in(row, state.adjusted.model);
    if (penalised(params(row))) count_drawn(params(row).slot, result.token);
  }
}

void HostSampler::count_drawn(int slot, int32_t token) {
  for (Adjustment& adjustment : adjustments(slot)) {
    if (adjustment.id != token) continue;
    ++adjustment.output_count;
    return;
  }
  int32_t& count = static_cast<int32_t*>(args_.adjustment_counts.data)[slot];
  ++count;
  assert(count * static_cast<int64_t>(sizeof(Adjustment)) <= args_.adjustments.cols);
  adjustments(slot).back() = {.id = token, .output_count = 1};
}

}  // namespace chorus::kernels
