using System.Text.Json;

namespace Z1Coder.Trainer.Cli;

/// <summary>JSON on standard output, for --json.</summary>
internal static class CliJson
{
    /// <summary>Writes one indented object.</summary>
    public static void Write(Action<Utf8JsonWriter> body)
    {
        using (var writer = new Utf8JsonWriter(Console.OpenStandardOutput(), new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            body(writer);
            writer.WriteEndObject();
        }

        Console.WriteLine();
    }
}
