using System.Globalization;
using System.Text.Json;
using Xunit;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>The other verbs, each with what it must print.</summary>
public sealed class VerbTests
{
    [Fact]
    public void Help_names_every_verb()
    {
        var help = Z1.Run("--help").Succeeded().Output;
        Assert.All(["demo", "curate", "train", "generate", "eval", "report", "tokenizer", "plan", "inspect", "doctor"], verb => Assert.Contains(verb, help));
        Assert.Contains("--resume", Z1.Run("train", "--help").Succeeded().Output);
    }

    [Fact]
    public void A_run_inside_the_tests_ends_as_the_process_does_and_says_the_same()
    {
        using var tiny = new TinyRun();
        var model = Train(tiny);
        var absent = tiny["absent.yaml"];
        foreach (var (code, arguments) in new (int, string[])[]
        {
            (0, ["generate", "--model", model, "--max-new-tokens", "8", "Add 3 to 4."]),
            (0, ["tokenizer", "encode", "--model", model, "--json", "né 中文 😀"]),
            (0, ["inspect", model, "--json"]),
            (1, ["train", absent, "--out", tiny["never"]]),
            (2, ["train", absent, "--nonsense"]),
        })
        {
            var process = Z1.Run(arguments);
            Assert.Equal(code, process.ExitCode);
            Assert.Equal(process, Z1Here.Run(arguments));
        }

        // side by side each has its own words, begun together and often enough to overlap
        using var together = new Barrier(2);
        var both = new Z1Result[2][];
        Thread[] threads = [.. Enumerable.Range(0, 2).Select(i => new Thread(() => both[i] =
        [
            .. Enumerable.Range(0, 10).Select(_ =>
            {
                together.SignalAndWait();
                return Z1Here.Run("train", tiny[$"absent{i}.yaml"], "--out", tiny["never"]);
            }),
        ]))];
        Array.ForEach(threads, t => t.Start());
        Array.ForEach(threads, t => t.Join());
        Assert.All(both[0], result => result.FailedWith("absent0.yaml"));
        Assert.All(both[1], result => result.FailedWith("absent1.yaml"));
    }

    [Fact]
    public void A_tokenizer_gives_back_every_text()
    {
        using var tiny = new TinyRun();
        Z1Here.Run("tokenizer", "train", tiny["stage1.jsonl"], "--vocabulary", "280", "--out", tiny["own"]).Succeeded();
        foreach (var text in new[] { "Add 3 to 4.", "né 中文 😀\ttab  two spaces ", "<|im_start|>user\nx<|im_end|>" })
        {
            var json = Z1Here.Run("tokenizer", "encode", "--model", tiny["own"], "--json", text).Json();
            var ids = json.GetProperty("ids").EnumerateArray().Select(i => i.GetInt32().ToString()).ToArray();
            Assert.Equal(ids.Length, json.GetProperty("tokens").GetArrayLength());
            Assert.Equal(string.Join(' ', ids) + "\n", Z1.RunWithInput(text, "tokenizer", "encode", "--model", tiny["own"]).Succeeded().Output);
            Assert.Equal(text + "\n", Z1Here.Run(["tokenizer", "decode", "--model", tiny["own"], .. ids]).Succeeded().Output);
        }

        Z1Here.Run("tokenizer", "train", tiny["stage1.jsonl"], "--vocabulary", "256", "--out", tiny["own"]).WasMisused("--vocabulary 256", "257");
        Z1Here.Run("tokenizer", "train", tiny["none.jsonl"], "--out", tiny["own"]).FailedWith("none.jsonl");
        File.WriteAllText(tiny["empty.jsonl"], "");
        Z1Here.Run("tokenizer", "train", tiny["empty.jsonl"], "--out", tiny["nothing"]).FailedWith("empty.jsonl", "no text");
        Assert.False(Directory.Exists(tiny["nothing"]));
        Z1Here.Run("tokenizer", "encode", "--model", tiny["none"], "x").FailedWith(tiny["none"]);
        Z1Here.Run("tokenizer", "decode", "--model", tiny["own"], "999999").FailedWith("999999");

        var count = Z1Here.Run("tokenizer", "encode", "--model", tiny["own"], "--json", File.ReadAllText(tiny["stage2.jsonl"])).Json().GetProperty("ids").GetArrayLength();
        var timed = Z1Here.Run("perf", "run", "--suite", "tokenizer", "--tokenizer", tiny["own"], "--text", tiny["stage2.jsonl"]).Succeeded().Output.Split(' ');
        Assert.Equal(("stage2.jsonl", $"{count}\n"), (timed[0], timed[2]));
        Assert.True(double.Parse(timed[1], CultureInfo.InvariantCulture) > 0);
        Assert.Equal(2, Z1Here.Run("perf", "run", "--suite", "tokenizer", "--tokenizer", tiny["own"]).ExitCode);
        Assert.Equal(2, Z1Here.Run("perf", "run", "--suite").ExitCode);
    }

