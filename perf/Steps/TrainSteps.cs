using System.Diagnostics;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Perf;

/// <summary>Whole training steps by the product's own loop: pack, forward, head and loss, backward, norm, clip, AdamW.</summary>
public static class TrainSteps
{
    /// <summary>Runs a case with weights and activations of its type.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="which">size, length, type</param>
    /// <param name="steps">timed steps; 0 chooses by size</param>
    /// <param name="headRows">rows of an LM-head chunk</param>
    public static StepResult Run(ComputeStream stream, StepCase which, int steps, int headRows) =>
        which.Type == "fp32" ? Run<float>(stream, which, steps, headRows) : Run<BFloat16>(stream, which, steps, headRows);

    private static StepResult Run<T>(ComputeStream stream, StepCase which, int steps, int headRows)
        where T : unmanaged
    {
        var config = StepCase.ConfigOf(which.Size);
        var (warm, timed) = which.Size switch { "nano" => (20, 30), "mini" => (4, 8), "05b" => (1, 3), _ => (3, 10) };
        timed = steps > 0 ? steps : timed;
        var samples = which.Samples();
        var recipe = new OptimizeRecipe(
            1, 0, samples.Length, which.Length, 0, false, LastStep.Keep, 1e-5, ScheduleKind.Constant, 0, 0, 0.01, true, 0.9, 0.999, 1e-8, 1, which.Size == "7b" ? Recompute.Norm | Recompute.SwiGlu : Recompute.None, headRows);

        var roof = Roofs.Measure(stream, quick: true).GemmFlopsPerSecond<T>();
        using var optimizer = new Optimizer<T>(new Qwen2Parameters(config), recipe.AdamW, recipe.DecayAll, stream);
        using var activations = new Activations<T>(config, which.Length, headRows, recipe.Recompute, stream, training: true);
        optimizer.Allocate();
        activations.Allocate();
        StepWeights.Fill(optimizer.Master);
        optimizer.PublishMaster(stream);
        var loop = new TrainLoop<T>(
            stream, optimizer, activations, samples, new StepPlan(samples.Length, samples.Length, 0), 1000, recipe, new GuardRecipe(false, 0, 64, 10),
            TrainProgress.Start);

        var loss = 0.0;
        for (var i = 0; i < warm; i++)
        {
            loss = loop.Step(default)!.Value.Loss;
        }

        Thread.Sleep(120);                              // the tier-1 compiler works in the background
        var seconds = new double[timed];
        var flops = 0.0;
        var allocated = new long[timed];
        for (var i = 0; i < timed; i++)
        {
            allocated[i] = -GC.GetTotalAllocatedBytes(precise: true);
            var metrics = loop.Step(default)!.Value;
            allocated[i] += GC.GetTotalAllocatedBytes(precise: true);
            (seconds[i], flops) = (metrics.Seconds, metrics.Flops);
        }

        var parts = Parts(stream, optimizer, activations, samples, warm == 1 ? 1 : timed / 2);
        var peak = stream is CudaStream ? optimizer.Arenas.Append(activations.Arena).Sum(a => a.Bytes) : ProcStatus.PeakResidentBytes();
        roof = Math.Max(roof, Roofs.Measure(stream, quick: true).GemmFlopsPerSecond<T>());
        Array.Sort(seconds);
        Array.Sort(allocated);
        return new StepResult(
            which, which.Length / seconds[timed / 2], which.Length / seconds[0], parts, peak, flops / seconds[timed / 2] / 1e9, roof / 1e9,
            allocated[(timed - 1) / 2], [seconds[timed / 5], seconds[timed / 2], seconds[Math.Min(timed - 1, timed * 4 / 5)]], timed, loss);
    }

    /// <summary>Median milliseconds of forward, head, backward and optimizer: the same calls as the loop's, with a clock in between.</summary>
    private static double[] Parts<T>(
        ComputeStream stream, Optimizer<T> optimizer, Activations<T> activations, Z1Coder.Trainer.Tokens.TokenizedSample[] samples, int repeats)
        where T : unmanaged
    {
        var batch = new PackedBatch(activations.Tokens, samples.Length);
        for (var i = 0; i < samples.Length; i++)
        {
            batch.Add(i, samples[i]);
        }

        var model = new Qwen2<T>(optimizer.Weights);
        var times = new double[4][];
        for (var part = 0; part < times.Length; part++)
        {
            times[part] = new double[repeats];
        }

        for (var i = 0; i < repeats; i++)
        {
            var t0 = Stopwatch.GetTimestamp();
            model.Forward(stream, activations, batch);
            stream.Synchronize();
            var t1 = Stopwatch.GetTimestamp();
            model.HeadForwardBackward(stream, activations, batch, optimizer.Gradients, 1f / batch.LossTokens, accumulate: false);
            stream.Synchronize();
            var t2 = Stopwatch.GetTimestamp();
            model.DecoderBackward(stream, activations, batch, optimizer.Gradients, accumulate: false);
            stream.Synchronize();
            var t3 = Stopwatch.GetTimestamp();
            optimizer.Step(stream, 1000 + i, 1e-5, GlobalNorm.ClipScale(optimizer.GradientNorm(stream), 1));
            stream.Synchronize();
            long[] marks = [t0, t1, t2, t3, Stopwatch.GetTimestamp()];
            for (var part = 0; part < times.Length; part++)
            {
                times[part][i] = Stopwatch.GetElapsedTime(marks[part], marks[part + 1]).TotalMilliseconds;
            }
        }

        return [.. times.Select(Median)];
    }

    private static double Median(double[] values)
    {
        Array.Sort(values);
        return values[values.Length / 2];
    }
}
