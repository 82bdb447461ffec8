// The engine: takes requests, runs them together on one decoder, and hands out text as it appears.
//
// Threads: submit() and stats() from any thread. One engine thread drives the decoder.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "engine/chain.h"
#include "engine/draft_index.h"
#include "engine/draft_model.h"
#include "engine/output_head.h"
#include "engine/pacer.h"
#include "engine/request.h"
#include "engine/schedule.h"
#include "engine/speculation.h"
#include "engine/state_cache.h"
#include "engine/stream.h"
#include "model/exits.h"
#include "model/model.h"
#include "model/sequence.h"

namespace hearth {

class TokenMasks;

struct EngineOptions {
  int parallel = 1;  // sequences at once
  KvType kv_type = KvType::kF16;
  int queue_max = 64;     // requests waiting; more are refused with kBusy
  int prefill_max = 512;  // rows of one chunk of prompts
  int kept_max = 64;      // finished sequences kept for prompts that begin as they do
  int kv_pages_max = 0;  // of keys and values in memory, as set_kv_pages_max() has it; 0: what kept sequences take, too
  double patience_seconds = 30;  // who has waited longer gets a place out of turn, one such request in each such time
  // Tokens guessed and checked in one step (speculation.h), for each sequence: at most so many if there are any, whether it pays or
  // not; 0: none; -1: as many as pay, up to kDraftMax. Answers are the same.
  int drafts_max = -1;
  bool may_switch_precision = false;  // set_precision() is allowed: answers then depend on when it is called
  // Where the state of finished and parked sequences goes when memory gets short or the engine ends; null: nowhere, and tokens run again.
  // Needs a digest that tells the model from others.
  std::shared_ptr<StateCache> state_cache{};
  std::string model_digest{};
  std::shared_ptr<Pacer> pacer{};  // null: as fast as it goes
  // Where the layers are, for a model whose decoder has none; null: in the decoder. State then stays where it is: no state_cache, no
  // adapters, no other precision.
  std::shared_ptr<Chain> chain{};
  // Where the head is asked first; null: in the decoder, which answers as well whenever that one does not. Not with exits or other
  // precisions.
  std::shared_ptr<OutputHead> head{};
  std::shared_ptr<const ExitFile> exits{};  // null: no token leaves early, whatever a request says
  double exit_kld = 0;                      // of requests that do not say (Request::exit_kld)
  bool exit_draft = false;                  // the model guesses for itself by its exits
};

// Counters go up only.
struct EngineStats {
  int running = 0, waiting = 0, parked = 0, kept = 0;
  int64_t kv_positions_max = 0, kv_positions_used = 0, kv_position_bytes = 0;
  uint64_t requests = 0, steps = 0, preemptions = 0, refused = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  uint64_t states_written = 0, states_read = 0,
           states_lost = 0;  // to disk and from there; that could not be written or read
  std::array<uint64_t, kDraftSources.size()> drafted_tokens{}, accepted_tokens{};  // run, and of them those kept
  double prompt_seconds = 0, decode_seconds = 0;                                   // that steps took
  double prompt_row_seconds = 0, decode_step_seconds = 0;
  // Of memory: what set_memory() allowed (0: no bound), what it made of it, and why not more.
  uint64_t bytes_max = 0;
  uint64_t weight_bytes = 0, streamed_bytes = 0;  // in memory; read from disk for each pass through the layers
  uint64_t own_bytes = 0;                         // anonymous memory of keys and values and of streamed weights
  std::string memory_problem{};
  // Of weights that do not all stay in memory: read from disk; times an expert was in memory when rows needed it, and was not.
  uint64_t weight_read_bytes = 0, expert_hits = 0, expert_misses = 0;
};

class Engine {
 public:
  // Takes over the model. KV room for `parallel` full contexts is reserved (and taken as it fills). `draft`: a smaller model on the same
  // backend to guess with (draft_model.h), while no more than one sequence generates.
  static Result<std::unique_ptr<Engine>> create(Model model, const EngineOptions& options,
                                                std::optional<Model> draft = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Refuses at once what cannot work: kInvalidArgument, kLimit (longer than the context), kBusy (queue full, or the deadline
  // cannot be met; with the estimate).
  Result<std::unique_ptr<Stream>> submit(Request request);

  // Bits of the model's nested matrices, 8 or 4: one for all, or one for each unit (Decoder::set_bits). From any thread; holds
  // from the next step on. State computed at another precision is not gone on from, but that of requests that run.
  // kInvalidArgument if the options do not allow it or the model has no low planes.
  Result<void> set_precision(std::vector<int> bits);

  // Weights, keys and values in so many bytes, from the next step on, and more of them again when there is room. Requests that run go
  // on, with the same tokens; where nothing is left to give, what there is stays as it is (EngineStats::memory_problem). From any
  // thread.
  void set_memory(uint64_t bytes);
  // So many pages of keys and values (kKvPagePositions each) may be in memory from the next step on, at least those of one context:
  // what is kept beyond goes to disk, sequences that run are parked, and the memory goes back to the system. From any thread.
  void set_kv_pages_max(int pages);

  // A conversation as a file (state_file.h), to go on with it later or elsewhere: the state of all of `tokens`, which run first where that
  // has been lost. Gives how many tokens the file has state of. Both block; any thread but the engine's.
  Result<int> save_session(const std::string& tenant, std::vector<Token> tokens, std::string note,
                           const std::filesystem::path& path, const Key& key);
  // Takes one over: the tenant's requests that begin with its tokens go on from there. kInvalidArgument, saying in what it differs, if it
  // was made by another model, KV type or precision, or is another tenant's; what StateFile says.
  Result<StateIndex> load_session(const std::string& tenant, const std::filesystem::path& path, const Key& key);

  [[nodiscard]] const Model& model() const { return model_; }
  // Of the draft model, with its state, and of exit heads.
  [[nodiscard]] int64_t draft_bytes() const { return draft_bytes_ + (exit_heads_ ? exit_heads_->bytes() : 0); }
  [[nodiscard]] EngineStats stats() const;
  [[nodiscard]] const Chain* chain() const { return options_.chain.get(); }

 private:
  struct Active;
  class ScoreBatch;
  struct Kept {  // a sequence that is finished or parked, from whose state requests can go on
    SequenceId sequence;
    std::string tenant;
    std::shared_ptr<const Adapter> adapter;
    std::string precision;
    std::vector<Token> tokens;
    std::shared_ptr<const StateTransfer> arriving{}, writing{};  // under way from disk, or to it
    bool saved = false;                                          // all of it is on disk, or cannot be
  };
  struct Written {  // pages that stay until they are on disk
    std::shared_ptr<const StateTransfer> transfer;
    SequenceId sequence;
  };
  struct Ran {  // a sequence's part of the step
    Active* active;
    int32_t row;      // whose logits give the next token; rows of drafted tokens follow
    bool all_logits;  // its sampler has to see all of them
    int done = 0;     // drafted tokens that were kept, so that row + done gives the next one
    bool over = false;
  };
  struct Posted {  // a step on its way through a chain, with what step() has of its own
    std::vector<Token> tokens;
    std::vector<SequenceRows> rows;
    std::vector<Ran> ran;
    std::vector<float> stream;
    int prompt_rows, decode_rows, drafted;
  };
  struct Answers {  // a tenant's
    std::string tenant;
    DraftIndex index;
  };
  struct Tenant {
    double served = 0;  // tokens run, those of cached prompts not counted
    int requests = 0;   // waiting or running
  };
  struct Prefix {  // of a prompt, among the sequences there are
    SequenceId sequence = -1;
    int length = 0;
    int kept = -1;  // index into kept_, or -1: an active one's
  };

  Engine(Model model, const EngineOptions& options);
  void work(const std::stop_token& stop);
  void keep_pace(const std::stop_token& stop);

  // engine_admission.cc
  bool take_requests(std::stop_token stop);
  std::unique_ptr<Active> choose_next();
  bool worth_waiting(const Active& active) const;
  Precedence precedence(const Active& active) const;
  void enter_tenant(const std::string& name);
  void leave_tenant(const std::string& name);
  void start(std::unique_ptr<Active> active);
  std::vector<std::unique_ptr<Active>>::iterator last_active();
  [[nodiscard]] int active_pages() const;
  [[nodiscard]] bool room_for(const Active& active) const;
  void park(std::vector<std::unique_ptr<Active>>::iterator active);
  Result<void> admit(Active& active);
  Result<int> take_over(Active& active);
  Prefix longest_prefix(const Active& active) const;
  Result<SequenceId> open_sequence();
  Result<void> check_deadline(const Request& request) const;
  void retire_finished();

  void switch_precision();

  // engine_memory.cc
  void fit_memory();
  Result<void> fit_into(uint64_t bytes);
  [[nodiscard]] int pages_to_end(const Active& active) const;
  // engine_kept.cc
  void keep_or_release(Active& active);
  void keep(Active& active);
  bool release_kept(size_t index, bool save_state = true);
  [[nodiscard]] bool worth_saving(const Kept& kept) const;
  void save(Kept& kept, SequenceId snapshot);
  void write_behind();
  bool settle_transfers();
  void limit_pages();
  void keep_to_pages(int pages);
  bool make_room(bool at_once = false);
  bool fetch(Active& active, bool ahead);
  [[nodiscard]] StateOwner state_owner(const std::string& tenant, const std::string& precision) const;
  [[nodiscard]] StateCache::Ended waker();

  // engine_sessions.cc
  void between_steps(std::function<void()> errand);
  void run_errands();
  SequenceId snapshot_of(const std::string& tenant, std::vector<Token>& tokens);
  Result<void> check_fits(const StateIndex& index, const StateOwner& own) const;

  // engine_step.cc
  void step();
  void choose_tokens();
  bool run_rows();
  void start_over();
  // engine_chain.cc
  bool run_through_chain();
  bool run_rows_through_chain();
  void drain();
  bool post_rows();
  bool collect_rows();
  bool is_there(const Result<Chain::Ran>& ran);
  void compose_rows();
  void end_if_over(Active& active);
  void share_energy();
  bool token_is_due(Active& active);
  [[nodiscard]] std::span<const float> wanted_stream();
  void find_likely(int count);
  void find_logits();
  void sample_from_top();
  void sample_from_all();
  void go_on(Ran& ran);
  bool sample_top(Active& active, std::span<Token> tokens, std::span<float> logits);
  void sample_row(Active& active, std::span<float> logits);
  void tell_prompt(Active& active, int first_row, int position, int count);
  [[nodiscard]] TokenLogprob told(const Active& active, std::span<const float> logits, Token token) const;
  void take_token(Active& active, Token token, TokenLogprob* logprob = nullptr);
  [[nodiscard]] bool only_the_end_may_follow(Active& active) const;
  void finish(Active& active, Finish finish);
  void measure_step(double seconds, uint64_t tokens);
  void publish_stats(double seconds);
  void publish_kept();

  // engine_exit.cc
  Result<void> use_exits();
  Result<void> choose_exit(Active& active) const;
  [[nodiscard]] std::string state_precision(const Active& active) const;

  // engine_drafts.cc
  void find_drafts();
  void find_draft(Active& active);
  [[nodiscard]] int drafts_allowed(const Active& active) const;
  bool add_to_draft(Active& active, Token token, int match);
  [[nodiscard]] double chance_of(const Active& active, DraftSource source, int match) const;
  void guess_by_model(Active& active, int most);
  void judge_draft(Active& active, Token token);
  bool next_row_counts(Active& active, int row);
  [[nodiscard]] const DraftIndex* answers_of(const std::string& tenant) const;
  void remember_answer(const Active& active);

  // engine_scores.cc
  void begin_scores(Active& active, std::span<const float> logits);
  void finish_scores(Active& active);

  Model model_;
  EngineOptions options_;
  std::unique_ptr<SequenceStore> store_;
  std::once_flag masks_made_;
  std::unique_ptr<TokenMasks> masks_;  // from the first request with a grammar on

  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::unique_ptr<Active>> queue_;
  std::map<std::string, Tenant, std::less<>> tenants_;  // those with requests
  EngineStats stats_;
  const WeightStream* weights_ = nullptr;  // of the model, once it has one; like stats_ for other threads
  uint64_t arrivals_ = 0;
  std::vector<int> wanted_bits_;  // empty: as they are
  std::optional<uint64_t> wanted_bytes_;
  int wanted_pages_ = 0;  // 0: as it is
  bool news_ = false;     // for an engine that has nothing to do
  std::vector<std::function<void()>> errands_;
  int64_t rows_ahead_[3] = {};  // tokens of prompts that wait in running sequences, per class

  // The engine thread's alone.
  std::vector<std::unique_ptr<Active>> active_, parked_;
  std::vector<Waiting> waiting_;                          // of choose_next; kept, as those of a step below
  std::chrono::steady_clock::time_point last_overdue_{};  // when a place was last given out of turn
  std::vector<Kept> kept_;                                // least recently used first
  std::vector<Written> written_;                          // under way to disk, oldest first
  std::string precision_;                                 // Decoder::precision()
  size_t turn_ = 0;
  Pace pace_;
  RowCosts row_costs_;
  Acceptance acceptance_;  // of all drafts
  std::unique_ptr<ExitHeads> exit_heads_;
  std::unique_ptr<Guesser> guesser_;
  int64_t draft_bytes_ = 0;
  int steps_unguessed_ = 0;       // since the guesser was asked last
  double guessing_seconds_ = 0;   // of the step, that the guesser took
  std::vector<Answers> answers_;  // least recently used first
  std::array<uint64_t, kDraftSources.size()> drafted_{}, accepted_{};
  Pacing pacing_;
  // Of one step; kept, so that a step allocates nothing.
  std::vector<Runnable> runnables_;
  std::vector<Share> shares_;
  std::vector<std::span<const double>> chances_;  // of drafts, and what was chosen, one per share
  std::vector<int> draft_counts_;
  std::vector<Token> tokens_;
  std::vector<SequenceRows> rows_;
  std::vector<const Adapter*> adapters_;  // one per sequence of rows_
  std::vector<SequenceOp> ops_;           // with a chain: since its last step
  std::vector<float> stream_;             // likewise: of candidates' rows
  std::deque<Posted> posted_;             // likewise: under way, oldest first
  std::vector<ExitPolicy> exits_;         // likewise
  std::vector<Ran> ran_;                  // then those of them whose next token is due
  std::vector<int32_t> wanted_;           // rows of logits
  std::vector<Token> top_tokens_;
  std::vector<float> logits_;
  std::vector<float> head_rows_;  // with a head elsewhere: what it is asked about
  std::vector<float> raw_logits_;
  std::vector<Active*> scored_;
  int prompt_rows_ = 0, decode_rows_ = 0, step_drafted_ = 0, step_accepted_ = 0;
  bool draining_ = false;  // no further step is posted
  bool crowded_ = false;   // there was no room for all that run
  uint64_t tokens_out_ = 0, states_written_ = 0, states_read_ = 0, states_lost_ = 0;
  std::jthread thread_;  // last: joins before anything above goes
};

}  // namespace hearth
