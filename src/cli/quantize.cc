#include "compress/quantize.h"

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>

#include "base/limits.h"
#include "base/mapped_file.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "cli/settings.h"
#include "compress/mix.h"
#include "compress/quantize_report.h"
#include "compress/text_chunks.h"
#include "compress/type_plan.h"
#include "compress/write_model.h"
#include "model/model.h"
#include "store/sha256.h"

namespace hearth::cli {
namespace {

constexpr int kChunkTokens = 512;
constexpr std::string_view kUsualType = "i4", kMixed = "mixed";

struct Options {
  ModelOptions model;
  std::string out, type, head_type, calibrate, format, report, measured;
  std::vector<std::string> keep, tensor_types;
  compress::MixTarget target;
  int chunks = 64, judged = 4;
  uint64_t seed = 1;
  double damping = 0.01;
  bool dry_run = false, json = false;
};

Result<const TypeInfo*> type_named(std::string_view option, std::string_view name) {
  if (const TypeInfo* type = find_type(name)) return type;
  std::string names;
  for (const TypeInfo& type : all_types()) names += fmt::format("{}{}", names.empty() ? "" : ", ", type.name);
  return fail(Code::kInvalidArgument, "{} {}: no such type; there are {}", option, name, names);
}

// Chunks of the text, all of one length, in an order that the seed gives: the first are for calibration, the last for judging.
Result<void> take_chunks(const Options& options, const compress::SourceModel& source, compress::QuantizeOptions& out) {
  if (options.calibrate.empty()) return {};
  const auto length = static_cast<size_t>(std::min(kChunkTokens, source.context_max()));
  const TextSide text = TRY(load_text(source.checkpoint()));
  const std::string content = TRY(read_file(options.calibrate, limits::kPromptBytes));
  compress::Chunks chunks = compress::shuffled_chunks(*text.tokenizer, content, length, options.seed);
  const size_t n = chunks.size();
  if (n < 2)
    return fail(Code::kInvalidArgument, "--calibrate {}: {} pieces of {} tokens; at least 2 are needed, 68 are usual",
                options.calibrate, n, length);
  const size_t judged = std::min<size_t>(static_cast<size_t>(options.judged), n / 4 + 1);
  const size_t calibration = std::min<size_t>(static_cast<size_t>(options.chunks), n - judged);
  for (size_t i = 0; i < calibration + judged; ++i)
    (i < calibration ? out.calibration : out.judged).push_back(std::move(chunks[i]));
  return {};
}

// What is done, before it is done.
struct Job {
  std::filesystem::path path;  // of the source
  std::string sha256;          // of its files' digests
  compress::TypePlan plan;
  std::vector<const PlannedTensor*> mixed;  // matrices whose type is still to be chosen
  bool gguf = false;
  compress::QuantizeOptions work;
};

Result<std::vector<compress::TypeRule>> rules_of(const Options& options, const compress::SourceModel& source) {
  std::vector<compress::TypeRule> rules;
  for (const std::string& name : options.keep) rules.push_back({name, nullptr});
  for (const std::string& rule : options.tensor_types) {
    const size_t equals = rule.find('=');
    if (equals == 0 || equals == std::string::npos)
      return fail(Code::kInvalidArgument, "--tensor-type {}: expected NAME=TYPE, as in ffn_down=q6_k", rule);
    rules.push_back(
        {rule.substr(0, equals), TRY(type_named("--tensor-type", std::string_view(rule).substr(equals + 1)))});
  }
  for (const compress::TypeRule& rule : rules)
    if (std::ranges::none_of(source.tensors(), [&](const auto& tensor) { return tensor.name.contains(rule.part); }))
      return fail(Code::kInvalidArgument, "{} {}: no tensor of the model is named so",
                  rule.type ? "--tensor-type" : "--keep", rule.part);
  return rules;
}

// The types that are given, and which matrices' are to be chosen.
Result<void> plan_types(const Options& options, const compress::SourceModel& source, Job& job) {
  const std::vector<compress::TypeRule> rules = TRY(rules_of(options, source));
  if (options.type != kMixed) {
    const TypeInfo* type = TRY(type_named("--type", options.type));
    const TypeInfo* head = options.head_type.empty() ? &compress::usual_head_type(source, *type)
                                                     : TRY(type_named("--head-type", options.head_type));
    job.plan = compress::uniform_plan(source, *type, *head, rules);
  } else {
    if (options.calibrate.empty() || options.judged == 0)
      return fail(Code::kInvalidArgument,
                  "a mix is chosen by measuring: name a text with --calibrate, and leave --judge-chunks at 1 or more");
    for (const PlannedTensor* tensor : compress::quantised_matrices(source)) {
      const compress::TypeRule* rule = compress::rule_for(rules, tensor->name);
      const bool head = tensor == &source.head() && !options.head_type.empty();
      if (!rule && head)
        job.plan[tensor->name] = TRY(type_named("--head-type", options.head_type));
      else if (!rule)
        job.mixed.push_back(tensor);
      else if (rule->type)
        job.plan[tensor->name] = rule->type;
    }
  }
  for (const auto& [name, type] : job.plan)
    if (job.gguf && is_own(type->type))
      return fail(Code::kInvalidArgument, "{} is a type of Hearth's own, which GGUF does not have; use --format pack",
                  type->name);
  return compress::check(source, job.plan);
}

Result<Job> prepare(const Options& options, const std::filesystem::path& path, const compress::SourceModel& source) {
  Job job{.path = path, .sha256 = {}, .plan = {}, .mixed = {}, .gguf = options.format == "gguf", .work = {}};
  if (options.format.empty()) job.gguf = options.out.ends_with(".gguf");
  std::error_code error;
  if (std::filesystem::equivalent(path, options.out, error))
    return fail(Code::kInvalidArgument, "{}: source and result are one file; name another", options.out);
  TRY(plan_types(options, source, job));
  Sha256 digest;
  for (const std::filesystem::path& file : TRY(source_files(path))) {
    const std::string hex = TRY(sha256_of_file(file));
    digest.update(std::as_bytes(std::span(hex)));
  }
  job.sha256 = digest.hex();
  job.work.n_threads = options.model.n_threads > 0 ? options.model.n_threads : TRY(thread_count_from_environment());
  job.work.damping = static_cast<float>(options.damping);
  TRY(take_chunks(options, source, job.work));
  return job;
}

std::string kind_of(std::string_view name) {
  std::string kind(name.substr(0, name.rfind('.')));
  if (layer_of(name) >= 0) kind = kind.substr(kind.find('.', 4) + 1);
  return kind;
}

// What has been done so far.
struct Done {
  std::vector<compress::MatrixChoices> measured;  // of a mix
  std::optional<compress::Mix> mix;
  std::optional<compress::Quantized> result;
};

compress::ReportedTensor reported(const PlannedTensor& tensor, const compress::TypePlan& plan, const Done& done) {
  const bool matrix = !tensor.matrix.data.empty();
  const auto planned = plan.find(tensor.name);
  const TypeInfo& from = info(matrix ? tensor.matrix.type : Type::kF32);
  const TypeInfo& type = planned != plan.end() ? *planned->second : from;
  compress::ReportedTensor row{.name = tensor.name,
                               .layer = layer_of(tensor.name),
                               .kind = kind_of(tensor.name),
                               .shape = {tensor.shape.begin(), tensor.shape.begin() + tensor.n_dims},
                               .from = std::string(from.name),
                               .type = std::string(type.name),
                               .bytes = compress::SourceModel::bytes_as(tensor, type)};
  if (!matrix) row.reason = "stays: a vector";
  if (matrix && planned == plan.end()) row.reason = "stays as it was";
  const auto measured = std::ranges::find(done.measured, tensor.name, &compress::MatrixChoices::name);
  if (measured != done.measured.end())
    for (const compress::TypeChoice& choice : measured->choices)
      row.measured.push_back(
          {.type = std::string(choice.type->name), .bytes = choice.bytes, .mean_kld = choice.divergence});
  return row;
}

void add_result(const Options& options, const compress::Quantized& result, compress::QuantizeReport& report) {
  for (const compress::TensorOutcome& outcome : result.outcomes)
    std::ranges::find(report.tensors, outcome.name, &compress::ReportedTensor::name)->output_error =
        outcome.relative_error;
  std::error_code error;
  report.output.bytes = std::filesystem::file_size(options.out, error);
  const compress::Divergence& d = result.divergence;
  if (d.rows() == 0) return;
  report.output.quality = {
      .perplexity = result.perplexity, .mean_kld = d.mean(), .kld_p999 = d.percentile(0.999), .same_top = d.same_top()};
  report.source.quality = {.perplexity = result.source_perplexity};
  report.trade.push_back({.kind = compress::TradePoint::Kind::kResult,
                          .label = options.type,
                          .bytes = report.output.bytes,
                          .mean_kld = d.mean()});
}

compress::QuantizeReport report_of(const Options& options, const Job& job, const compress::SourceModel& source,
                                   const Done& done) {
  compress::QuantizeReport report;
  report.command = fmt::format("hearth quantize {} {} --type {}", short_name(options.model),
                               std::filesystem::path(options.out).filename().string(), options.type);
  if (options.target.bytes) report.command += fmt::format(" --target-bytes {}", *options.target.bytes);
  if (options.target.divergence) report.command += fmt::format(" --target-kld {:g}", *options.target.divergence);
  report.version = HEARTH_VERSION;
  report.dry_run = options.dry_run;
  report.seed = options.seed;
  report.target_bytes = options.target.bytes;
  report.target_kld = options.target.divergence;
  report.source = {.path = job.path.filename().string(), .format = "model", .bytes = source.checkpoint().file_bytes()};
  report.source_sha256 = job.sha256;
  report.output = {.path = options.out, .format = job.gguf ? "GGUF" : "pack"};
  for (const PlannedTensor& tensor : source.tensors()) {
    report.tensors.push_back(reported(tensor, done.mix ? done.mix->plan : job.plan, done));
    report.output.bytes += report.tensors.back().bytes;
  }
  if (done.mix) {
    report.output.bytes = done.mix->expected.bytes;
    for (const compress::AllocationSum& point : done.mix->curve)
      report.trade.push_back({.kind = compress::TradePoint::Kind::kPlan,
                              .label = "expected of a mix",
                              .bytes = point.bytes,
                              .mean_kld = point.divergence});
  }
  if (done.result) add_result(options, *done.result, report);
  if (!options.calibrate.empty()) {
    const std::string digest = sha256_of_file(options.calibrate).value_or("");
    const auto tokens_of = [](const compress::Chunks& chunks) {
      return chunks.empty() ? 0 : chunks.size() * chunks.front().size();
    };
    report.calibration = {options.calibrate, digest, tokens_of(job.work.calibration)};
    report.judge = {options.calibrate, digest, tokens_of(job.work.judged)};
  }
  return report;
}

Result<void> write(const Options& options, const Job& job, const compress::SourceModel& source,
                   const compress::Quantized& result, Backend& backend) {
  if (job.gguf) return compress::write_gguf(source, result.tensors, options.out);
  return compress::write_pack(source, result.tensors, TRY(digest_from_hex(job.sha256)), backend, job.work.n_threads,
                              options.out);
}

Result<void> print(const Options& options, const compress::QuantizeReport& report) {
  const auto json = compress::to_json(report);
  if (!options.report.empty()) {
    const std::string text =
        options.report.ends_with(".html") ? compress::to_html(report) : boost::json::serialize(json) + "\n";
    TRY(write_file_atomically(options.report, std::as_bytes(std::span(text))));
  }
  if (options.json) {
    fmt::print("{}\n", boost::json::serialize(json));
    return {};
  }
  if (options.dry_run) {
    std::vector<std::vector<std::string>> rows{{"tensor", "from", "to", "bytes", "expected KLD"}};
    for (const compress::ReportedTensor& tensor : report.tensors) {
      const auto measured = std::ranges::find(tensor.measured, tensor.type, &compress::MeasuredType::type);
      rows.push_back({tensor.name, tensor.from, tensor.type, human_bytes(tensor.bytes),
                      measured == tensor.measured.end() ? "" : fmt::format("{:.6f}", measured->mean_kld)});
    }
    fmt::print("{}", table(rows));
  }
  uint64_t weights = 0, bytes = 0;
  for (const compress::ReportedTensor& tensor : report.tensors) {
    uint64_t n = 1;
    for (const uint64_t size : tensor.shape) n *= size;
    weights += n, bytes += tensor.bytes;
  }
  fmt::print("{}: {}, {:.3f} bits per weight\n", report.output.path, human_bytes(report.output.bytes),
             8.0 * static_cast<double>(bytes) / static_cast<double>(weights));
  if (const auto& quality = report.output.quality)
    fmt::print(
        "against the source on text it was not made from: mean KLD {:.6f}, 99.9 % {:.6f}, same top token {:.2f} %\n",
        *quality->mean_kld, *quality->kld_p999, 100 * *quality->same_top);
  return {};
}

// Measures and chooses where the type is mixed, and quantises unless it is a dry run.
Result<Done> work(const Options& options, const Job& job, const compress::SourceModel& source, Backend& backend) {
  Done done;
  if (job.mixed.empty()) {
    if (!options.dry_run) done.result = TRY(compress::quantize(source, job.plan, backend, job.work));
    return done;
  }
  const auto types = compress::mixed_types(job.gguf);
  if (options.measured.empty()) {
    done.measured = TRY(compress::measure(source, job.mixed, types, backend, job.work));
  } else {
    done.measured = TRY(compress::choices_of(job.mixed, types));
    const std::string text = TRY(read_file(options.measured, limits::kJsonFileBytes));
    if (auto read = compress::read_measured(text, job.sha256, done.measured); !read)
      return within(options.measured, read.error());
  }
  const compress::FileBytes file_bytes = [&](const compress::TypePlan& plan) {
    return compress::file_bytes(source, plan, job.gguf, backend);
  };
  if (options.dry_run) {
    done.mix = TRY(compress::choose_mix(done.measured, job.plan, options.target, file_bytes));
    return done;
  }
  compress::Mixed mixed =
      TRY(compress::quantize_mixed(source, done.measured, job.plan, options.target, file_bytes, backend, job.work));
  done.mix = std::move(mixed.mix);
  done.result = std::move(mixed.quantized);
  return done;
}

Result<void> quantize(Options& options) {
  const auto begun = std::chrono::steady_clock::now();
  if (options.target.bytes || options.target.divergence) {
    if (!options.type.empty() && options.type != kMixed)
      return fail(Code::kInvalidArgument,
                  "a target chooses among types: --type {} leaves nothing to choose; use --type mixed", options.type);
    options.type = kMixed;
  }
  if (options.type.empty()) options.type = kUsualType;
  if (options.type == kMixed && !options.target.bytes && !options.target.divergence)
    return fail(Code::kInvalidArgument, "--type mixed needs a target: --target-bytes 90MB, or --target-kld 0.02");
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, options.model.model));
  const std::unique_ptr<Backend> backend = TRY(make_backend(options.model));
  const compress::SourceModel source = TRY(compress::SourceModel::open(path, *backend));
  Job job = TRY(prepare(options, path, source));
  Done done;
  {
    ProgressLine progress("quantising");
    auto phase = begun;
    double before = 0;
    job.work.progress = [&](std::string_view what, double share) {
      const auto now = std::chrono::steady_clock::now();
      if (share < before) phase = now;  // another round
      before = share;
      const double seconds = std::chrono::duration<double>(now - phase).count();
      progress.note(
          fmt::format("{} {:.0f} %, {:.0f} s{}", what, 100 * share, seconds,
                      share > 0.05 ? fmt::format(", about {:.0f} s left", seconds * (1 - share) / share) : ""));
      return true;
    };
    done = TRY(work(options, job, source, *backend));
  }
  if (done.result) TRY(write(options, job, source, *done.result, *backend));
  compress::QuantizeReport report = report_of(options, job, source, done);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  report.peak_rss_bytes = peak_rss_bytes();
  return print(options, report);
}

