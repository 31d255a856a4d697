using System.Text.Json;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Tests.Trainer.Serve;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>z1 eval --model over benchmark files, with a model of random weights: what is asked, killed, resumed, refused.</summary>
[Collection("sandbox")]
public sealed class EvalModelVerbTests : IDisposable
{
    private static readonly string[] s_results = [EvaluationFiles.Answers, EvaluationFiles.Results, EvaluationFiles.Score, EvaluationFiles.Samples];
    private static readonly string[] s_benchmarks = ["mbpp", "humaneval-pro", "livecodebench"];

    private readonly ServedModel _model = new(new Qwen2Config
    {
        ModelType = "qwen2", HiddenSize = 16, NumHiddenLayers = 2, NumAttentionHeads = 2, NumKeyValueHeads = 1, HeadDim = 8, IntermediateSize = 32,
        VocabSize = 300, MaxPositionEmbeddings = 1024, RmsNormEps = 1e-6, RopeTheta = 1e4, TieWordEmbeddings = true, AttentionBias = true,
    });

    private readonly string _data = TinyBenchmarks.Folder("HumanEval.jsonl", "mbpp.jsonl", "humaneval_pro.json", "livecodebench_problems.jsonl");

    public void Dispose()
    {
        _model.Dispose();
        Directory.Delete(_data, recursive: true);
    }

    [Fact]
    public void Two_runs_write_equal_bytes_whatever_the_number_of_workers_and_where_each_was_killed()
    {
        NeedSandbox();
        var score = Z1Here.Run(Eval("whole", "--workers", "1")).Succeeded();
        Assert.Contains("livecodebench: 4 answers to 2 tasks, 0 found, 4 to do", score.Output, StringComparison.Ordinal);
        var whole = Bytes("whole");
        Assert.All(Files("whole"), f => Assert.Contains($"\"device\":\"cpu, {NativeLibraries.CpuProducts}\"", File.ReadAllText(f.FullName), StringComparison.Ordinal));
        Z1Here.Run(Eval("again", "--workers", "3")).Succeeded();
        Assert.Equal(whole, Bytes("again"));

        // Few answers, quickly made: a life that nobody could interrupt in time is no test, and the run is begun anew.
        var killed = "";
        for (var again = 0; killed.Length == 0; again++)
        {
            Assert.True(again < 5, "it could not be killed three times on its way");
            killed = KillOnTheWay($"killed{again}") >= 3 ? $"killed{again}" : "";
        }

        Assert.Equal(whole, Bytes(killed));
        Assert.Contains("livecodebench: 4 answers to 2 tasks, 4 found, 0 to do", Z1Here.Run(Eval(killed)).Succeeded().Output, StringComparison.Ordinal);
        Assert.Equal(whole, Bytes(killed));
    }

    /// <summary>Ends the run whenever an answer more is there than the last time, first by SIGTERM, and goes on to its end; what is durable stays, and
    /// is not asked for again. How often it was ended.</summary>
    private int KillOnTheWay(string output)
    {
        var (kept, length, kills) = (0, 0L, 0);
        for (var ended = false; !ended;)
        {
            using var z1 = Z1.Start(Eval(output));
            SpinWait.SpinUntil(() => z1.HasExited || Files(output).Sum(f => f.Length) > length);
            if (kills == 0)
            {
                z1.Terminate();
            }
            else
            {
                z1.Kill();
            }

            var result = z1.Wait();
            var stopped = result.ExitCode == 0 && result.Output.Contains("stopped by SIGTERM", StringComparison.Ordinal);
            ended = result.ExitCode == 0 && !stopped;
            Assert.True(ended || stopped || result.ExitCode == 128 + 9, $"exit code {result.ExitCode}\n{result.Error}");
            kills += ended ? 0 : 1;
            length = Files(output).Sum(f => f.Length);
            var now = Files(output).Sum(f => File.ReadAllText(f.FullName).Count(c => c == '\n'));
            Assert.True(now >= kept, $"{now} answers after a kill, {kept} before");
            kept = now;
        }

        return kills;
    }

