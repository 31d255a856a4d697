using System.Text.Json;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;

namespace Z1Coder.Perf;

/// <summary>A golden model in bf16 on any device, and the two things asked of it: one forward and backward pass, and its 20 training steps.</summary>
public sealed class GoldenDeviceRun : IDisposable
{
    private readonly ComputeStream _stream;
    private readonly string _directory;
    private readonly Optimizer<BFloat16> _optimizer;
    private readonly Activations<BFloat16> _activations;
    private readonly Qwen2<BFloat16> _model;

    /// <summary>Loads the weights of <paramref name="directory"/> (a folder of the golden set). Gradients start as NaN.</summary>
    public GoldenDeviceRun(ComputeStream stream, string directory, int tokens, AdamWOptions options = default)
    {
        (_stream, _directory) = (stream, directory);
        var config = Qwen2Config.Load(directory);
        _optimizer = new Optimizer<BFloat16>(new Qwen2Parameters(config), options, decayAll: false, stream);
        _activations = new Activations<BFloat16>(config, tokens, headRows: 16, Recompute.None, stream, training: true);
        _optimizer.Allocate();
        _activations.Allocate();
        HfWeights.Load(directory, _optimizer.Master);
        _optimizer.PublishMaster(stream);
        foreach (var tensor in _optimizer.Gradients.Tensors)
        {
            HostPieces.Fill(tensor, (_, piece) => piece.Fill(float.NaN));
        }

        _model = new Qwen2<BFloat16>(_optimizer.Weights);
    }

    /// <summary>Logits [T, V] and every gradient of the mean loss over the packed golden batch.</summary>
    public (float[] Logits, Dictionary<string, float[]> Gradients) ForwardBackward(PackedBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        _model.ForwardBackward(_stream, _activations, batch, _optimizer.Gradients, 1f / batch.LossTokens, accumulate: false);
        var weights = _optimizer.Weights;
        using var arena = _stream.CreateArena("logits");
        var logits = arena.Declare<BFloat16>(batch.TokenCount, _model.Config.VocabSize);
        arena.Allocate();
        Matmul.Forward(_stream, _activations.FinalNorm.Rows(0, batch.TokenCount), weights[weights.Parameters.Head], default, logits);
        var host = new BFloat16[logits.Count];
        TensorCopy.Download<BFloat16>(_stream, logits, host);
        return ([.. host.Select(v => (float)v)], Read(new ShardSet<float>(_optimizer.Gradients, 0)));
    }

    /// <summary>The optimizer steps of train.json, or the first <paramref name="mostSteps"/>, on the packed micro-batches: losses, and the master weights then.</summary>
    public static (double[] Losses, Dictionary<string, float[]> Final) Train(ComputeStream stream, string directory, int mostSteps = int.MaxValue)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(directory, "train.json")));
        using var data = SafetensorsFile.Open(Path.Combine(directory, "train.packed.data.safetensors"));
        var hyper = json.RootElement.GetProperty("hyper");
        var (steps, accumulation) = (hyper.GetProperty("steps").GetInt32(), hyper.GetProperty("grad_accum").GetInt32());
        var betas = hyper.GetProperty("betas");
        var options = new AdamWOptions(
            0, betas[0].GetDouble(), betas[1].GetDouble(), hyper.GetProperty("eps").GetDouble(), hyper.GetProperty("weight_decay").GetDouble());
        var warmup = hyper.GetProperty("schedule").GetString()!.Split(' ').Select(w => int.TryParse(w, out var n) ? n : -1).First(n => n >= 0);
        var schedule = new LearningRateSchedule(ScheduleKind.Cosine, hyper.GetProperty("lr").GetDouble(), 0, warmup, steps);
        var micro = Enumerable.Range(0, steps * accumulation).Select(i => GoldenBatches.Read(data, $"mb{i:D2}.")).ToList();
        using var run = new GoldenDeviceRun(stream, directory, micro.Max(m => m.TokenCount), options);
        var losses = new double[Math.Min(steps, mostSteps)];
        for (var step = 0; step < losses.Length; step++)
        {
            var batches = micro.GetRange(step * accumulation, accumulation);
            var lossTokens = batches.Sum(b => b.LossTokens);
            TensorCopy.Fill(stream, run._activations.LossSum, 0);
            for (var i = 0; i < batches.Count; i++)
            {
                run._model.ForwardBackward(stream, run._activations, batches[i], run._optimizer.Gradients, 1f / lossTokens, accumulate: i > 0);
            }

            losses[step] = run._activations.ReadLossSum(stream);
            var norm = run._optimizer.GradientNorm(stream);
            run._optimizer.Step(stream, step + 1, schedule.At(step), GlobalNorm.ClipScale(norm, hyper.GetProperty("clip").GetDouble()));
        }

        return (losses, Read(run._optimizer.Master));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stream.Synchronize();
        _optimizer.Dispose();
        _activations.Dispose();
    }

    private static Dictionary<string, float[]> Read(ShardSet<float> set)
    {
        var values = new Dictionary<string, float[]>();
        foreach (var (parameter, _, tensor) in set.ByName)
        {
            values[parameter.Name] = new float[tensor.Count];
            tensor.CopyTo(values[parameter.Name]);
        }

        return values;
    }
}
