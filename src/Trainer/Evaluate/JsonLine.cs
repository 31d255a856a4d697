using System.Text.Encodings.Web;
using System.Text.Json;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>One JSON object on one line.</summary>
internal static class JsonLine
{
    private static readonly JsonWriterOptions s_plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    internal static string Of(Action<Utf8JsonWriter> fields)
    {
        var buffer = new System.Buffers.ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, s_plain))
        {
            json.WriteStartObject();
            fields(json);
            json.WriteEndObject();
        }

        return System.Text.Encoding.UTF8.GetString(buffer.WrittenSpan);
    }
}
