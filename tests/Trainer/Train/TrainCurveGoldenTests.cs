using System.Text.Json;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>
/// Twenty optimizer steps against PyTorch. Bounds come from PyTorch's own float32 run: its loss, norm and weights stray from its float64
/// run by e. Ours strays as far in another direction, the largest of some ten values varies by a small factor: 4 · e to float64, 5 · e to
/// float32. Weights by RMS, tensor by tensor: e is the largest element of that distance, so each run's RMS is at most e, and theirs to ours
/// 2 · e.
/// </summary>
public sealed class TrainCurveGoldenTests
{
    private const double Walk = 4;

    public static TheoryData<string, string> Runs
    {
        get
        {
            var runs = new TheoryData<string, string>();
            foreach (var model in Goldens.Models)
            {
                runs.Add(model, "packed");
                runs.Add(model, "padded");
            }

            return runs;
        }
    }

    public static TheoryData<string, int, ShardStrategy, bool, bool> Sharded
    {
        get
        {
            var runs = new TheoryData<string, int, ShardStrategy, bool, bool>();
            foreach (var name in Goldens.Models)
            {
                foreach (var ranks in (int[])[1, 2, 3, 4])
                {
                    runs.Add(name, ranks, ShardStrategy.None, false, false);
                    runs.Add(name, ranks, ShardStrategy.Zero1, false, false);
                    runs.Add(name, ranks, ShardStrategy.Zero2, true, false);
                    runs.Add(name, ranks, ShardStrategy.Fsdp, false, false);
                    runs.Add(name, ranks, ShardStrategy.Fsdp, true, false);
                    runs.Add(name, ranks, ShardStrategy.Fsdp, true, true);
                }

                runs.Add(name, 4, ShardStrategy.Hybrid, true, false);
                runs.Add(name, 4, ShardStrategy.Hybrid, false, true);
            }

            return runs;
        }
    }

    public static TheoryData<string> Models => [.. Goldens.Models];

    [Theory]
    [MemberData(nameof(Runs))]
    public void Loss_norm_rate_and_final_weights(string name, string kind)
    {
        var (hyper, golden) = Read(name, kind);
        var run = GoldenRun.Of<float>(name, kind, hyper, workers: 2);
        Assert.Equal(hyper.Steps, run.Steps.Count);
        Assert.Empty(Differences(run, golden, "steps"));
        Assert.Empty(run.FarFrom(Goldens.Require(name, $"train.{kind}.final.safetensors"), 2 * FinalError(golden)));
        var (error, update) = Distance(run, name, $"train.{kind}.final.safetensors");
        Assert.True(error <= FinalError(golden) && error <= 0.01 * update, $"rms error {error:E2} of an update of rms {update:E2}");
        var (shrink, bound) = Shrink(run, golden, name, kind);
        Assert.True(shrink <= bound, $"matrices shrank by {shrink:E2} more or less than PyTorch's, bound {bound:E2}");
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void Decay_on_every_parameter(string name, string kind)
    {
        var (hyper, golden) = Read(name, kind);
        var run = GoldenRun.Of<float>(name, kind, hyper, decayAll: true);
        if (golden.TryGetProperty("steps_decay_all", out _))
        {
            Assert.Empty(Differences(run, golden, "steps_decay_all"));
        }

        Assert.Empty(run.FarFrom(Goldens.Require(name, $"train.{kind}.final.decay_all.safetensors"), 2 * FinalError(golden)));
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void A_wrong_constant_does_not_pass(string name, string kind)
    {
        var (hyper, golden) = Read(name, kind);
        var final = Goldens.Require(name, $"train.{kind}.final.safetensors");
        var far = 2 * FinalError(golden);

        Wrong(GoldenRun.Of<float>(name, kind, hyper with { Beta2 = hyper.Beta1 }), "beta2");
        Wrong(GoldenRun.Of<float>(name, kind, hyper, rateShift: 1), "rate: that of the next step");
        Assert.NotEmpty(GoldenRun.Of<float>(name, kind, hyper, decayAll: true).FarFrom(final, far));    // the losses hardly see decay
        var (shrink, bound) = Shrink(GoldenRun.Of<float>(name, kind, hyper with { WeightDecay = 0 }), golden, name, kind);
        Assert.True(shrink > bound, $"no decay of matrices is {shrink:E2} within {bound:E2}");

        void Wrong(GoldenRun run, string what)
        {
            Assert.True(Differences(run, golden, "steps").Count > 0, $"the curve does not see a wrong {what}");
            Assert.True(run.FarFrom(final, far).Any(), $"the weights do not see a wrong {what}");
        }
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void One_process_is_two_sharded_ones(string name)
    {
        var (hyper, _) = Read(name, "packed");
        Compare(name, GoldenRun.Of<float>(name, "packed", hyper, steps: ShardedSteps(name)));
    }

    /// <summary>PyTorch's FSDP2 over two processes, ten steps of two micro-batches: with three or four ranks some never have one.</summary>
    [Theory]
    [MemberData(nameof(Sharded))]
    public void Ranks_are_two_sharded_processes_of_PyTorch(string name, int ranks, ShardStrategy strategy, bool perMicroBatch, bool ordered)
    {
        var (hyper, _) = Read(name, "packed");
        Compare(name, GoldenRun.OfRanks(
            name, hyper, ranks, new ParallelRecipe(strategy, strategy == ShardStrategy.Hybrid ? 2 : 0, ordered, perMicroBatch), ShardedSteps(name)));
    }

    /// <summary>All twenty steps, two ranks, against PyTorch's one process in fp32 and in float64.</summary>
    [Theory]
    [MemberData(nameof(Models))]
    public void Two_ranks_follow_the_whole_curve(string name)
    {
        var (hyper, golden) = Read(name, "packed");
        var run = GoldenRun.OfRanks(name, hyper, 2, new ParallelRecipe(ShardStrategy.Fsdp, ReducePerMicroBatch: true));
        Assert.Equal(hyper.Steps, run.Steps.Count);
        Assert.Empty(Differences(run, golden, "steps"));
        Assert.Empty(run.FarFrom(Goldens.Require(name, "train.packed.final.safetensors"), 2 * FinalError(golden)));
    }

    private static int ShardedSteps(string name)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require(name, "fsdp", "fsdp.json")));
        return json.RootElement.GetProperty("steps").GetArrayLength();
    }

