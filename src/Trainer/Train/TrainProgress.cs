using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Train;

/// <summary>What a resumed run needs beside the tensors. The position in the data is the step number and nothing else.</summary>
/// <param name="Step">optimizer steps done, skipped ones included</param>
/// <param name="Applied">steps applied to the weights: AdamW's bias correction counts these</param>
/// <param name="SkipsInARow">bad steps since the last good one</param>
/// <param name="Losses">the spike guard's window</param>
/// <param name="Norms">the spike guard's window</param>
/// <param name="Data">what the stage trains on; null in checkpoints of before it was kept</param>
public sealed record TrainProgress(long Step, long Applied, int SkipsInARow, double[] Losses, double[] Norms, DataFingerprint? Data = null)
{
    /// <summary>Before the first step.</summary>
    public static TrainProgress Start { get; } = new(0, 0, 0, [], []);

    /// <summary>As JSON; numbers keep every bit.</summary>
    public byte[] ToJson()
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            json.WriteNumber("step", Step);
            json.WriteNumber("applied", Applied);
            json.WriteNumber("skips_in_a_row", SkipsInARow);
            Array(json, "losses", Losses);
            Array(json, "norms", Norms);
            if (Data is not null)
            {
                json.WritePropertyName("data");
                Data.Write(json);
            }

            json.WriteEndObject();
        }

        return buffer.ToArray();
    }

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    public static TrainProgress FromJson(Stream stream, string name)
    {
        try
        {
            using var json = JsonDocument.Parse(stream);
            var root = json.RootElement;
            return new TrainProgress(
                root.GetProperty("step").GetInt64(), root.GetProperty("applied").GetInt64(), root.GetProperty("skips_in_a_row").GetInt32(),
                [.. root.GetProperty("losses").EnumerateArray().Select(v => v.GetDouble())],
                [.. root.GetProperty("norms").EnumerateArray().Select(v => v.GetDouble())],
                root.TryGetProperty("data", out var data) ? DataFingerprint.Read(data) : null);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new InvalidInputException($"{name}: not the state of a training run: {e.Message}", e);
        }
    }

    private static void Array(Utf8JsonWriter json, string name, double[] values)
    {
        json.WriteStartArray(name);
        foreach (var value in values)
        {
            json.WriteNumberValue(value);
        }

        json.WriteEndArray();
    }
}
