using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>A model directory against benchmarks, one after the other: the options that z1 eval has for it, and the run.</summary>
internal sealed class EvalModel
{
    private const int SecondsBetweenLines = 10;

    private readonly Option<string?> _directory = new("--model") { Description = "answer with this model (Hugging Face directory)" };
    private readonly Option<bool> _alpaca = new("--alpaca")
    {
        Description = "the published run's prompt text instead of the chat template",
    };
    private readonly Option<int?> _samples = new("--n") { Description = "answers to each task instead of the benchmark's own number" };
    private readonly Option<double?> _temperature = new("--temperature") { Description = "0 is greedy; instead of the benchmark's own" };
    private readonly Option<double?> _topP = new("--top-p")
    {
        Description = "share of the probability that is drawn from; instead of the benchmark's own",
    };
    private readonly Option<ulong> _seed = new("--seed") { Description = "decides, with task and number of the sample, what is drawn" };
    private readonly Option<int?> _tokens = new("--max-new-tokens") { Description = "longest answer instead of the benchmark's own" };
    private readonly Option<int> _context = new("--context")
    {
        Description = "longest sequence, prompt and answer, tokens; 0 takes the model's own",
    };
    private readonly Option<int> _slots = new("--slots") { Description = "sequences decoded at once", DefaultValueFactory = _ => 64 };
    private readonly Option<int> _cache = new("--cache-tokens")
    {
        Description = "tokens that the cache holds, of all sequences; 0 gives every slot its longest",
    };
    private readonly Option<int> _workers = new("--workers") { Description = "programs at once; 0 takes one per core" };
    private readonly Option<double?> _floor = new("--floor-seconds")
    {
        Description = "least time limit of a program instead of the benchmark's own",
    };
    private readonly Option<bool> _allowChanged = new("--allow-changed")
    {
        Description = "go on with answers that were asked for in another way",
    };
    private readonly Option<string> _dtype = new("--dtype") { Description = "bf16 or fp32", DefaultValueFactory = _ => "bf16" };
    private readonly Option<string> _device = Devices.Option();

    public EvalModel()
    {
        _dtype.AcceptOnlyFromAmong("bf16", "fp32");
        PlanCommand.Within(_samples, 1, 100_000);
        PlanCommand.Within(_tokens, 1, 1_000_000);
        PlanCommand.Within(_temperature, 0, 100);
        PlanCommand.Within(_topP, 1e-6, 1);
        PlanCommand.Within(_floor, 0.01, 1e6);
        PlanCommand.Within(_context, 0, 10_000_000);
        PlanCommand.Within(_slots, 1, 4096);
        PlanCommand.Within(_cache, 0, int.MaxValue);
        PlanCommand.Within(_workers, 0, 1024);
    }

    public void AddTo(Command command)
    {
        foreach (var option in new Option[]
        {
            _directory, _alpaca, _samples, _temperature, _topP, _seed, _tokens, _context, _slots, _cache, _workers, _floor, _allowChanged,
            _dtype, _device,
        })
        {
            command.Options.Add(option);
        }
    }

    public string? Directory(ParseResult parsed) => parsed.GetValue(_directory);

