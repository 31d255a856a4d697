using Xunit;
using Z1Coder.Perf;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Model;

/// <summary>
/// Forward and backward against PyTorch. The bound comes from the float64 files: PyTorch's own float32 run errs by e against float64; another
/// order of summation errs by as much again in another direction. Both are rounding walks of the same length, whose largest element over some
/// ten thousand varies by a small factor: 4 · e is allowed to us, and where only the float32 file is at hand e more (ours to f64 to f32).
/// </summary>
public sealed class Qwen2GoldenTests
{
    private const double Walk = 4;

    public static TheoryData<string> Models => [.. Goldens.Models];

    [Theory]
    [MemberData(nameof(Models))]
    public void Both_config_layouts_say_the_same(string name)
    {
        var v5 = Qwen2Config.Load(Goldens.Model(name));
        var folder = Directory.CreateTempSubdirectory("z1");
        File.Copy(Goldens.Require(name, "config.v4.json"), Path.Combine(folder.FullName, "config.json"));
        Assert.Equal(v5.Fingerprint, Qwen2Config.Load(folder.FullName).Fingerprint);
        folder.Delete(recursive: true);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Packed_forward_and_every_gradient(string name)
    {
        using var file = SafetensorsFile.Open(Goldens.Require(name, "packed.safetensors"));
        using var model = new GoldenModel<float>(name, 80);
        var batch = GoldenBatches.Read(file);
        var info = model.Info.GetProperty("packed");
        Assert.Equal(file.ReadInts("cu_seqlens"), batch.CuSeqlens.ToArray());
        Assert.Equal(info.GetProperty("num_items").GetInt32(), batch.LossTokens);

        model.Model.ForwardBackward(model.Stream, model.Activations, batch, model.Optimizer.Gradients, 1f / batch.LossTokens, accumulate: false);

        var logitsError = info.GetProperty("f32_vs_f64_logits_maxdiff").GetDouble();
        var f64 = Float64(name);
        var logits = model.Logits(batch.TokenCount);
        Close(logits, Reference(file, f64, "logits"), Bound(file, f64, "logits", logitsError), "logits");
        var relative = logitsError / file.ReadFloats("logits").Max(Math.Abs);
        for (var layer = 0; layer <= model.Config.NumHiddenLayers; layer++)
        {
            var hidden = layer < model.Config.NumHiddenLayers ? model.Activations.Layers[layer].Input : model.Activations.Output;
            var key = $"hidden.{layer}";
            var guess = relative * file.ReadFloats(key).Max(Math.Abs);
            Close(GoldenModel<float>.Floats(hidden.Rows(0, batch.TokenCount)), Reference(file, f64, key), Bound(file, f64, key, guess), key);
        }

        var finalGuess = relative * file.ReadFloats("hidden.final_norm").Max(Math.Abs);
        Close(
            GoldenModel<float>.Floats(model.Activations.FinalNorm.Rows(0, batch.TokenCount)), Reference(file, f64, "hidden.final_norm"),
            Bound(file, f64, "hidden.final_norm", finalGuess), "hidden.final_norm");
        var loss = model.Activations.ReadLossSum(model.Stream);
        Assert.InRange(Math.Abs(loss - info.GetProperty("loss_f64").GetDouble()), 0, Walk * Math.ScaleB(1, -24) * 8);

        var gradientError = info.GetProperty("f32_vs_f64_grad_maxdiff").GetDouble();
        using var gradients = SafetensorsFile.Open(Goldens.Require(name, "packed.grads.safetensors"));
        foreach (var (parameter, tensor) in model.Optimizer.Gradients.ByName)
        {
            var (reference, bound) = f64 is null
                ? (gradients.ReadFloats(parameter.Name).Select(v => (double)v).ToArray(), (Walk + 1) * gradientError)
                : (f64.ReadDoubles($"grad.{parameter.Name}"), Walk * gradientError);
            Close(tensor.Span, reference, bound, parameter.Name);
            var floor = typeof(float) == typeof(float) ? 1e-5 : 0;
            Assert.True(Rms(tensor.Span, reference) <= floor, $"{parameter.Name}: rms {Rms(tensor.Span, reference):E2}");
        }

        f64?.Dispose();
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Token_losses_of_packed_and_padded(string name)
    {
        foreach (var kind in new[] { "packed", "padded" })
        {
            using var file = SafetensorsFile.Open(Goldens.Require(name, $"{kind}.safetensors"));
            using var model = new GoldenModel<float>(name, 140);
            var batch = GoldenBatches.Read(file);
            var expected = kind == "packed" ? file.ReadFloats("token_loss") : Unpadded(file, "token_loss", 1);
            var sum = model.Model.Loss(model.Stream, model.Activations, batch);
            var bound = (Walk + 1) * model.Info.GetProperty("packed").GetProperty("f32_vs_f64_logits_maxdiff").GetDouble() * 2;   // a loss is the difference of two
            Close(model.Activations.TokenLosses.Span[..batch.TokenCount], [.. expected.Select(v => (double)v)], bound, $"{kind} token_loss");
            Assert.InRange(Math.Abs((sum / batch.LossTokens) - model.Info.GetProperty(kind).GetProperty("loss").GetDouble()), 0, 1e-5);
        }
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Padded_forward_and_every_gradient(string name)
    {
        using var file = SafetensorsFile.Open(Goldens.Require(name, "padded.safetensors"));
        using var gradients = SafetensorsFile.Open(Goldens.Require(name, "padded.grads.safetensors"));
        using var model = new GoldenModel<float>(name, 140);
        var batch = GoldenBatches.Read(file);
        model.Model.ForwardBackward(model.Stream, model.Activations, batch, model.Optimizer.Gradients, 1f / batch.LossTokens, accumulate: false);
        var info = model.Info.GetProperty("packed");
        var logits = Unpadded(file, "logits", model.Config.VocabSize).Select(v => (double)v).ToArray();
        Close(model.Logits(batch.TokenCount), logits, (Walk + 1) * info.GetProperty("f32_vs_f64_logits_maxdiff").GetDouble(), "logits");
        foreach (var (parameter, tensor) in model.Optimizer.Gradients.ByName)
        {
            var reference = gradients.ReadFloats(parameter.Name).Select(v => (double)v).ToArray();
            Close(tensor.Span, reference, (Walk + 1) * info.GetProperty("f32_vs_f64_grad_maxdiff").GetDouble(), parameter.Name);
        }
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void Bf16_is_as_near_as_PyTorch_in_bf16(string name)
    {
        using var file = SafetensorsFile.Open(Goldens.Require(name, "packed.safetensors"));
        using var model = new GoldenModel<BFloat16>(name, 80);
        var batch = GoldenBatches.Read(file);
        model.Model.Forward(model.Stream, model.Activations, batch);
        var expected = file.ReadFloats("logits");
        var actual = model.Logits(batch.TokenCount);
        var square = actual.Zip(expected, (a, e) => Math.Pow(a - e, 2)).Sum();
        var peer = model.Info.GetProperty("packed").GetProperty("bf16").GetProperty("full_bf16").GetProperty("logits_rms_diff").GetDouble();
        var rms = Math.Sqrt(square / expected.Length);
        Assert.True(rms <= 2 * peer, $"rms {rms:E2} against PyTorch's {peer:E2}");   // flash-attention's rule: at most twice the naive bf16 error
    }

    [Theory]
    [InlineData(Recompute.Norm)]
    [InlineData(Recompute.SwiGlu)]
    [InlineData(Recompute.Norm | Recompute.SwiGlu)]
    [InlineData(Recompute.Block)]
    [InlineData(Recompute.Block | Recompute.Norm)]
    public void Recompute_changes_memory_and_no_bit(Recompute recompute)
    {
        using var file = SafetensorsFile.Open(Goldens.Require(Goldens.Models.First(), "packed.safetensors"));
        var batch = GoldenBatches.Read(file);
        Same<float>(batch, recompute);
        Same<BFloat16>(batch, recompute);
    }

    [Fact]
    public void Micro_batches_add_up()
    {
        var name = Goldens.Models.First();
        using var file = SafetensorsFile.Open(Goldens.Require(name, "packed.safetensors"));
        var batch = GoldenBatches.Read(file);
        using var once = new GoldenModel<float>(name, 80);
        using var twice = new GoldenModel<float>(name, 80);
        once.Model.ForwardBackward(once.Stream, once.Activations, batch, once.Optimizer.Gradients, 1, accumulate: false);
        twice.Model.ForwardBackward(twice.Stream, twice.Activations, batch, twice.Optimizer.Gradients, 0.5f, accumulate: false);
        twice.Model.ForwardBackward(twice.Stream, twice.Activations, batch, twice.Optimizer.Gradients, 0.5f, accumulate: true);
        for (var i = 0; i < once.Optimizer.Gradients.Tensors.Length; i++)
        {
            var expected = once.Optimizer.Gradients.Tensors[i].Span.ToArray().Select(v => (double)v).ToArray();
            Assert.True(Rms(twice.Optimizer.Gradients.Tensors[i].Span, expected) <= 1e-6);   // halves are exact; only the order of the sum differs
        }
    }

    private static void Same<T>(PackedBatch batch, Recompute recompute)
        where T : unmanaged
    {
        var name = Goldens.Models.First();
        using var kept = new GoldenModel<T>(name, 80);
        using var computed = new GoldenModel<T>(name, 80, recompute);
        Assert.True(computed.Activations.Arena.Bytes < kept.Activations.Arena.Bytes);
        kept.Model.ForwardBackward(kept.Stream, kept.Activations, batch, kept.Optimizer.Gradients, 0.01f, accumulate: false);
        computed.Model.ForwardBackward(computed.Stream, computed.Activations, batch, computed.Optimizer.Gradients, 0.01f, accumulate: false);
        var (a, b) = (kept.Activations.ReadLossSum(kept.Stream), computed.Activations.ReadLossSum(computed.Stream));
        Assert.NotEqual(0, a);
        Assert.Equal(BitConverter.DoubleToInt64Bits(a), BitConverter.DoubleToInt64Bits(b));
        for (var i = 0; i < kept.Optimizer.Gradients.Tensors.Length; i++)
        {
            Assert.True(kept.Optimizer.Gradients.Tensors[i].Span.SequenceEqual(computed.Optimizer.Gradients.Tensors[i].Span));
        }
    }

    private static SafetensorsFile? Float64(string name)
    {
        var path = Path.Combine(Goldens.Model(name), "packed.f64.safetensors");
        return File.Exists(path) ? SafetensorsFile.Open(path) : null;
    }

    private static double[] Reference(SafetensorsFile f32, SafetensorsFile? f64, string key) =>
        f64 is null ? [.. f32.ReadFloats(key).Select(v => (double)v)] : f64.ReadDoubles(key);

    private static double Bound(SafetensorsFile f32, SafetensorsFile? f64, string key, double guess)
    {
        if (f64 is null)
        {
            return (Walk + 1) * guess;
        }

        var error = f32.ReadFloats(key).Zip(f64.ReadDoubles(key), (a, b) => Math.Abs(a - b)).Max();
        return (Walk * error) + Math.ScaleB(f64.ReadDoubles(key).Max(Math.Abs), -24);
    }

    /// <summary>The rows under the attention mask of a [B, S, …] tensor.</summary>
    private static float[] Unpadded(SafetensorsFile file, string key, int width)
    {
        var (mask, values) = (file.ReadInts("attention_mask"), file.ReadFloats(key));
        return [.. mask.SelectMany((m, t) => m == 1 ? values[(t * width)..((t + 1) * width)] : [])];
    }

    private static void Close(ReadOnlySpan<float> actual, double[] expected, double bound, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (var i = 0; i < expected.Length; i++)
        {
            if (!(Math.Abs(actual[i] - expected[i]) <= bound))
            {
                Assert.Fail($"{what}[{i}] is {actual[i]:R}, expected {expected[i]:R} within {bound:E2}");
            }
        }
    }

    private static double Rms(ReadOnlySpan<float> actual, double[] expected)
    {
        double error = 0, norm = 0;
        for (var i = 0; i < expected.Length; i++)
        {
            error += Math.Pow(actual[i] - expected[i], 2);
            norm += expected[i] * expected[i];
        }

        return norm == 0 ? Math.Sqrt(error) : Math.Sqrt(error / norm);
    }
}
