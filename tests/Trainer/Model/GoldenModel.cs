using System.Text.Json;
using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Optimize;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Model;

/// <summary>A golden model loaded for a test, with everything a step needs. Activations and gradients start as NaN.</summary>
/// <typeparam name="T">compute storage</typeparam>
internal sealed class GoldenModel<T> : IDisposable
    where T : unmanaged
{
    public GoldenModel(string name, int tokens, Recompute recompute = Recompute.None, int headRows = 16, AdamWOptions options = default, bool decayAll = false)
    {
        Directory = Goldens.Model(name);
        Config = Qwen2Config.Load(Directory);
        Optimizer = new Optimizer<T>(new Qwen2Parameters(Config), options, decayAll);
        Activations = new Activations<T>(Config, tokens, headRows, recompute, Stream, training: true);
        Optimizer.Allocate();
        Activations.Allocate();
        foreach (var tensor in Optimizer.Gradients.Tensors)
        {
            tensor.Span.Fill(float.NaN);
        }

        Load(Path.Combine(Directory, "model.safetensors"));
        Model = new Qwen2<T>(Optimizer.Weights);
    }

    public string Directory { get; }

    public Qwen2Config Config { get; }

    public CpuStream Stream { get; } = new(2);

    public Optimizer<T> Optimizer { get; }

    public Activations<T> Activations { get; }

    public Qwen2<T> Model { get; }

    public JsonElement Info => Json("info.json");

    public JsonElement Json(string file) => JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Directory, file))).RootElement;

    public void Load(string safetensors)
    {
        using var file = SafetensorsFile.Open(safetensors);
        foreach (var (parameter, _, tensor) in Optimizer.Master.ByName)
        {
            file.Read(parameter.Name, tensor.Span);
        }

        Optimizer.PublishMaster(Stream);
    }

    /// <summary>[T, V] logits of the batch that <see cref="Qwen2{T}.Forward"/> ran last.</summary>
    public float[] Logits(int tokens)
    {
        using var arena = new Arena("logits");
        var logits = arena.Declare<T>(tokens, Config.VocabSize);
        arena.Allocate();
        Matmul.Forward(Stream, Activations.FinalNorm.Rows(0, tokens), Optimizer.Weights[Optimizer.Weights.Parameters.Head], default, logits);
        return Floats(logits);
    }

    public static float[] Floats(Tensor<T> tensor)
    {
        var values = new float[tensor.Count];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = Lanes.Get(ref tensor.Origin, (nuint)i);
        }

        return values;
    }

    public void Dispose()
    {
        Optimizer.Dispose();
        Activations.Dispose();
        Stream.Dispose();
    }
}
