using System.Text.Json;
using System.Text.RegularExpressions;
using Z1Coder.Kernels;
using Z1Coder.Perf;
using Z1Coder.Runtime;
using Z1Coder.Tests.Runtime;
using Z1Coder.Tests.Trainer.Model;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Tests.Trainer.Train;

/// <summary>The hyper-parameters of a golden train.json.</summary>
internal sealed record GoldenHyper(
    int Steps, int GradAccum, double LearningRate, double Beta1, double Beta2, double Epsilon, double WeightDecay, double Clip, int Warmup)
{
    public static GoldenHyper Read(JsonElement hyper) => new(
        hyper.GetProperty("steps").GetInt32(), hyper.GetProperty("grad_accum").GetInt32(), hyper.GetProperty("lr").GetDouble(),
        hyper.GetProperty("betas")[0].GetDouble(), hyper.GetProperty("betas")[1].GetDouble(), hyper.GetProperty("eps").GetDouble(),
        hyper.GetProperty("weight_decay").GetDouble(), hyper.GetProperty("clip").GetDouble(),
        int.Parse(Regex.Match(hyper.GetProperty("schedule").GetString()!, @"^cosine with (\d+) warm-up").Groups[1].Value));
}

/// <summary>The optimizer steps of a golden train.json, run straight on the model and the optimizer.</summary>
internal sealed class GoldenRun
{
    /// <summary>Loss (mean over the step's loss tokens), gradient norm before clipping, rate.</summary>
    public List<(double Loss, double Norm, double Rate)> Steps { get; } = [];

    /// <summary>Final weights by name.</summary>
    public Dictionary<string, float[]> Final { get; } = [];

    /// <param name="name">model</param>
    /// <param name="kind">packed or padded</param>
    /// <param name="hyper">constants</param>
    /// <param name="decayAll">decay on every parameter</param>
    /// <param name="steps">stop after so many; the schedule stays that of the whole run</param>
    /// <param name="rateShift">0; 1 takes the rate of the step after</param>
    /// <param name="workers">of the stream; the bits are the same for any number</param>
    public static GoldenRun Of<T>(
        string name, string kind, GoldenHyper hyper, bool decayAll = false, int steps = int.MaxValue, int rateShift = 0, int workers = 1)
        where T : unmanaged
    {
        using var stream = new CpuStream(workers);
        using var data = SafetensorsFile.Open(Goldens.Require(name, $"train.{kind}.data.safetensors"));
        var micro = Enumerable.Range(0, hyper.Steps * hyper.GradAccum).Select(i => GoldenBatches.Read(data, $"mb{i:D2}.")).ToList();
        var options = new AdamWOptions(0, hyper.Beta1, hyper.Beta2, hyper.Epsilon, hyper.WeightDecay);
        using var model = new GoldenModel<T>(name, micro.Max(m => m.TokenCount), options: options, decayAll: decayAll);
        var schedule = new LearningRateSchedule(ScheduleKind.Cosine, hyper.LearningRate, 0, hyper.Warmup, hyper.Steps);
        var run = new GoldenRun();
        for (var step = 0; step < Math.Min(steps, hyper.Steps); step++)
        {
            var batches = micro.GetRange(step * hyper.GradAccum, hyper.GradAccum);
            var lossTokens = batches.Sum(b => b.LossTokens);
            Zero.Fill(stream, model.Activations.LossSum);
            for (var i = 0; i < batches.Count; i++)
            {
                model.Model.ForwardBackward(
                    stream, model.Activations, batches[i], model.Optimizer.Gradients, 1f / lossTokens, accumulate: i > 0);
            }

            var norm = model.Optimizer.GradientNorm(stream);
            var rate = schedule.At(step + rateShift);
            model.Optimizer.Step(stream, step + 1, rate, GlobalNorm.ClipScale(norm, hyper.Clip));
            run.Steps.Add((model.Activations.ReadLossSum(stream), norm, rate));
        }

        foreach (var (parameter, _, tensor) in model.Optimizer.Master.ByName)
        {
            run.Final[parameter.Name] = tensor.Span.ToArray();
        }

        return run;
    }