    [Fact]
    public void The_files_of_a_run_are_read_by_score_compare_and_the_report()
    {
        NeedSandbox();
        var json = Z1Here.Run([.. Eval("run"), "--json"]).Json().GetProperty("benchmarks");
        Assert.Equal(s_benchmarks, json.EnumerateArray().Select(b => b.GetProperty("benchmark").GetString()));
        Assert.All(json.EnumerateArray(), b => Assert.Equal(0, b.GetProperty("pass_at_1").GetDouble()));
        var folder = Path.Combine(_data, "run");
        foreach (var name in s_benchmarks)
        {
            using var score = JsonDocument.Parse(File.ReadAllText(EvaluationFiles.PathOf(folder, name, EvaluationFiles.Score)));
            Assert.Equal(JsonValueKind.Number, score.RootElement.GetProperty("tasks_present").ValueKind);
            Assert.False(score.RootElement.TryGetProperty("seconds", out _));
            using var times = JsonDocument.Parse(File.ReadAllText(EvaluationFiles.PathOf(folder, name, EvaluationFiles.Times)));
            Assert.True(times.RootElement.GetProperty("seconds").GetDouble() > 0);
            Assert.True(times.RootElement.GetProperty("new_tokens").GetInt64() > 0);
            var again = Z1Here.Run("eval", "score", "--benchmark", name, "--data", _data, "--samples", EvaluationFiles.PathOf(folder, name, EvaluationFiles.Samples), "--json");
            Assert.Equal(0, again.Json().GetProperty("benchmarks")[0].GetProperty("pass_at_1").GetDouble());
        }

        Assert.Contains("livecodebench", File.ReadAllText(Path.Combine(folder, EvaluationFiles.Report)), StringComparison.Ordinal);
        Z1Here.Run("eval", "compare", folder, folder).Succeeded();
    }

    [Fact]
    public void Everything_of_the_published_table_runs_and_what_is_absent_is_said()
    {
        NeedSandbox();
        var run = Z1Here.Run("eval", "--model", _model.Directory, "--all", "--data", _data, "--dtype", "fp32", "--max-new-tokens", "4", "--n", "1").Succeeded();
        var absent = run.Output.Split('\n')[0];
        Assert.StartsWith($"not in {_data}, so not run: ", absent, StringComparison.Ordinal);
        Assert.All(["humaneval+", "mbpp+", "mbpp-pro", "bigcodebench-complete", "bigcodebench-hard-complete"], name => Assert.Contains(name, absent, StringComparison.Ordinal));
        Assert.Contains("51.2, 33.5, 69.5, 65.9", run.Output, StringComparison.Ordinal);

        // HumanEval and MBPP themselves are not in the table; of the two contest problems one lies in the published window.
        Assert.DoesNotContain("humaneval:", run.Output, StringComparison.Ordinal);
        Assert.Contains("livecodebench: 1 answers to 1 tasks", run.Output, StringComparison.Ordinal);
        Z1Here.Run("eval", "--model", _model.Directory, "--all", "--data", TinyBenchmarks.Folder("mbpp.jsonl")).FailedWith("published table", "mbpp_pro.json");
    }