    [Fact]
    public void Generation_is_the_same_alone_and_in_company_and_stops_at_a_text()
    {
        using var tiny = new TinyRun();
        var model = Train(tiny);
        string[] prompts = ["Add 3 to 4.", "The sum", "Add"];
        var all = Z1Here.Run(["generate", "--model", model, "--max-new-tokens", "20", "--json", .. prompts]).Json().GetProperty("completions");
        Assert.Equal(prompts.Length, all.GetArrayLength());
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.Equal(prompts[i], all[i].GetProperty("prompt").GetString());
            Assert.True(all[i].GetProperty("tokens").GetArrayLength() <= 20);
            var alone = Z1.RunWithInput(prompts[i], "generate", "--model", model, "--max-new-tokens", "20", "--json").Json().GetProperty("completions")[0];
            Assert.Equal(all[i].GetRawText(), alone.GetRawText());
        }

        var text = all[0].GetProperty("text").GetString()!;
        Assert.True(text.Length > 3, $"too short to be cut: '{text}'");
        var stop = text.Substring(2, 1);
        var cut = Z1Here.Run("generate", "--model", model, "--max-new-tokens", "20", "--json", "--stop", stop, prompts[0]).Json().GetProperty("completions")[0];
        Assert.Equal("stop", cut.GetProperty("finish").GetString());
        Assert.Equal(text[..text.IndexOf(stop, StringComparison.Ordinal)], cut.GetProperty("text").GetString());
        string[] draw = ["generate", "--model", model, "--max-new-tokens", "20", "--json", "--temperature", "1.5", "--top-k", "40", "--seed", "7", "--n", "3"];
        var drawn = Z1Here.Run([.. draw, .. prompts]).Json().GetProperty("completions");
        var texts = Enumerable.Range(0, 3).Select(i => drawn[3 + i].GetRawText()).ToList();
        Assert.Equal(9, drawn.GetArrayLength());
        Assert.Equal(3, texts.Distinct().Count());
        Assert.Equal(texts, Z1Here.Run([.. draw, prompts[1]]).Json().GetProperty("completions").EnumerateArray().Select(c => c.GetRawText()));
        Z1Here.Run("generate", "--model", model, "--chat", "--max-new-tokens", "3", "hello").Succeeded();
        Z1Here.Run("generate", "--model", model, "--alpaca", "--max-new-tokens", "3", "hello").Succeeded();
        Z1Here.Run("generate", "--model", model, "").WasMisused("no prompt");
        Z1Here.Run("generate", "--model", model, "x", "").FailedWith("prompt 1", "0 tokens");
        Z1Here.Run("generate", "--model", model, string.Concat(Enumerable.Repeat("zqx ", 200))).FailedWith("context");
    }

    [Fact]
    public void Evaluation_of_saved_completions_counts_what_is_right()
    {
        using var tiny = new TinyRun();
        Tasks.Write(tiny["tasks.jsonl"], 5);
        Tasks.WriteAnswers(tiny["c.jsonl"], 5, 3);
        var json = Confined("eval", "--tasks", tiny["tasks.jsonl"], "--completions", tiny["c.jsonl"], "--out", tiny["eval"], "--json");
        Assert.Equal(0.6, json.GetProperty("pass_at_1").GetDouble(), 12);
        Assert.Equal(5, json.GetProperty("tasks").GetInt32());
        Assert.True(json.GetProperty("low").GetDouble() < 0.6 && json.GetProperty("high").GetDouble() > 0.6);
        Assert.Equal(2 / 3.0, json.GetProperty("kinds").GetProperty("even").GetDouble(), 12);
        Assert.Equal(0.5, json.GetProperty("kinds").GetProperty("odd").GetDouble(), 12);
        Assert.Equal(5, File.ReadAllLines(Path.Combine(tiny["eval"], "tasks.results.jsonl")).Length);
    }

    [Fact]
    public void Evaluation_of_a_model_keeps_its_answers()
    {
        using var tiny = new TinyRun();
        var model = Train(tiny);
        Tasks.Write(tiny["tasks.jsonl"], 3);
        var json = Confined("eval", "--tasks", tiny["tasks.jsonl"], "--model", model, "--max-new-tokens", "8", "--out", tiny["eval"], "--json");
        Assert.Equal(0, json.GetProperty("pass_at_1").GetDouble());
        Assert.Equal(["T/0", "T/1", "T/2"], File.ReadLines(Path.Combine(tiny["eval"], "tasks.answers.jsonl"))
            .Select(l => JsonDocument.Parse(l).RootElement.GetProperty("task_id").GetString()));
    }

    [Fact]
    public void Inspection_counts_elements()
    {
        using var tiny = new TinyRun();
        var model = Train(tiny);
        var file = Z1Here.Run("inspect", "--json", Path.Combine(model, "model.safetensors")).Json();
        var directory = Z1Here.Run("inspect", "--json", model).Json();
        Assert.Equal("pt", file.GetProperty("metadata").GetProperty("format").GetString());
        Assert.Equal(file.GetProperty("elements").GetInt64(), directory.GetProperty("elements").GetInt64());

        // embedding V·D (tied); a layer: q, k, v with biases, o, three of the feed-forward, two norms; the last norm
        var vocabulary = directory.GetProperty("tensors").EnumerateArray().First(t => t.GetProperty("name").GetString() == "model.embed_tokens.weight")
            .GetProperty("shape")[0].GetInt64();
        const int D = 16, Q = 16, K = 8, F = 32, L = 2;
        var layer = ((D + 1) * (Q + K + K)) + (Q * D) + (3 * D * F) + (2 * D);
        Assert.Equal((vocabulary * D) + (L * layer) + D, file.GetProperty("elements").GetInt64());
        Assert.Contains("model.layers.1.mlp.down_proj.weight", Z1Here.Run("inspect", model).Succeeded().Output);
        var checkpoints = Z1Here.Run("inspect", "--json", Path.Combine(model, "..", "checkpoints")).Json().GetProperty("checkpoints");
        Assert.True(checkpoints[0].GetProperty("verified").GetBoolean());
    }

    [Theory]
    [InlineData("z1-coder-1.5b.yaml", 1_543_714_304, 1536, true)]
    [InlineData("z1-coder-7b.yaml", 7_615_616_512, 3584, false)]
    public void Plans_of_the_published_runs_have_their_parameters(string recipe, long parameters, long hidden, bool tied)
    {
        var path = Path.Combine(Goldens.RepositoryRoot, "recipes", recipe);
        var plan = Z1Here.Run("plan", path, "--json", "--gemm", "400", "--bandwidth", "3000", "--memory", "80", "--set", "model.vocab_rows=0").Json();
        Assert.Equal(2, plan.GetProperty("stages").GetArrayLength());
        var stage = plan.GetProperty("stages")[0];
        Assert.Equal(parameters, stage.GetProperty("parameters").GetInt64());
        Assert.Equal(stage.GetProperty("bytes").EnumerateObject().Sum(b => b.Value.GetInt64()), stage.GetProperty("total_bytes").GetInt64());
        Assert.Equal(stage.GetProperty("total_bytes").GetInt64() <= 80L << 30, stage.GetProperty("fits").GetBoolean());
        Assert.Equal(1024 * 1280, stage.GetProperty("tokens_per_step").GetInt64());

        var cut = Z1Here.Run("plan", path, "--json", "--gemm", "400", "--bandwidth", "3000").Json().GetProperty("stages")[0].GetProperty("parameters").GetInt64();
        var rows = (tied ? 151_936 : 152_064) - 151_667;
        Assert.Equal(parameters - (rows * hidden * (tied ? 1 : 2)), cut);
    }

    [Fact]
    public void A_plan_for_a_cluster_compares_every_strategy_and_needs_no_recipe()
    {
        string[] two = ["--gpus", "2", "--memory", "80", "--json"];
        var plan = Z1Here.Run(["plan", "--model", "7b", .. two]).Json();
        var stage = plan.GetProperty("stages")[0];
        Assert.Equal(7_615_616_512, stage.GetProperty("parameters").GetInt64());
        var rows = stage.GetProperty("strategies").EnumerateArray().ToList();
        Assert.Equal(
            ["none step", "zero1 step", "zero2 micro_batch", "fsdp step", "fsdp micro_batch"],
            rows.Select(r => $"{r.GetProperty("strategy").GetString()} {r.GetProperty("reduce_per").GetString()}"));
        foreach (var row in rows)
        {
            Assert.Equal(
                row.GetProperty("total_bytes").GetInt64(),
                row.GetProperty("bytes").EnumerateObject().Sum(b => b.Value.GetInt64()) + plan.GetProperty("reserved_bytes").GetInt64());
            Assert.Equal(row.GetProperty("total_bytes").GetInt64() <= plan.GetProperty("available_bytes").GetInt64(), row.GetProperty("fits").GetBoolean());
            Assert.Equal(
                row.GetProperty("bytes_sent").GetDouble(), row.GetProperty("collectives").EnumerateArray().Sum(c => c.GetProperty("bytes_sent").GetDouble()));
        }

        Assert.Equal("fsdp", stage.GetProperty("recommended").GetProperty("strategy").GetString());
        Assert.Equal(JsonValueKind.Null, stage.GetProperty("what_would_fit").ValueKind);
        Assert.Equal(JsonValueKind.Null, stage.GetProperty("as_the_recipe_is").ValueKind);
        var alone = Z1Here.Run("plan", "--model", "32b", "--gpus", "2", "--json").Json().GetProperty("stages")[0];
        Assert.Equal(JsonValueKind.Null, alone.GetProperty("recommended").ValueKind);
        Assert.Contains("GPUs would do", alone.GetProperty("what_would_fit").GetString());

        // the published runs, as their recipes are
        foreach (var recipe in (string[])["z1-coder-1.5b.yaml", "z1-coder-7b.yaml"])
        {
            var path = Path.Combine(Goldens.RepositoryRoot, "recipes", recipe);
            var written = Z1Here.Run(["plan", path, .. two]).Json().GetProperty("stages")[0];
            Assert.True(written.GetProperty("as_the_recipe_is").GetProperty("fits").GetBoolean(), recipe);
            Assert.Equal(128, written.GetProperty("as_the_recipe_is").GetProperty("micro_batches_per_rank").GetInt32());     // published: 128 accumulation steps
            var text = Z1Here.Run("plan", path, "--gpus", "2").Succeeded().Output;
            Assert.Contains("recommended: parallel.strategy ", text);
            Assert.Contains("as the recipe is: ", text);
        }
    }

    [Fact]
    public void Doctor_measures_this_machine()
    {
        var json = Z1Here.Run("doctor", "--json").Json();
        Assert.All(
            ["copy_bytes_per_second", "read_bytes_per_second", "gemm_bf16_flops_per_second", "gemm_fp32_flops_per_second"],
            key => Assert.True(json.GetProperty(key).GetDouble() > 1e6, key));
        Assert.Contains("cpu", json.GetProperty("device").GetString());
        Assert.True(json.GetProperty("libraries").GetArrayLength() > 0);
        Assert.False(string.IsNullOrEmpty(json.GetProperty("sandbox").GetString()));
    }

    [Fact]
    public void The_report_needs_no_network_no_script_and_no_whole_last_line()
    {
        using var tiny = new TinyRun();
        Train(tiny);
        File.AppendAllText(Path.Combine(tiny["run"], "stage1", "metrics.jsonl"), "{\"type\":\"st");
        var path = Path.Combine(tiny["run"], "report.html");
        Assert.Equal(path + "\n", Z1Here.Run("report", tiny["run"]).Succeeded().Output);
        var html = File.ReadAllText(path);
        Assert.DoesNotContain("http:", html);
        Assert.DoesNotContain("https:", html);
        Assert.DoesNotContain("<script", html);
        Assert.DoesNotContain("src=", html);
        Assert.Contains("<polyline", html);
        Assert.Contains("name: tiny", html);
        Assert.Contains("stage1", html);
    }

    private static string Train(TinyRun tiny)
    {
        tiny.KeepOneStage(3);
        Z1Here.Run(tiny.Train("run")).Succeeded();
        return Path.Combine(tiny["run"], "stage1", "model");
    }

    /// <summary>JSON of a verb that runs programs; the test is skipped where they cannot be confined.</summary>
    private static JsonElement Confined(params string[] arguments)
    {
        var result = Z1Here.Run(arguments);
        if (result.ExitCode == 1 && result.Error.Contains("bubblewrap", StringComparison.Ordinal))
        {
            Assert.Skip(result.Error);
        }

        return result.Json();
    }
}
