using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Perf;

/// <summary>The rows of one run with where and when they were measured: one JSON file.</summary>
/// <param name="Device">as the stream names it</param>
/// <param name="Machine">processor and cores, in words</param>
/// <param name="MeasuredUtc">when</param>
/// <param name="Libraries">native libraries with versions, one sentence each</param>
/// <param name="Rows">what was measured</param>
public sealed record PerfReport(string Device, string Machine, DateTime MeasuredUtc, IReadOnlyList<string> Libraries, IReadOnlyList<PerfRow> Rows)
{
    /// <summary>Writes the file, whole or not at all.</summary>
    public void Save(string path)
    {
        using (var file = File.Create(path + ".tmp"))
        using (var json = new Utf8JsonWriter(file, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            Write(json);
            json.WriteEndObject();
        }

        File.Move(path + ".tmp", path, overwrite: true);
    }

    /// <summary>Writes the properties of the file's one object.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteString("device", Device);
        json.WriteString("machine", Machine);
        json.WriteString("measured_utc", MeasuredUtc.ToString("yyyy-MM-ddTHH:mm:ssZ"));
        json.WriteStartArray("libraries");
        foreach (var library in Libraries)
        {
            json.WriteStringValue(library);
        }

        json.WriteEndArray();
        json.WriteStartArray("rows");
        foreach (var row in Rows)
        {
            Write(json, row);
        }

        json.WriteEndArray();
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="InvalidInputException">no such file, or not one of these</exception>
    public static PerfReport Load(string path)
    {
        if (Directory.Exists(path))
        {
            throw new InvalidInputException($"{path} is a directory; name one of its files");
        }

        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            var root = json.RootElement;
            return new(
                root.GetProperty("device").GetString()!, root.GetProperty("machine").GetString()!, root.GetProperty("measured_utc").GetDateTime(),
                [.. root.GetProperty("libraries").EnumerateArray().Select(l => l.GetString()!)], [.. root.GetProperty("rows").EnumerateArray().Select(Read)]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new InvalidInputException($"{path}: not a file of 'z1 perf run --out'{(e is JsonException { LineNumber: { } line } ? $" (line {line + 1} is not JSON)" : $": {e.Message}")}", e);
        }
    }

    private static void Write(Utf8JsonWriter json, PerfRow row)
    {
        json.WriteStartObject();
        json.WriteString("suite", row.Suite);
        json.WriteString("name", row.Name);
        json.WriteString("shape", row.Shape);
        json.WriteNumber("p20_us", Math.Round(row.P20, 3));
        json.WriteNumber("p50_us", Math.Round(row.P50, 3));
        json.WriteNumber("p80_us", Math.Round(row.P80, 3));
        json.WriteNumber("bytes", row.Bytes);
        json.WriteNumber("flops", row.Flops);
        json.WriteNumber("roof_bytes_per_second", Math.Round(row.RoofBytesPerSecond));
        json.WriteNumber("roof_flops_per_second", Math.Round(row.RoofFlopsPerSecond));
        json.WriteNumber("managed_bytes", row.ManagedBytes);
        json.WriteEndObject();
    }

    private static PerfRow Read(JsonElement row) => new(
        row.GetProperty("suite").GetString()!, row.GetProperty("name").GetString()!, row.GetProperty("shape").GetString()!,
        row.GetProperty("p20_us").GetDouble(), row.GetProperty("p50_us").GetDouble(), row.GetProperty("p80_us").GetDouble(),
        row.GetProperty("bytes").GetDouble(), row.GetProperty("flops").GetDouble(), row.GetProperty("roof_bytes_per_second").GetDouble(),
        row.GetProperty("roof_flops_per_second").GetDouble(), row.GetProperty("managed_bytes").GetInt64());
}