std::function<Result<void>()> declare(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("IN", options->model.model, "A name in the store, a .gguf file or a Hugging Face folder")->required();
  app.add_option("OUT", options->out, "The file to write")->required();
  app.add_option("--type", options->type,
                 "Of the matrices: i4, i4s, i5, i6, i8 (packs only), or a type of GGUF's; mixed: each its own "
                 "(default: i4, with a "
                 "target mixed)");
  auto* bytes = app.add_option("--target-bytes", options->target.bytes,
                               "Mix types so that the file has at most so many bytes (90MB) and diverges least")
                    ->transform(CLI::AsSizeValue(true));
  app.add_option("--target-kld", options->target.divergence,
                 "Mix types so that the mean KL divergence is at most this and the file is small")
      ->check(CLI::PositiveNumber)
      ->excludes(bytes);
  app.add_option("--measured", options->measured,
                 "A JSON report of this model: what it measured for a mix is not measured again");
  app.add_option(
         "--tensor-type", options->tensor_types,
         "NAME=TYPE: tensors with this name or part of it get this type; several times, the last that fits counts")
      ->allow_extra_args(false);
  app.add_option("--head-type", options->head_type,
                 "Of the matrix that gives the logits (default: q6_k or q8_0 by its rows; with 8 bits the same)");
  app.add_option("--calibrate", options->calibrate,
                 "A text like those the model will read; without one errors are not fed back");
  app.add_option("--chunks", options->chunks, "Pieces of 512 tokens of it to calibrate on")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--judge-chunks", options->judged, "Further pieces of it on which source and result are compared")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app.add_option("--format", options->format, "pack or gguf (default: gguf if OUT ends so, else pack)")
      ->check(CLI::IsMember({"pack", "gguf"}));
  app.add_option("--keep", options->keep, "Tensors that stay as they are: a name or a part of it; several times")
      ->allow_extra_args(false);
  app.add_option("--damping", options->damping, "How little rare inputs are trusted")
      ->check(CLI::Range(1e-6, 10.0))
      ->capture_default_str();
  app.add_option("--seed", options->seed, "Which pieces of the text are used")->capture_default_str();
  app.add_option("--report", options->report, "A file for the report: a page if it ends in .html, else JSON");
  app.add_option("--threads,-t", options->model.n_threads, "Threads (default: physical cores, or HEARTH_THREADS)")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--dry-run", options->dry_run, "Print which tensor would get which type and bytes, and write nothing");
  app.add_flag("--json", options->json, "Print the report as JSON");
  return [options] { return quantize(*options); };
}

}  // namespace

extern const Command kQuantize;
const Command kQuantize{
    "quantize", "make a model smaller: fewer bits per weight, chosen for least harm",
    "  hearth quantize full.gguf small.pack --type i4 --calibrate text.txt --report report.html\n"
    "  hearth quantize full.gguf small.gguf --type q4_0 --calibrate text.txt\n"
    "  hearth quantize full.gguf small.pack --target-bytes 90MB --calibrate text.txt --report report.html\n"
    "  hearth quantize full.gguf small.gguf --type iq4_nl --dry-run --json",
    declare};

}  // namespace hearth::cli
