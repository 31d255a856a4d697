using System.Text.Json;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;

namespace Z1Coder.Perf;

/// <summary>
/// The whole model on a device against values made with PyTorch (tests/golden). bf16 bounds: logits at most twice as far as PyTorch's own bf16
/// run (the rule of flash-attention's tests); a gradient at most twice as far as this engine's CPU code in bf16 plus one bf16 rounding, since
/// attention on a device also rounds its probabilities; a loss of the training curve within PyTorch's largest bf16 error of one logit, which
/// bounds a mean of differences of two logits. Two runs must agree in every bit.
/// </summary>
public static class GoldenSelfTest
{
    private const double Rounding = 1.0 / 256;

    /// <summary>Every check of every model below <paramref name="folder"/>.</summary>
    public static IEnumerable<SelfTestResult> Run(ComputeStream stream, string folder)
    {
        ArgumentNullException.ThrowIfNull(stream);
        foreach (var directory in Directory.GetDirectories(folder).Where(d => File.Exists(Path.Combine(d, "model.safetensors"))).Order(StringComparer.Ordinal))
        {
            foreach (var result in OnePass(stream, directory).Concat(Curve(stream, directory)))
            {
                yield return result;
            }
        }
    }

    /// <summary>Logits and gradients of the packed batch.</summary>
    public static IEnumerable<SelfTestResult> OnePass(ComputeStream stream, string directory)
    {
        var name = Path.GetFileName(directory);
        using var file = SafetensorsFile.Open(Path.Combine(directory, "packed.safetensors"));
        var batch = GoldenBatches.Read(file);
        float[] logits;
        Dictionary<string, float[]> gradients, twin;
        using (var run = new GoldenDeviceRun(stream, directory, batch.TokenCount + 3))
        {
            (logits, gradients) = run.ForwardBackward(batch);
        }

        using (var cpu = new CpuStream())
        using (var run = new GoldenDeviceRun(cpu, directory, batch.TokenCount + 3))
        {
            (_, twin) = run.ForwardBackward(batch);
        }

        using var info = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(directory, "info.json")));
        var peer = info.RootElement.GetProperty("packed").GetProperty("bf16").GetProperty("full_bf16");
        var expected = file.ReadFloats("logits");
        yield return SelfTestResult.Within($"{name}: logits, rms", Rms(logits, expected) * Norm(expected), 2 * peer.GetProperty("logits_rms_diff").GetDouble());

        var path = Path.Combine(directory, "packed.grads.safetensors");
        if (!File.Exists(path))
        {
            yield return new SelfTestResult($"{name}: gradients", null, "packed.grads.safetensors is not in this set");
            yield break;
        }

        using var golden = SafetensorsFile.Open(path);
        var (worst, bound, parameter) = (0.0, 1.0, "");
        foreach (var (key, values) in gradients)
        {
            var reference = golden.ReadFloats(key);
            var (error, limit) = (Rms(values, reference), (2 * Rms(twin[key], reference)) + Rounding);
            if (!(error / limit <= worst / bound))
            {
                (worst, bound, parameter) = (error, limit, key);
            }
        }

        yield return SelfTestResult.Within($"{name}: {gradients.Count} gradients, rms relative, worst {parameter}", worst, bound);
    }

    /// <summary>The recorded training steps (twenty), or the first of them, twice.</summary>
    public static IEnumerable<SelfTestResult> Curve(ComputeStream stream, string directory, int mostSteps = int.MaxValue)
    {
        var name = Path.GetFileName(directory);
        var (losses, final) = GoldenDeviceRun.Train(stream, directory, mostSteps);
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(directory, "train.json")));
        using var info = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(directory, "info.json")));
        var reference = json.RootElement.GetProperty("packed").GetProperty("steps_float64").EnumerateArray().Take(losses.Length)
            .Select(s => s.GetProperty("loss").GetDouble()).ToArray();
        var logit = info.RootElement.GetProperty("packed").GetProperty("bf16").GetProperty("full_bf16").GetProperty("logits_maxdiff").GetDouble();
        var far = 0.0;
        for (var i = 0; i < reference.Length; i++)
        {
            var error = Math.Abs(losses[i] - reference[i]);
            far = error <= far ? far : error;         // a NaN stays
        }

        yield return SelfTestResult.Within($"{name}: {reference.Length} training steps, largest difference of a loss", far, logit);
        var (again, second) = GoldenDeviceRun.Train(stream, directory, mostSteps);
        var equal = losses.AsSpan().SequenceEqual(again) && final.All(p => p.Value.AsSpan().SequenceEqual(second[p.Key]));
        yield return new SelfTestResult($"{name}: two runs agree", equal, equal ? "in every bit of losses and weights" : "losses or weights differ");
    }

    /// <summary>‖actual − expected‖ / ‖expected‖; absolute where the expected is zero.</summary>
    private static double Rms(float[] actual, float[] expected)
    {
        double error = 0, norm = 0;
        for (var i = 0; i < expected.Length; i++)
        {
            error += Math.Pow((double)actual[i] - expected[i], 2);
            norm += Math.Pow(expected[i], 2);
        }

        return norm == 0 ? Math.Sqrt(error) : Math.Sqrt(error / norm);
    }

    /// <summary>Root mean square.</summary>
    private static double Norm(float[] values) => Math.Sqrt(values.Sum(v => (double)v * v) / values.Length);
}