    /// <summary>As <see cref="Of"/> in fp32, micro-batch i of a step on rank (i mod ranks): what rank 0 saw, and the weights of all shards.</summary>
    public static GoldenRun OfRanks(string name, GoldenHyper hyper, int ranks, ParallelRecipe parallel, int steps = int.MaxValue)
    {
        using var data = SafetensorsFile.Open(Goldens.Require(name, "train.packed.data.safetensors"));
        var micro = Enumerable.Range(0, hyper.Steps * hyper.GradAccum).Select(i => GoldenBatches.Read(data, $"mb{i:D2}.")).ToList();
        var run = new GoldenRun();
        Ranks.Run(Ranks.Threads, ranks, world =>
        {
            using var stream = new CpuStream(1);
            using var parallelism = new Parallelism(world, parallel);
            var config = Qwen2Config.Load(Goldens.Model(name));
            var options = new AdamWOptions(0, hyper.Beta1, hyper.Beta2, hyper.Epsilon, hyper.WeightDecay);
            using var optimizer = new Optimizer<float>(new Qwen2Parameters(config), options, decayAll: false, parallelism, stream);
            using var activations = new Activations<float>(config, micro.Max(m => m.TokenCount), headRows: 16, Recompute.None, stream, training: true);
            optimizer.Allocate();
            activations.Allocate();
            HfWeights.Load(Goldens.Model(name), optimizer.Master);
            optimizer.PublishMaster(stream);
            var model = new Qwen2<float>(optimizer.Weights, optimizer.Traffic);
            var schedule = new LearningRateSchedule(ScheduleKind.Cosine, hyper.LearningRate, 0, hyper.Warmup, hyper.Steps);
            var loss = new double[1];
            for (var step = 0; step < Math.Min(steps, hyper.Steps); step++)
            {
                var batches = micro.GetRange(step * hyper.GradAccum, hyper.GradAccum);
                var lossTokens = batches.Sum(b => b.LossTokens);
                Zero.Fill(stream, activations.LossSum);
                for (var first = 0; first < batches.Count; first += ranks)
                {
                    var accumulate = optimizer.BeginRound(first / ranks, Math.Min(ranks, batches.Count - first));
                    if (first + world.Rank < batches.Count)
                    {
                        model.ForwardBackward(
                            stream, activations, batches[first + world.Rank], optimizer.Gradients, 1f / lossTokens, accumulate);
                    }
                    else
                    {
                        model.PassIdle(stream);
                    }
                }

                optimizer.Reduce(stream);
                loss[0] = activations.ReadLossSum(stream);
                world.AllReduce(loss, Reduction.Sum);
                var (norm, rate) = (optimizer.GradientNorm(stream), schedule.At(step));
                optimizer.Step(stream, step + 1, rate, GlobalNorm.ClipScale(norm, hyper.Clip));
                if (world.Rank == 0)
                {
                    run.Steps.Add((loss[0], norm, rate));
                }
            }

            foreach (var (parameter, start, tensor) in optimizer.Master.ByName)
            {
                lock (run.Final)
                {
                    run.Final.TryAdd(parameter.Name, new float[parameter.Shape.Count]);
                    tensor.Span.CopyTo(run.Final[parameter.Name].AsSpan((int)start));
                }
            }
        });
        return run;
    }

    /// <summary>Whatever is farther from <paramref name="file"/> than <paramref name="bound"/>, tensor by tensor in RMS.</summary>
    public IEnumerable<string> FarFrom(string file, double bound)
    {
        using var expected = SafetensorsFile.Open(file);
        foreach (var (name, actual) in Final)
        {
            var square = expected.ReadFloats(name).Zip(actual, (e, a) => Math.Pow((double)e - a, 2)).Average();
            if (!(Math.Sqrt(square) <= bound))
            {
                yield return $"{name}: rms {Math.Sqrt(square):E2}, bound {bound:E2}";
            }
        }
    }
}
