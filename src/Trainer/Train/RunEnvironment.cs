using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Text.Json;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>Where and with what a run was made, beside its results.</summary>
internal static class RunEnvironment
{
    public static void Write(string path, TrainRecipe recipe, string tokenizerDirectory, ComputeStream stream, RankWorld ranks, double gemmFlopsPerSecond)
    {
        using var file = File.Create(path);
        using var json = new Utf8JsonWriter(file, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteString("started_utc", DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ssZ"));
        json.WriteString("engine", typeof(RunEnvironment).Assembly.GetName().Version?.ToString());
        json.WriteString("runtime", RuntimeInformation.FrameworkDescription);
        json.WriteString("system", RuntimeInformation.OSDescription);
        json.WriteString("device", stream.DeviceName);
        json.WriteNumber("ranks", ranks.Size);
        json.WriteNumber("ranks_of_first_node", ranks.Environment.LocalSize);
        json.WriteString("launcher", ranks.Environment.Launcher);
        json.WriteString("collectives", ranks.Collective.Backend);
        json.WriteString("processor", Processor());
        json.WriteNumber("cores", Environment.ProcessorCount);
        json.WriteNumber("vector_bits", Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : 128);
        json.WriteNumber("memory_bytes", GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        json.WriteStartArray("libraries");
        foreach (var line in NativeLibraries.Describe().Split('\n'))
        {
            json.WriteStringValue(line);
        }

        json.WriteEndArray();
        json.WriteNumber($"gemm_{recipe.DType}_flops_per_second", Math.Round(gemmFlopsPerSecond));
        json.WriteString("tokenizer", Path.GetFileName(Path.TrimEndingDirectorySeparator(tokenizerDirectory)));
        if (recipe.Stages.Any(s => s.Data.Format == PromptFormat.Chat))
        {
            json.WriteString("chat_template_sha256", ChatTemplate.Load(tokenizerDirectory).Sha256);
        }

        json.WriteEndObject();
    }

    /// <summary>Processor and cores, in words.</summary>
    public static string Machine => $"{Environment.ProcessorCount} cores, {Processor()}";

    private static string Processor()
    {
        const string Path = "/proc/cpuinfo", Key = "model name";
        var line = File.Exists(Path) ? File.ReadLines(Path).FirstOrDefault(l => l.StartsWith(Key, StringComparison.Ordinal)) : null;
        return line?[(line.IndexOf(':') + 1)..].Trim() ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