    private static void Compare(string name, GoldenRun run)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require(name, "fsdp", "fsdp.json")));
        var steps = json.RootElement.GetProperty("steps").EnumerateArray().ToList();
        var (_, golden) = Read(name, "packed");
        Assert.Equal(steps.Count, run.Steps.Count);
        var (lossError, normError) = Errors(golden);
        for (var i = 0; i < steps.Count; i++)
        {
            var lossBound = ((Walk + 1) * lossError) + json.RootElement.GetProperty("loss_maxdiff_vs_single_process").GetDouble();
            var normBound = ((Walk + 1) * normError * Value(steps[i], "grad_norm"))
                + json.RootElement.GetProperty("grad_norm_maxdiff_vs_single_process").GetDouble();
            Assert.InRange(run.Steps[i].Loss - Value(steps[i], "loss"), -lossBound, lossBound);
            Assert.InRange(run.Steps[i].Norm - Value(steps[i], "grad_norm"), -normBound, normBound);
        }

        if (File.Exists(Path.Combine(Goldens.Folder, name, "fsdp", "final.safetensors")) || name == "a_tied")
        {
            Assert.Empty(run.FarFrom(Goldens.Require(name, "fsdp", "final.safetensors"), 2 * FinalError(golden)));
        }
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void Bf16_compute_stays_near_with_fp32_masters(string name, string kind)
    {
        var (hyper, golden) = Read(name, kind);
        var run = GoldenRun.Of<BFloat16>(name, kind, hyper);
        var reference = golden.GetProperty("steps_float64").EnumerateArray().Select(s => Value(s, "loss")).ToList();

        // A loss is a mean over tokens of differences of two logits: PyTorch's own bf16 error of one logit bounds it.
        using var info = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require(name, "info.json")));
        var peer = info.RootElement.GetProperty("packed").GetProperty("bf16").GetProperty("full_bf16");
        var logit = peer.GetProperty("logits_maxdiff").GetDouble();
        for (var i = 0; i < reference.Count; i++)
        {
            var loss = run.Steps[i].Loss;
            Assert.True(Math.Abs(loss - reference[i]) <= logit, $"step {i + 1}: {loss} against {reference[i]}, bound {logit:E2}");
        }
    }

    private static (GoldenHyper Hyper, JsonElement Golden) Read(string name, string kind)
    {
        var json = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require(name, "train.json"))).RootElement;
        return (GoldenHyper.Read(json.GetProperty("hyper")), json.GetProperty(kind));
    }

    private static double Value(JsonElement step, string key) => step.GetProperty(key).GetDouble();

    private static double FinalError(JsonElement golden) => golden.GetProperty("f32_vs_f64_final_maxdiff").GetDouble();

    /// <summary>How far PyTorch's float32 strays from its float64: losses absolutely, norms relatively.</summary>
    private static (double Loss, double Norm) Errors(JsonElement golden)
    {
        var pairs = golden.GetProperty("steps").EnumerateArray().Zip(golden.GetProperty("steps_float64").EnumerateArray());
        return (golden.GetProperty("f32_vs_f64_loss_maxdiff").GetDouble(),
            pairs.Max(p => Math.Abs(Value(p.First, "grad_norm") - Value(p.Second, "grad_norm")) / Value(p.Second, "grad_norm")));
    }

    private static List<string> Differences(GoldenRun run, JsonElement golden, string key)
    {
        var (lossError, normError) = Errors(golden);
        var found = new List<string>();
        var peak = golden.GetProperty(key).EnumerateArray().Max(s => Value(s, "lr"));
        Compare(key, Walk + 1);
        if (key == "steps")
        {
            Compare("steps_float64", Walk);
        }

        return found;

        void Compare(string against, double walk)
        {
            var steps = golden.GetProperty(against).EnumerateArray().ToList();
            Assert.Equal(steps.Count, run.Steps.Count);
            for (var i = 0; i < steps.Count; i++)
            {
                Check(i, "loss", run.Steps[i].Loss, Value(steps[i], "loss"), walk * lossError);
                Check(i, "norm", run.Steps[i].Norm, Value(steps[i], "grad_norm"), walk * normError * Value(steps[i], "grad_norm"));
                if (steps[i].TryGetProperty("lr", out var rate))
                {
                    Check(i, "rate", run.Steps[i].Rate, rate.GetDouble(), Math.ScaleB(peak, -50));    // both in double: a few last bits
                }
            }

            void Check(int step, string what, double actual, double expected, double bound)
            {
                if (!(Math.Abs(actual - expected) <= bound))
                {
                    found.Add($"{against} {step + 1}: {what} {actual:R}, expected {expected:R} within {bound:E2}");
                }
            }
        }
    }

    /// <summary>RMS over all weights: ours to PyTorch's, and PyTorch's to where both began.</summary>
    private static (double Error, double Update) Distance(GoldenRun run, string name, string final)
    {
        using var initial = SafetensorsFile.Open(Goldens.Require(name, "model.safetensors"));
        using var expected = SafetensorsFile.Open(Goldens.Require(name, final));
        double error = 0, update = 0, count = 0;
        foreach (var (parameter, actual) in run.Final)
        {
            var (from, to) = (initial.ReadFloats(parameter), expected.ReadFloats(parameter));
            for (var i = 0; i < actual.Length; i++)
            {
                error += Math.Pow((double)actual[i] - to[i], 2);
                update += Math.Pow((double)to[i] - from[i], 2);
            }

            count += actual.Length;
        }

        return (Math.Sqrt(error / count), Math.Sqrt(update / count));
    }

    /// <summary>
    /// Decay moves a matrix by a share of itself, too little for its RMS: |⟨initial, ours − theirs⟩| / ⟨initial, initial⟩ over matrices.
    /// Errors of RMS 2 · e that know nothing of the weights give 2 · e / (rms · √n) of that.
    /// </summary>
    private static (double Shrink, double Bound) Shrink(GoldenRun run, JsonElement golden, string name, string kind)
    {
        using var initial = SafetensorsFile.Open(Goldens.Require(name, "model.safetensors"));
        using var expected = SafetensorsFile.Open(Goldens.Require(name, $"train.{kind}.final.safetensors"));
        double product = 0, square = 0;
        foreach (var (parameter, actual) in run.Final.Where(p => initial[p.Key].Shape.Count > 1))
        {
            var (from, to) = (initial.ReadFloats(parameter), expected.ReadFloats(parameter));
            for (var i = 0; i < actual.Length; i++)
            {
                product += from[i] * ((double)actual[i] - to[i]);
                square += (double)from[i] * from[i];
            }
        }

        return (Math.Abs(product) / square, Walk * 2 * FinalError(golden) / Math.Sqrt(square));
    }
}
