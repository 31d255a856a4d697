using System.Text.Json;
using Xunit;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>The guard and the options of training, through the command line.</summary>
public sealed class TrainTests
{
    [Fact]
    public void A_loss_that_explodes_stops_the_run_names_the_samples_and_keeps_the_checkpoint()
    {
        using var tiny = new TinyRun();
        var result = Z1Here.Run(tiny.Train("run", "--set", "train.lr=1e30", "--set", "train.clip=0", "--set", "checkpoint.every=1", "--set", "train.warmup_steps=0"));
        result.FailedWith("stage1 step ", "not finite", "guard.on_bad_step says stop", "its samples: ", "stage1-");
        Z1Here.Run("inspect", Path.Combine(tiny["run"], "stage1", "checkpoints")).Succeeded();
        var last = tiny.Metrics("run", "stage1")[^1];
        Assert.Contains("fault=", last);
        Assert.Contains("NaN", last);

        // the same again on resume: the state before the bad step is whole
        Z1Here.Run(tiny.Train("run", "--resume", "--set", "train.lr=1e30", "--set", "train.clip=0", "--set", "checkpoint.every=1", "--set", "train.warmup_steps=0"))
            .FailedWith("not finite");
        Assert.Equal(last, tiny.Metrics("run", "stage1")[^1]);
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
