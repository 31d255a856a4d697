using System.IO.Compression;
using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>The guard and the options of training, through the command line.</summary>
public sealed class TrainTests
{
    [Fact]
    public void A_loss_that_explodes_stops_the_run_names_the_samples_and_saves_the_state_before_it()
    {
        using var tiny = new TinyRun();
        string[] set = ["--set", "train.lr=1e30", "--set", "train.clip=0", "--set", "checkpoint.every=0", "--set", "train.warmup_steps=0"];
        var result = Z1Here.Run(tiny.Train("run", set));
        result.FailedWith("stage1 step 2: ", "not finite", "guard.on_bad_step says stop", "its samples: ", "stage1-", "step 1 is saved", "--resume");
        Assert.Contains("step 1: verified", Z1Here.Run("inspect", Path.Combine(tiny["run"], "stage1", "checkpoints")).Succeeded().Output);
        var last = tiny.Metrics("run", "stage1")[^1];
        Assert.Contains("fault=", last);
        Assert.Contains("NaN", last);

        // the same again on resume: the state before the bad step is whole
        Z1Here.Run(tiny.Train("run", [.. set, "--resume"])).FailedWith("not finite");
        Assert.Equal(last, tiny.Metrics("run", "stage1")[^1]);
    }

    [Fact]
    public void A_run_that_the_guard_stopped_goes_on_with_another_guard_as_if_it_had_had_that_from_the_start()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(12);
        string[] strict = ["--set", "guard.spike_z=0.5", "--set", "guard.window=2", "--set", "checkpoint.every=0"];
        string[] skips = [.. strict, "--set", "guard.on_bad_step=skip"];
        Z1Here.Run(tiny.Train("whole", skips)).Succeeded();
        var stopped = Z1Here.Run(tiny.Train("run", strict)).FailedWith("standard deviations above its mean", "--set guard.on_bad_step=skip");
        Assert.Contains(" saved", stopped.Output);
        Z1Here.Run(tiny.Train("run", [.. skips, "--resume", "--set", "train.lr=0.5"])).FailedWith("lr: 0.5", "keeps its recipe but for guard, eval, checkpoint, parallel");
        var resumed = Z1Here.Run(tiny.Train("run", [.. skips, "--resume"])).Succeeded();
        Assert.Contains("the run began with another 'guard' section", resumed.Output);
        Assert.DoesNotContain("another 'eval' section", resumed.Output);
        Assert.Contains("continues after step", resumed.Output);
        Assert.Equal(tiny.Metrics("whole", "stage1"), tiny.Metrics("run", "stage1"));
    }

    [Fact]
    public void What_fails_beside_the_steps_does_not_take_the_checkpoint_under_way_with_it()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(5);
        var lines = File.ReadAllLines(tiny["stage1.jsonl"]);
        lines[20] = lines[20].Replace("Add 20", "Add 20" + new string('0', 60), StringComparison.Ordinal);
        File.WriteAllLines(tiny["stage1.jsonl"], lines);
        string[] set = ["--set", "train.micro_batch_samples=8", "--set", "train.micro_batch_tokens=380", "--set", "checkpoint.every=1"];
        var failed = Z1Here.Run(tiny.Train("run", set)).FailedWith("sample stage1-20: a group of 8 samples does not fit");
        Assert.Contains("step 1 saved", failed.Output);              // begun before the step that failed
    }

    [Fact]
    public void A_pass_at_1_that_cannot_be_measured_costs_no_step()
    {
        // As processes: SandboxTests counts the programs that this one runs.
        using var tiny = new TinyRun();
        tiny.KeepOneStage(3);
        Tasks.Write(tiny["tasks.jsonl"], 2);
        var tasks = File.ReadAllText(tiny["tasks.jsonl"]);
        string[] set =
        [
            "--set", $"eval.tasks={tiny["tasks.jsonl"]}", "--set", "eval.max_new_tokens=8", "--set", "checkpoint.every=0",
        ];
        File.WriteAllText(tiny["bwrap"], "#!/bin/sh\necho broken here >&2\nexit 1\n");
        using (var chmod = Z1.StartProgram("chmod", [], "+x", tiny["bwrap"]))
        {
            chmod.Wait().Succeeded();
        }

        var confined = Z1.RunWith("PATH", $"{tiny.Folder}:/usr/bin:/bin", tiny.Train("run", set)).FailedWith("Programs cannot be confined here");
        Assert.DoesNotContain("stage1 step 1", confined.Output);                   // found before the first step, and nothing is begun
        File.WriteAllText(tiny["tasks.jsonl"], tasks.Replace(@"return x \u002B 1", "return x - 1", StringComparison.Ordinal));
        var failed = Z1.Run(tiny.Train("run", set));
        if (failed.Error.Contains("bubblewrap", StringComparison.Ordinal))
        {
            Assert.Skip(failed.Error);
        }

        failed.FailedWith("reference solution fails", "T/1");
        Assert.Contains("step 3 saved", failed.Output);
        Assert.Contains("pass@1 could not be measured after step 3", failed.Output);
        Assert.False(Directory.Exists(Path.Combine(tiny["run"], "stage1", "model")));
        File.WriteAllText(tiny["tasks.jsonl"], tasks);
        var resumed = Z1.Run(tiny.Train("run", [.. set, "--resume"])).Succeeded();
        Assert.DoesNotContain("stage1 step 3/", resumed.Output);
        Assert.Contains("pass_at_1", tiny.Metrics("run", "stage1")[^1]);
        Assert.True(Directory.Exists(Path.Combine(tiny["run"], "stage1", "model")));

        // The same on the way: what was begun at that step is published, and the run may go on without tasks. Its first measurement is made out to be there.
        Directory.CreateDirectory(Path.Combine(tiny["way"], "stage1", "answers.jsonl"));
        File.WriteAllText(Path.Combine(tiny["way"], "stage1", "metrics.jsonl"), "{\"type\":\"pass_at_1\",\"step\":0}\n");
        failed = Z1.Run(tiny.Train("way", [.. set, "--set", "checkpoint.every=2", "--set", "eval.pass_every=2", "--resume"])).FailedWith("answers.jsonl");
        Assert.Contains("step 2 saved", failed.Output);
        Assert.Contains("continues after step 2", Z1.Run(tiny.Train("way", "--resume", "--set", "eval.tasks=")).Succeeded().Output);
    }

    [Fact]
    public void The_exported_model_has_the_tokenizer_whether_the_recipe_names_a_directory_a_file_or_a_packed_one()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(1);
        var plain = File.ReadAllBytes(Path.Combine(tiny["tokenizer"], "tokenizer.json"));
        Directory.CreateDirectory(tiny["packed"]);
        File.Copy(Path.Combine(tiny["tokenizer"], "tokenizer_config.json"), Path.Combine(tiny["packed"], "tokenizer_config.json"));
        using (var gzip = new GZipStream(File.Create(Path.Combine(tiny["packed"], "tokenizer.json.gz")), CompressionLevel.Fastest))
        {
            gzip.Write(plain);
        }

        string[] alpaca = ["--set", "data.format=alpaca", "--set", "data.max_length=160"];
        Z1Here.Run(tiny.Train("file", [.. alpaca, "--set", $"tokenizer.from={tiny["tokenizer/tokenizer.json"]}"])).Succeeded();
        Z1Here.Run(tiny.Train("gz", [.. alpaca, "--set", $"tokenizer.from={tiny["packed/tokenizer.json.gz"]}"])).Succeeded();
        Z1Here.Run(tiny.Train("packed", "--set", $"tokenizer.from={tiny["packed"]}")).Succeeded();
        foreach (var run in (string[])["file", "gz", "packed"])
        {
            Assert.Equal(plain, File.ReadAllBytes(Path.Combine(tiny[run], "stage1", "model", "tokenizer.json")));
        }

        Assert.True(File.Exists(Path.Combine(tiny["packed"], "stage1", "model", "tokenizer_config.json")));
        Assert.False(Directory.Exists(Path.Combine(tiny["packed"], "tokenizer")), "a directory is read where it is");
        Z1Here.Run(tiny.Train("chat", "--set", $"tokenizer.from={tiny["tokenizer/tokenizer.json"]}"))
            .FailedWith(tiny.Recipe, "tokenizer.from", "has no chat template: set tokenizer.template");
    }

    [Fact]
    public void A_template_of_the_recipe_replaces_the_tokenizers_own_and_nothing_else()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(1);
        const string template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
        File.WriteAllText(tiny["own.jinja"], template);
        Z1Here.Run(tiny.Train("run", "--set", $"tokenizer.template={tiny["own.jinja"]}")).Succeeded();
        var model = Path.Combine(tiny["run"], "stage1", "model");
        Assert.Equal("user: Hi<|im_end|>", ChatTemplate.Load(model).Render([new("user", "Hi")], addGenerationPrompt: false));

        // and one in a tokenizer_config.json is not hidden by a .jinja file of the tokenizer
        File.WriteAllText(tiny["tokenizer_config.json"], JsonSerializer.Serialize(new Dictionary<string, string> { ["chat_template"] = template, ["eos_token"] = "<|im_end|>" }));
        File.WriteAllText(Path.Combine(tiny["tokenizer"], "chat_template.jinja"), "{% for m in messages %}{{ m['content'] }}!{% endfor %}");
        Z1Here.Run(tiny.Train("config", "--set", $"tokenizer.template={tiny["tokenizer_config.json"]}")).Succeeded();
        Assert.Equal(template, ChatTemplate.Load(Path.Combine(tiny["config"], "tokenizer")).Source);
    }

    [Fact]
    public void Skipped_steps_are_logged_and_change_nothing_until_too_many_come_in_a_row()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(8);
        string[] set =
        [
            "--set", "train.lr=1e30", "--set", "train.clip=0", "--set", "train.warmup_steps=0", "--set", "guard.on_bad_step=skip", "--set", "guard.max_skips=3",
        ];
        var result = Z1Here.Run(tiny.Train("run", set));
        result.FailedWith("not finite");
        Assert.Equal(3, result.Output.Split(" skipped: ").Length - 1);
        Assert.Contains("its samples: stage1-", result.Output);
        Assert.Equal(4, tiny.Metrics("run", "stage1").Count(l => l.Contains("fault=", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_spike_beyond_the_z_score_is_skipped_and_the_run_goes_on()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(12);
        var result = Z1Here.Run(tiny.Train("run", "--set", "guard.on_bad_step=skip", "--set", "guard.spike_z=0.5", "--set", "guard.window=2")).Succeeded();
        var skipped = tiny.Metrics("run", "stage1").Where(l => l.Contains("fault=", StringComparison.Ordinal)).ToList();
        Assert.NotEmpty(skipped);
        Assert.All(skipped, l => Assert.Contains("standard deviations above its mean", l));
        Assert.Contains("SKIPPED", result.Output);
    }

    [Fact]
    public void Recomputation_and_packing_change_no_result_that_they_must_not()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(4);
        Z1Here.Run(tiny.Train("plain")).Succeeded();
        foreach (var flags in new[] { "[norm, swiglu]", "[block]", "[none]" })
        {
            var directory = $"r{flags.Length}";
            Z1Here.Run(tiny.Train(directory, "--set", $"train.recompute={flags}")).Succeeded();
            Assert.Equal(tiny.Metrics("plain", "stage1"), tiny.Metrics(directory, "stage1"));
        }

        // one sample a micro-batch: the same step but for the order of sums
        Z1Here.Run(tiny.Train("one", "--set", "train.micro_batch_samples=1", "--set", "dtype=fp32")).Succeeded();
        Z1Here.Run(tiny.Train("packed", "--set", "dtype=fp32")).Succeeded();
        Z1Here.Run(tiny.Train("mean", "--set", "train.micro_batch_samples=1", "--set", "dtype=fp32", "--set", "train.loss=micro-batch-mean")).Succeeded();
        var (one, packed, mean, bf16) = (Losses(tiny, "one"), Losses(tiny, "packed"), Losses(tiny, "mean"), Losses(tiny, "plain"));
        Assert.Equal(4, packed.Count);
        for (var i = 0; i < packed.Count; i++)
        {
            Assert.True(Math.Abs(one[i] - packed[i]) <= 1e-4 * packed[i], $"step {i + 1}: {one[i]} and {packed[i]}");
            Assert.True(Math.Abs(bf16[i] - packed[i]) <= 2e-2 * packed[i], $"step {i + 1}: {bf16[i]} in bf16 and {packed[i]} in fp32");
        }

        Assert.True(Math.Abs(mean[0] - one[0]) > 1e-6, "the mean of sample means is not the mean over tokens");
        Assert.True(Math.Abs(mean[0] - one[0]) <= 0.2 * one[0]);
        Assert.Equal("F32", Dtype(tiny, "packed"));
        Assert.Equal("BF16", Dtype(tiny, "plain"));
    }

    [Fact]
    public void Eight_bit_products_are_an_option_that_needs_widths_of_16()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(6);
        string[] fp8 = ["--set", "train.fp8=true"], wide = ["--set", "model.shapes.num_key_value_heads=2"];
        Z1Here.Run(tiny.Train("narrow", fp8)).FailedWith("train.fp8", "multiples of 16", "8");
        Z1Here.Run(tiny.Train("plain", wide)).Succeeded();
        Z1Here.Run(tiny.Train("eight", [.. wide, .. fp8])).Succeeded();
        var (plain, eight) = (Losses(tiny, "plain"), Losses(tiny, "eight"));
        Assert.NotEqual(plain, eight);
        Assert.All(plain.Zip(eight), p => Assert.True(Math.Abs(p.First - p.Second) <= 0.1 * p.First, $"{p.First} and {p.Second}"));
    }

    [Fact]
    public void Stochastic_rounding_changes_the_run_and_survives_a_resume_to_the_bit()
    {
        using var tiny = new TinyRun();
        tiny.KeepOneStage(9);
        string[] set = ["--set", "train.stochastic_rounding=true"];
        Z1Here.Run(tiny.Train("nearest")).Succeeded();
        Z1Here.Run(tiny.Train("whole", set)).Succeeded();
        Assert.NotEqual(tiny.Metrics("nearest", "stage1"), tiny.Metrics("whole", "stage1"));

        // the model goes, the newest checkpoint goes: the run goes on from step 6
        Z1Here.Run(tiny.Train("resumed", set)).Succeeded();
        Directory.Delete(Path.Combine(tiny["resumed"], "stage1", "model"), recursive: true);
        Directory.Delete(Directory.GetDirectories(Path.Combine(tiny["resumed"], "stage1", "checkpoints")).Order(StringComparer.Ordinal).Last(), recursive: true);
        Assert.Contains("continues after step 6", Z1Here.Run(tiny.Train("resumed", [.. set, "--resume"])).Succeeded().Output);
        Assert.Equal(tiny.Metrics("whole", "stage1"), tiny.Metrics("resumed", "stage1"));
    }

    [Fact]
    public void The_second_stage_starts_from_the_first_ones_model()
    {
        using var tiny = new TinyRun();
        Z1Here.Run(tiny.Train("both")).Succeeded();
        tiny.KeepOneStage(TinyRun.StepsPerStage);
        var model = Path.Combine(tiny["both"], "stage1", "model");
        Z1Here.Run(tiny.Train("second", "--set", $"model={{from: {model}}}", "--set", $"stages.0.data.files={tiny["stage2.jsonl"]}")).Succeeded();
        Assert.Equal(tiny.FinalModel("both"), File.ReadAllBytes(Path.Combine(tiny["second"], "stage1", "model", "model.safetensors")));
    }

    private static string Dtype(TinyRun tiny, string run) =>
        Z1Here.Run("inspect", "--json", Path.Combine(tiny[run], "stage1", "model", "model.safetensors")).Json().GetProperty("tensors")[0].GetProperty("dtype").GetString()!;

    private static List<double> Losses(TinyRun tiny, string run) =>
    [
        .. File.ReadLines(Path.Combine(tiny[run], "stage1", "metrics.jsonl")).Select(l => JsonDocument.Parse(l).RootElement)
            .Where(l => l.GetProperty("type").GetString() == "step").Select(l => l.GetProperty("loss").GetDouble()),
    ];
}