    [Fact]
    public void Bad_input_is_one_sentence_and_finished_work_is_kept()
    {
        string[] eval = ["eval", "--model", _model.Directory, "--data", _data];
        Z1Here.Run([.. eval, "--benchmark", "humanevil"]).WasMisused("\"humanevil\"", "humaneval-pro", "livecodebench");
        Z1Here.Run([.. eval, "--benchmark", "mbpp+", "mbpp", "mbpp-pro"]).FailedWith("no file of mbpp+ (MbppPlus-v", "mbpp-pro (mbpp_pro.json)");
        Z1Here.Run([.. eval, "--benchmark", "livecodebench", "--from", "2030-01-01"]).FailedWith("window");
        Z1Here.Run([.. eval, "--benchmark", "livecodebench", "--from", "May"]).WasMisused("--from is \"May\"; it must be a day such as 2024-08-01");
        Z1Here.Run("eval", "--model", _model.Directory, "--all", "--data", _model["nowhere"]).FailedWith("nowhere");
        Z1Here.Run("eval", "--model", _model["nowhere"], "--benchmark", "mbpp", "--data", _data).FailedWith("nowhere");
        Z1Here.Run(eval).WasMisused("one of the three");
        Z1Here.Run([.. eval, "--all", "--benchmark", "mbpp"]).WasMisused("one of the three");
        Z1Here.Run([.. eval, "--benchmark", "mbpp", "MBPP"]).WasMisused("stands twice");
        Z1Here.Run("eval", "--benchmark", "mbpp", "--data", _data).WasMisused("--model DIR");
        Z1Here.Run("eval", "--benchmark", "mbpp", "--model", "m").WasMisused("--data DIR");
        Z1Here.Run([.. eval, "--all", "--temperature", "-1"]).WasMisused("--temperature");
        Z1Here.Run([.. eval, "--all", "--top-p", "0"]).WasMisused("--top-p");
        Z1Here.Run([.. eval, "--all", "--n", "0"]).WasMisused("--n");

        // Answers made elsewhere to tasks of one's own: of an unknown task, and a task with two lists of answers.
        Tasks.Write(_model["tasks.jsonl"], 2);
        string[] own = ["eval", "--tasks", _model["tasks.jsonl"], "--completions", _model["c.jsonl"]];
        File.WriteAllText(_model["c.jsonl"], "{\"task_id\": \"T/0\", \"solution\": \"\"}\n{\"task_id\": \"T/9\", \"solution\": \"\"}\n");
        Z1Here.Run(own).FailedWith("c.jsonl:2", "\"T/9\"");
        File.WriteAllText(_model["c.jsonl"], string.Concat(Enumerable.Repeat("{\"task_id\": \"T/0\", \"solution\": [\"\"]}\n", 2)));
        Z1Here.Run(own).FailedWith("c.jsonl:2", "stands twice");

        var bare = _model["bare"];
        Directory.CreateDirectory(bare);
        foreach (var file in Directory.GetFiles(_model.Directory).Where(f => !Path.GetFileName(f).StartsWith("tokenizer", StringComparison.Ordinal)))
        {
            File.Copy(file, Path.Combine(bare, Path.GetFileName(file)));
        }

        Z1Here.Run("eval", "--model", bare, "--benchmark", "mbpp", "--data", _data).FailedWith("tokenizer.json");
        File.WriteAllText(Path.Combine(_data, "mbpp.jsonl"), TinyBenchmarks.Files["mbpp.jsonl"].Replace("\"task_id\":601", "\"task_id\":11", StringComparison.Ordinal));
        Z1Here.Run([.. eval, "--benchmark", "mbpp"]).FailedWith("mbpp.jsonl:2", "\"11\" stands twice");
        File.WriteAllText(Path.Combine(_data, "mbpp.jsonl"), TinyBenchmarks.Files["mbpp.jsonl"].Replace("\"code\":\"def root", "\"kode\":\"def root", StringComparison.Ordinal));
        Z1Here.Run([.. eval, "--benchmark", "mbpp"]).FailedWith("mbpp.jsonl:2", "\"code\" is missing");
    }

