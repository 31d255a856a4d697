using System.Text;
using System.Text.Json;

namespace Z1Coder.Trainer.Cli;

/// <summary>JSON on standard output, for --json.</summary>
internal static class CliJson
{
    /// <summary>Writes one object, indented or on one line.</summary>
    public static void Write(Action<Utf8JsonWriter> body, bool indented = true)
    {
        using var text = new MemoryStream();
        using (var writer = new Utf8JsonWriter(text, new JsonWriterOptions { Indented = indented }))
        {
            writer.WriteStartObject();
            body(writer);
            writer.WriteEndObject();
        }

        Console.WriteLine(Encoding.UTF8.GetString(text.GetBuffer(), 0, (int)text.Length));
    }
}
