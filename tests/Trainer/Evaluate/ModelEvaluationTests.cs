using System.Text.Json;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Tests.Trainer.Serve;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Data.Journal;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Evaluate.Benchmarks;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>What a model is asked, when its answers are graded, and what is on disk; with an engine whose answers the test
/// decides.</summary>
[Collection("sandbox")]
public sealed class ModelEvaluationTests : IDisposable
{
    private static readonly HumanEvalTask[] s_tasks =
    [
        new("T/0", "def f():\n", "f", "def check(c):\n    assert c() == 1\n", "    return 1\n", "plain"),
        new("T/1", "def g():\n", "g", "def check(c):\n    assert c() == 2\n", "    return 2\n", "plain"),
        new("T/2", "def h():\n", "h", "assert h() == 3\n"),
    ];

    private readonly ServedModel _model = new();
    private readonly string _folder = Directory.CreateTempSubdirectory("z1-evaluation-").FullName;
    private readonly Lazy<Sandbox> _sandbox = new(() =>
    {
        try
        {
            return Sandbox.Create();
        }
        catch (SandboxException e)
        {
            Assert.Skip(e.Message);
            throw;
        }
    });

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private string AnswerFile => Path.Combine(_folder, "answers.jsonl");

    public void Dispose()
    {
        _model.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Theory]
    [InlineData(PromptFormat.Chat, "<|im_start|>user\nSay it.<|im_end|>\n<|im_start|>assistant\n```python\ndef ")]
    [InlineData(PromptFormat.Alpaca, "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        + "### Instruction:\nSay it.\n\n### Response:```python\ndef ")]
    public async Task A_prompt_is_the_users_turn_and_the_beginning_of_the_models(PromptFormat format, string expected)
    {
        var codec = PromptCodec.Load(_model.Directory, format);
        var task = HumanEvalBenchmark.TaskOf(s_tasks[0]) with { Prompt = "Say it.", Prefix = "```python\ndef " };
        var benchmark = new HumanEvalBenchmark();
        using var engine = new AnsweringEngine((_, _) => "    return 1\n");
        using var evaluation = ModelEvaluation.Prepare(benchmark, [task], codec, [7, 9], AnswerOptions.Of(benchmark));
        await evaluation.RunAsync(() => engine, Grading(), Token);
        var asked = Assert.Single(engine.Asked);
        Assert.Equal(codec.Tokenizer.Encode(expected), asked.Prompt);
        Assert.Equal((1280, Sampling.Greedy), (asked.Options.MaxNewTokens, asked.Sampling));
        Assert.Equal([7, 9], asked.Options.EndTokens);
        Assert.Equal(benchmark.Stops, asked.Options.StopStrings);
    }

    /// <summary>Right answers come to 1 when the model gives them, when z1 eval score reads what z1 eval wrote, and as whole programs made
    /// elsewhere.</summary>
    [Theory]
    [InlineData("humaneval", 2)]
    [InlineData("humaneval+", 3)]
    [InlineData("mbpp", 2)]
    [InlineData("mbpp+", 5)]
    [InlineData("humaneval-pro", 1)]
    [InlineData("mbpp-pro", 1)]
    [InlineData("bigcodebench-lite-pro", 1)]
    [InlineData("bigcodebench-hard-complete", 1)]
    [InlineData("livecodebench", 2)]
    public async Task Right_answers_score_1_from_the_model_from_its_samples_and_as_whole_programs(string name, int tasks)
    {
        var benchmark = Benchmark.Find(name);
        var folder = TinyBenchmarks.Folder();
        var read = benchmark.Read(benchmark.Find(new DirectoryInfo(folder))!);
        using var engine = new AnsweringEngine((_, i) => RightAnswer(benchmark, read[i]) + "\n```\nThat is all.");
        using var evaluation = ModelEvaluation.Prepare(
            benchmark, read, PromptCodec.Load(_model.Directory, PromptFormat.Chat), [0], AnswerOptions.Of(benchmark) with { Samples = 1 });
        var score = await evaluation.RunAsync(() => engine, BenchmarkTests.Confined(benchmark), Token);
        Assert.Equal((tasks, 1.0), (score.Summary.Tasks.Count, score.Summary.PassAt1));
        var samples = Path.Combine(_folder, "samples.jsonl");
        evaluation.WriteSamples(samples);
        await File.AppendAllLinesAsync(
            samples, read.Where(t => t.Reference is not null).Select(t => JsonSerializer.Serialize(new { task_id = t.TaskId, solution = t.Reference })), Token);
        var json = Z1Here.Run("eval", "score", "--benchmark", name, "--data", folder, "--samples", samples, "--json").Json().GetProperty("benchmarks")[0];
        Assert.Equal((tasks, 1.0), (json.GetProperty("tasks").GetInt32(), json.GetProperty("pass_at_1").GetDouble()));
    }

    private static string RightAnswer(Benchmark benchmark, BenchmarkTask task) => (benchmark.Name, task.TaskId) switch
    {
        ("livecodebench", "1_A") => "So:\n```python\nprint(int(input()) ** 2)",
        ("livecodebench", _) => "```python\nclass Solution:\n    def total(self, xs, k):\n        return [sum(xs) * k, 1]",
        _ when benchmark.Extract(task, "").Mode == CompletionMode.Continuation => task.Reference![task.Context.Length..],
        _ => task.Reference!,
    };

    [Fact]
    public void LiveCodeBench_is_sampled_ten_times_as_published_and_the_others_are_greedy()
    {
        foreach (var benchmark in Benchmark.All)
        {
            var options = AnswerOptions.Of(benchmark);
            Assert.Equal(benchmark.Name == "livecodebench" ? (10, 0.2, 0.95) : (1, 0.0, 1.0), (options.Samples, options.Temperature, options.TopP));
        }
    }

    [Fact]
    public void A_draw_depends_on_seed_task_and_number_of_the_sample_alone()
    {
        var options = new AnswerOptions { Samples = 3, Temperature = 0.2, TopP = 0.95, Seed = 5, MaxNewTokens = 9 };
        var seeds = new HashSet<ulong>();
        foreach (var seed in (ulong[])[0, 5])
        {
            foreach (var task in (string[])["T/1", "T/11", "T/1\u0001", "1/T", ""])
            {
                for (var sample = 0; sample < 11; sample++)
                {
                    Assert.True(seeds.Add((options with { Seed = seed }).SamplingOf(task, sample).Seed));
                }
            }
        }

        // The formula, written out for a name of one byte.
        static ulong Next(ulong state, ulong part) => SplitMix64.Mix(unchecked(state + (SplitMix64.Step * (part + 1))));
        Assert.Equal(new Sampling(0.2f, 0.95f, 0, Next(Next(5, 'x'), 2)), options.SamplingOf("x", 2));
    }

    [Fact]
    public async Task An_answer_is_graded_while_the_next_one_is_written()
    {
        ModelEvaluation? running = null;
        using var engine = new AnsweringEngine((_, i) =>
        {
            Assert.True(SpinWait.SpinUntil(() => running!.Graded >= i, TimeSpan.FromSeconds(60)), $"answer {i} waits for {running!.Graded} verdicts");
            return "def f(): return 1\ndef g(): return 0\ndef h(): return 3";
        });
        using var evaluation = running = Prepare();
        var score = await evaluation.RunAsync(() => engine, Grading(), Token);
        Assert.Equal([1, 0, 1], score.Summary.Tasks.Select(t => t.Passed));
        Assert.Equal((3, 3, 0), (evaluation.Answered, evaluation.Graded, evaluation.Found));
    }

    [Fact]
    public async Task A_time_out_is_run_again_alone_only_when_nothing_is_generated_any_more()
    {
        // The second program ends at a fixed time of day, long after its first run's limit, and the engine's last answer comes later still.
        ModelEvaluation? running = null;
        var done = DateTimeOffset.MaxValue;
        using var engine = new AnsweringEngine((_, i) =>
        {
            SpinWait.SpinUntil(() => running!.Graded >= i && (i < 2 || DateTimeOffset.UtcNow > done), TimeSpan.FromSeconds(60));
            done = i == 1 ? DateTimeOffset.UtcNow.AddSeconds(7) : done;
            return i != 1
                ? "def g(): return 2\ndef h(): return 3"
                : $"def f():\n    import time\n    while time.time() < {done.ToUnixTimeMilliseconds() / 1e3:F3}: time.sleep(0.01)\n    return 1\n";
        });
        using var evaluation = running = Prepare(s_tasks[1], s_tasks[0], s_tasks[2]);
        var score = await evaluation.RunAsync(() => engine, Grading() with { FloorSeconds = 1.5, ReferenceFactor = 0 }, Token);
        Assert.Equal((1, 1, 1.0), (score.Summary.RunAgainAlone, score.Summary.ChangedVerdicts, score.Summary.PassAt1));
    }

    [Fact]
    public async Task A_prompt_that_does_not_fit_fails_by_name()
    {
        var codec = PromptCodec.Load(_model.Directory, PromptFormat.Chat);
        var longest = codec.Prompt(s_tasks[2].Prompt).Length;
        using var engine = new AnsweringEngine((_, _) => "def f(): return 1\ndef g(): return 2\ndef h(): return 3", longest + 1);
        using var evaluation = Prepare(s_tasks[0], s_tasks[1] with { Prompt = "def g():\n    '''" + new string('z', 400) + "'''\n" }, s_tasks[2]);
        var results = Path.Combine(_folder, "results.jsonl");
        var score = await evaluation.RunAsync(() => engine, Grading() with { ResultsPath = results }, Token);
        Assert.Equal(2, engine.Asked.Count);
        Assert.Equal([1, 0, 1], score.Summary.Tasks.Select(t => t.Passed));
        Assert.Equal(1, score.Summary.Outcomes[SandboxOutcome.PromptTooLong]);
        Assert.Contains("""{"task_id":"T/1","sample":0,"passed":false,"outcome":"PromptTooLong"}""", await File.ReadAllLinesAsync(results, Token));
        Assert.Equal(Answer.PromptTooLong, evaluation.Answers[1]!.Finish);
    }

    [Fact]
    public async Task What_is_finished_is_not_asked_again_and_the_file_ends_in_the_order_of_the_tasks()
    {
        // Stopped after the second answer; asked for in the other order, so that the file is out of order.
        using (var first = Prepare([.. s_tasks.Reverse()]))
        {
            first.Keep(AnswerFile, Fingerprint("a"), false);
            using var stop = new CancellationTokenSource();
            using var breaks = new AnsweringEngine((_, i) =>
            {
                if (i == 2)
                {
                    stop.Cancel();
                }

                return Right(i);
            });
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first.RunAsync(() => breaks, Grading(), stop.Token));
        }

        Assert.Equal(["T/2", "T/1"], TaskIds());
        using var engine = new AnsweringEngine((_, _) => "def f(): return 1");
        using (var second = Prepare())
        {
            second.Keep(AnswerFile, Fingerprint("a"), false);
            Assert.Equal(2, second.Found);
            var score = await second.RunAsync(() => engine, Grading(), Token);
            Assert.Equal(1, score.Summary.PassAt1);
            var samples = Path.Combine(_folder, "samples.jsonl");
            second.WriteSamples(samples);
            Assert.Equal(["T/0", "T/1", "T/2"], SampleFile.Read(samples, second.Benchmark, second.Tasks, calibrated: false).Select(s => s.TaskId));
        }

        Assert.Single(engine.Asked);
        Assert.Equal(["T/0", "T/1", "T/2"], TaskIds());

        // Everything is there: the engine is not even made, and the bytes stay.
        var bytes = await File.ReadAllBytesAsync(AnswerFile, Token);
        using (var third = Prepare())
        {
            third.Keep(AnswerFile, Fingerprint("a"), false);
            Assert.Equal(1, (await third.RunAsync(() => throw new InvalidOperationException("an engine was made"), Grading(), Token)).Summary.PassAt1);
        }

        Assert.Equal(bytes, await File.ReadAllBytesAsync(AnswerFile, Token));

        static string Right(int i) => i == 0 ? "def h(): return 3" : "def g(): return 2";
    }

    [Fact]
    public async Task Answers_asked_for_in_another_way_are_refused_unless_allowed_and_so_is_one_that_stands_twice()
    {
        using (var first = Prepare())
        {
            first.Keep(AnswerFile, Fingerprint("a"), false);
            using var engine = new AnsweringEngine((_, _) => "x");
            await first.RunAsync(() => engine, Grading(), Token);
        }

        using (var other = Prepare())
        {
            var error = Assert.Throws<InvalidInputException>(() => other.Keep(AnswerFile, Fingerprint("b"), false));
            Assert.Contains("model was \"a\" and is \"b\"", error.Message, StringComparison.Ordinal);
        }

        using (var allowed = Prepare())
        {
            allowed.Keep(AnswerFile, Fingerprint("b"), true);
            Assert.Equal(3, allowed.Found);
        }

        // Another prompt makes another answer of it.
        using (var changed = Prepare(s_tasks[0], s_tasks[1] with { Prompt = "def g():  # now\n" }, s_tasks[2]))
        {
            changed.Keep(AnswerFile, Fingerprint("a"), false);
            Assert.Equal(2, changed.Found);
        }

        var lines = await File.ReadAllLinesAsync(AnswerFile, Token);
        await File.AppendAllTextAsync(AnswerFile, lines[1] + "\n", Token);
        using var twice = Prepare();
        Assert.Contains("line 4", Assert.Throws<InvalidInputException>(() => twice.Keep(AnswerFile, Fingerprint("a"), false)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_reference_that_fails_stops_the_answering_by_name()
    {
        using var engine = new AnsweringEngine((request, i) =>
        {
            if (i > 0)
            {
                request.Cancellation.WaitHandle.WaitOne(TimeSpan.FromSeconds(60));
            }

            return "x";
        });
        using var evaluation = Prepare(s_tasks[0], s_tasks[1] with { CanonicalSolution = "    return 0\n" }, s_tasks[2]);
        var error = await Assert.ThrowsAsync<InvalidInputException>(() => evaluation.RunAsync(() => engine, Grading(), Token));
        Assert.Contains("1 of 2 tasks: T/1", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_engine_that_fails_ends_the_run_and_keeps_the_answers()
    {
        using (var evaluation = Prepare())
        {
            evaluation.Keep(AnswerFile, Fingerprint("a"), false);
            using var engine = new AnsweringEngine((_, i) => i < 2 ? "x" : throw new InvalidDataException("broken"));
            await Assert.ThrowsAsync<InvalidDataException>(() => evaluation.RunAsync(() => engine, Grading(), Token));
        }

        Assert.Equal(["T/0", "T/1"], TaskIds());
    }

    private static Fingerprint Fingerprint(string model) => new(json => json.WriteString("model", model));

    private ModelEvaluation Prepare(params IReadOnlyList<HumanEvalTask> tasks)
    {
        var benchmark = new TaskFileBenchmark();
        return ModelEvaluation.Prepare(
            benchmark, [.. (tasks.Count > 0 ? tasks : s_tasks).Select(TaskFileBenchmark.TaskOf)], PromptCodec.Load(_model.Directory, PromptFormat.Chat), [0],
            AnswerOptions.Of(benchmark));
    }

    private EvaluationOptions Grading() => new() { Sandbox = _sandbox.Value };

    private List<string> TaskIds() => [.. File.ReadAllLines(AnswerFile).Select(line =>
    {
        using var json = JsonDocument.Parse(line);
        return json.RootElement.GetProperty("task_id").GetString()!;
    })];
}