    /// <summary>Answers and grades; the scores in the order of the benchmarks, or null when a signal ended it.</summary>
    /// <param name="parsed">the command line</param>
    /// <param name="chosen">benchmarks with their files and the tasks asked</param>
    /// <param name="folder">where the files go</param>
    /// <param name="keep">whether answers stay there when it ends early, so that the same command goes on</param>
    /// <param name="grading">how programs run, from a benchmark; paths and workers are filled in here</param>
    /// <param name="output">lines of progress</param>
    /// <param name="ended">told of each score</param>
    /// <param name="signal">ends it</param>
    public async Task<List<BenchmarkScore>?> RunAsync(
        ParseResult parsed, IReadOnlyList<(Benchmark Benchmark, IReadOnlyList<string> Files, IReadOnlyList<BenchmarkTask> Tasks)> chosen,
        string folder, bool keep, Func<Benchmark, EvaluationOptions> grading, TextWriter output, Action<BenchmarkScore> ended,
        StopSignal signal)
    {
        var directory = Directory(parsed)!;
        var codec = PromptCodec.Load(directory, parsed.GetValue(_alpaca) ? PromptFormat.Alpaca : PromptFormat.Chat);
        var context = Qwen2Config.Load(directory).MaxPositionEmbeddings;
        context = parsed.GetValue(_context) is > 0 and var given ? Math.Min(given, context) : context;
        var evaluations = new List<ModelEvaluation>();
        DecodeEngine? engine = null;
        ComputeStream? stream = null;
        try
        {
            int[] ends = [.. Qwen2Config.LoadEosTokenIds(directory).Append(codec.EndToken).Distinct().Order()];
            var model = keep ? ModelFiles.HashOf(directory) : "";
            stream = Devices.Open(parsed.GetValue(_device)!);

            // On a device the library chooses a product's algorithm by its rows, which are the slots; on a CPU by the processor.
            var (slots, device) = stream is CudaStream cuda ? (parsed.GetValue(_slots), cuda.Device.Numerics) : (0, $"cpu, {NativeLibraries.CpuProducts}");
            var (template, dtype) = (codec.Template?.Sha256 ?? "alpaca", parsed.GetValue(_dtype)!);
            foreach (var (benchmark, files, tasks) in chosen)
            {
                var evaluation = ModelEvaluation.Prepare(benchmark, tasks, codec, ends, Options(parsed, benchmark));
                evaluations.Add(evaluation);
                if (keep)
                {
                    evaluation.Keep(
                        EvaluationFiles.PathOf(folder, benchmark.Name, EvaluationFiles.Answers),
                        evaluation.FingerprintOf(model, template, ModelFiles.HashOf(files), dtype, device, slots, context),
                        parsed.GetValue(_allowChanged));
                }
            }

            var scores = new List<BenchmarkScore>();
            foreach (var evaluation in evaluations)
            {
                string PathOf(string ending) => EvaluationFiles.PathOf(folder, evaluation.Benchmark.Name, ending);
                var clock = Stopwatch.StartNew();
                var name = evaluation.Benchmark.Name;
                output.WriteLine(
                    $"{name}: {evaluation.Wanted} answers to {evaluation.Tasks.Count} tasks, {evaluation.Found} found, "
                    + $"{evaluation.Wanted - evaluation.Found} to do");
                output.Flush();
                var options = grading(evaluation.Benchmark) with
                {
                    FloorSeconds = parsed.GetValue(_floor) ?? evaluation.Benchmark.FloorSeconds,
                    Workers = parsed.GetValue(_workers),
                    JournalPath = PathOf(EvaluationFiles.Journal),
                    ResultsPath = PathOf(EvaluationFiles.Results),
                    DetailsPath = PathOf(EvaluationFiles.Details),
                };
                var run = evaluation.RunAsync(Engine, options, signal.Token);
                while (await Task.WhenAny(run, Task.Delay(TimeSpan.FromSeconds(SecondsBetweenLines))) != run)
                {
                    output.WriteLine($"{name}: {Line(evaluation, clock.Elapsed.TotalSeconds)}");
                    output.Flush();
                }

                var score = await run;
                evaluation.WriteSamples(PathOf(EvaluationFiles.Samples));
                EvaluationFiles.WriteScore(PathOf(EvaluationFiles.Score), score, withRun: false);
                EvaluationFiles.WriteJson(PathOf(EvaluationFiles.Times), json =>
                {
                    json.WriteStartObject();
                    json.WriteNumber("answers_found", evaluation.Found);
                    json.WriteNumber("answers_made", evaluation.Wanted - evaluation.Found);
                    json.WriteNumber("new_tokens", evaluation.NewTokens);
                    score.WriteRun(json);
                    json.WriteEndObject();
                });
                scores.Add(score);
                ended(score);
            }

            return scores;
        }
        catch (OperationCanceledException) when (signal.Token.IsCancellationRequested)
        {
            output.WriteLine(
                $"eval: stopped by {signal.Name}; {evaluations.Sum(e => e.Answered)} answers so far"
                + (keep ? ", the same command goes on from there" : ""));
            return null;
        }
        catch (Exception e) when (keep && e is InvalidInputException or SandboxException && evaluations.Exists(x => x.Answered > x.Found))
        {
            var made = evaluations.Sum(x => x.Answered - x.Found);
            throw new InvalidInputException($"{e.Message} [{made} answers of this run are kept; the same command goes on from there]", e);
        }
        finally
        {
            evaluations.ForEach(e => e.Dispose());
            engine?.Dispose();
            stream?.Dispose();
        }

        DecodeEngine Engine()
        {
            return engine ??= DecodeEngine.Open(stream!, directory, parsed.GetValue(_dtype) == "fp32", codec.Tokenizer, new DecodeEngineOptions
            {
                Slots = parsed.GetValue(_slots), Capacity = Math.Min(context, evaluations.Max(e => e.LongestSequence)),
                CacheTokens = parsed.GetValue(_cache),
            });
        }
    }

    private AnswerOptions Options(ParseResult parsed, Benchmark benchmark)
    {
        var own = AnswerOptions.Of(benchmark);
        return own with
        {
            Samples = parsed.GetValue(_samples) ?? own.Samples,
            Temperature = parsed.GetValue(_temperature) ?? own.Temperature,
            TopP = parsed.GetValue(_topP) ?? own.TopP,
            Seed = parsed.GetValue(_seed),
            MaxNewTokens = parsed.GetValue(_tokens) ?? own.MaxNewTokens,
        };
    }

    private static string Line(ModelEvaluation e, double seconds) => string.Create(
        CultureInfo.InvariantCulture,
        $"{e.Answered}/{e.Wanted} answered, {e.Graded} graded, {e.NewTokens} tokens, {e.NewTokens / seconds:0.#} tokens/s");
}
