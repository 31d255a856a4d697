using System.Text.Json;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Perf;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>What a training step asks of a device, counted by hostcuda: these numbers do not depend on the machine, so any change of them is
/// a change of the code. Z1_UPDATE_COUNTERS=1 writes the file anew; the difference then belongs in the commit.</summary>
[Collection("hostcuda")]
public sealed class CudaStepTests
{
    private static string CountersFile => Path.Combine(Goldens.RepositoryRoot, "tests", "Trainer", "Train", "step-counters.json");

    [Fact]
    public void A_step_launches_copies_and_allocates_as_much_as_is_written_down()
    {
        var device = KernelDevices.HostCuda;
        using var stream = new CudaStream(device);
        var config = Config();
        var recipe = TrainLoopTests.Recipe() with { MicroBatchTokens = 64, HeadRows = 16 };
        using var optimizer = new Optimizer<BFloat16>(new Qwen2Parameters(config), recipe.AdamW, recipe.DecayAll, stream);
        using var activations = new Activations<BFloat16>(config, recipe.MicroBatchTokens, recipe.HeadRows, recipe.Recompute, stream, training: true);
        optimizer.Allocate();
        activations.Allocate();
        RandomWeights.Fill(optimizer.Master, 1, 0.05);
        optimizer.PublishMaster(stream);

        // every step has the same shape: samples of one length
        TokenizedSample[] samples = [.. Enumerable.Range(0, 96).Select(
            s => new TokenizedSample($"{s}", [.. Enumerable.Range(0, 30).Select(t => ((s * 31) + (t * 7)) % config.VocabSize)], new TokenSpan(10, 30)))];
        var loop = new TrainLoop<BFloat16>(
            stream, optimizer, activations, samples, new StepPlan(samples.Length, recipe.BatchSamples, 1), 20, recipe, new GuardRecipe(false, 0, 8, 1),
            TrainProgress.Start);
        for (var i = 0; i < 6; i++)
        {
            loop.Step(CancellationToken.None);      // no epoch ends in this test: a new order of samples is allocated then
        }

        var (before, managed) = (HostCuda.Counters, GC.GetAllocatedBytesForCurrentThread());
        var metrics = loop.Step(CancellationToken.None)!.Value;
        managed = GC.GetAllocatedBytesForCurrentThread() - managed;
        var after = HostCuda.Counters;
        Assert.True(double.IsFinite(metrics.Loss) && metrics.GradientNorm > 0);
        var counted = new Dictionary<string, long>
        {
            ["launches"] = after.Launches - before.Launches,
            ["host_to_device_bytes"] = after.HostToDevice - before.HostToDevice,
            ["device_to_host_bytes"] = after.DeviceToHost - before.DeviceToHost,
            ["device_to_device_bytes"] = after.DeviceToDevice - before.DeviceToDevice,
            ["allocations"] = after.Allocations - before.Allocations,
            ["arena_bytes"] = optimizer.Arenas.Append(activations.Arena).Sum(a => a.Bytes),
            ["managed_bytes"] = managed,
        };
        if (Environment.GetEnvironmentVariable("Z1_UPDATE_COUNTERS") == "1")
        {
            File.WriteAllText(CountersFile, "{\n" + string.Join(",\n", counted.Select(c => $"  \"{c.Key}\": {c.Value}")) + "\n}\n");
        }

        using var json = JsonDocument.Parse(File.ReadAllBytes(CountersFile));
        Assert.Equal(json.RootElement.EnumerateObject().Select(p => (p.Name, p.Value.GetInt64())), counted.Select(c => (c.Key, c.Value)));
        Assert.Equal(0, counted["allocations"]);
        Assert.Equal(0, counted["managed_bytes"]);
    }

    [Fact]
    public void Memory_that_does_not_fit_is_refused_before_the_first_step_with_the_keys_that_help()
    {
        using var stream = new CudaStream(KernelDevices.HostCuda);
        var huge = stream.CreateArena("activations");
        huge.Declare<float>(1 << 30, 1 << 10);
        var message = Assert.Throws<InvalidInputException>(() => DeviceMemory.Expect(stream, [huge], "stage1")).Message;
        Assert.Contains("stage1 needs 4096.00 GiB", message);
        Assert.Contains("free", message);
        Assert.Contains("train.micro_batch_tokens", message);
        Assert.Contains("train.recompute", message);
        DeviceMemory.Expect(stream, [], "stage1");
        using var cpu = new CpuStream(1);
        DeviceMemory.Expect(cpu, [huge], "stage1");
    }

    internal static Qwen2Config Config() => new()
    {
        ModelType = "qwen2", HiddenSize = 32, NumHiddenLayers = 2, NumAttentionHeads = 2, NumKeyValueHeads = 1, HeadDim = 16, IntermediateSize = 48,
        VocabSize = 97, MaxPositionEmbeddings = 64, RmsNormEps = 1e-6, RopeTheta = 1e4, TieWordEmbeddings = true, AttentionBias = true,
    };
}