    [Fact]
    public void A_changed_model_benchmark_or_way_of_decoding_is_refused_by_name_and_kept_answers_stay()
    {
        NeedSandbox();
        string[] eval = ["eval", "--model", _model.Directory, "--data", _data, "--benchmark", "mbpp", "--dtype", "fp32", "--out", Path.Combine(_data, "run")];
        Z1Here.Run([.. eval, "--max-new-tokens", "4"]).Succeeded();
        var bytes = Bytes("run", "mbpp");
        Z1Here.Run([.. eval, "--max-new-tokens", "5"]).FailedWith("max_tokens was 4 and is 5", "--allow-changed");
        Z1Here.Run([.. eval, "--max-new-tokens", "4", "--alpaca"]).FailedWith("template was");
        Z1Here.Run([.. eval, "--max-new-tokens", "4", "--context", "500"]).FailedWith("context was 1024 and is 500");
        var config = Path.Combine(_model.Directory, "generation_config.json");
        var kept = File.Exists(config) ? File.ReadAllText(config) : null;
        File.WriteAllText(config, "{}");
        Z1Here.Run([.. eval, "--max-new-tokens", "4"]).FailedWith("model was");
        if (kept is null)
        {
            File.Delete(config);
        }
        else
        {
            File.WriteAllText(config, kept);
        }

        File.AppendAllText(Path.Combine(_data, "mbpp.jsonl"), "\n");
        Z1Here.Run([.. eval, "--max-new-tokens", "4"]).FailedWith("data was");
        Assert.Equal(bytes, Bytes("run", "mbpp"));
        Assert.Contains("2 found, 0 to do", Z1Here.Run([.. eval, "--max-new-tokens", "4", "--allow-changed"]).Succeeded().Output, StringComparison.Ordinal);

        // More samples of the same kind go on where there are fewer.
        Assert.Contains("4 answers to 2 tasks, 2 found, 2 to do", Z1Here.Run([.. eval, "--max-new-tokens", "4", "--allow-changed", "--n", "2"]).Succeeded().Output, StringComparison.Ordinal);
        var file = EvaluationFiles.PathOf(Path.Combine(_data, "run"), "mbpp", EvaluationFiles.Answers);
        File.WriteAllText(file, "{\"something\": \"else\"}\n");
        Z1Here.Run(eval).FailedWith("mbpp.answers.jsonl", "name another --out");
    }

    /// <summary>Another device gives other last bits, so its answers are not gone on with; the same device finds its own.</summary>
    [Fact]
    public void Answers_of_one_device_are_not_continued_on_another()
    {
        NeedSandbox();
        if (!CudaDevice.IsAvailable(CudaDriver.HostCuda, out var reason))
        {
            Assert.Skip(reason);
        }

        string[] eval =
        [
            "eval", "--model", _model.Directory, "--data", _data, "--benchmark", "mbpp", "--out", Path.Combine(_data, "run"), "--max-new-tokens", "4", "--slots", "2",
        ];
        Z1Here.Run([.. eval, "--device", "hostcuda"]).Succeeded();
        Z1Here.Run(eval).FailedWith("device was", "hostcuda", $"cpu, {NativeLibraries.CpuProducts}");
        Assert.Contains("2 found, 0 to do", Z1Here.Run([.. eval, "--device", "hostcuda"]).Succeeded().Output, StringComparison.Ordinal);
    }

    private string[] Eval(string output, params string[] more) =>
    [
        "eval", "--model", _model.Directory, "--data", _data, "--benchmark", .. s_benchmarks, "--out", Path.Combine(_data, output), "--dtype", "fp32", "--slots", "3",
        "--n", "2", "--temperature", "0.8", "--seed", "3", "--max-new-tokens", "24", .. more,
    ];

    private IEnumerable<FileInfo> Files(string output) =>
        s_benchmarks.Select(name => new FileInfo(EvaluationFiles.PathOf(Path.Combine(_data, output), name, EvaluationFiles.Answers))).Where(f => f.Exists);

    private Dictionary<string, string> Bytes(string output, params string[] names) => (names.Length > 0 ? names : s_benchmarks)
        .SelectMany(name => s_results.Select(ending => EvaluationFiles.PathOf(Path.Combine(_data, output), name, ending)))
        .ToDictionary(path => Path.GetFileName(path), path => Convert.ToBase64String(File.ReadAllBytes(path)));

    private static void NeedSandbox()
    {
        if (Sandbox.Probe() is { Works: false } probe)
        {
            Assert.Skip(probe.Message);
        }
    }
}
